"""Where things run: recipes, data, training, stages, the command line."""
