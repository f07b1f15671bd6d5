"""Optuna samplers, chosen by name."""
