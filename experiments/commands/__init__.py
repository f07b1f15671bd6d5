"""The commands of the command line; `experiments.cli` lists them."""
