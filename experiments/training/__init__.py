"""The parts of the training loop in `experiments.train`: batches, steps, measuring, saving."""
