"""Scaling studies: how accuracy grows with each dimension of a network."""
