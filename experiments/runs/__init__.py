"""The folders of runs, scaling studies and transfers."""
