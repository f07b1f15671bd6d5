"""What holds on a GPU, shown within minutes by one command.

`python -m experiments.benchmarks.gpu --out DIR --seconds 540` runs ten stages one after the other,
each a process with its own limit, prints a line for each and rewrites `DIR/gpu.json` after each.
The exit status is 1 where one of the first five, which are about correctness, did not pass. Stages
for which no time is left are not run. `--device cpu --seconds 60` is a dry run: the first five, in
small, on a CPU.

It needs torch, numpy, numba and pyarrow, and what `python -m experiments.benchmarks.gpu.wheels DIR`
downloads for a machine without a network.
"""
