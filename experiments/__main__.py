"""`python -m experiments` is `phiscale`."""

from experiments.cli import main

main()
