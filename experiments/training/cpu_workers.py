"""How to divide a CPU among trainings: many of one thread, or few of many, by measurement.

Two threads of one training wait for each other after every operation; two trainings of one thread
share caches and memory. Which costs less depends on the network and the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import torch

from experiments.config import TrainConfig
from experiments.training import machine
from experiments.training.learner import Learner
from space.architecture import Architecture
from space.network import build

#: Seconds for which each division trains (assumed: a hundred steps of a small network).
_SECONDS = 2.0
_WARM_UP_STEPS = 3


class WorkerLayout(NamedTuple):
    """So many `workers` at a time, each of so many `threads`; `speed` in images per second of all
    together."""

    workers: int
    threads: int
    speed: float


def measure_layouts(architecture: Architecture, batch_size: int, cores: int) -> list[WorkerLayout]:
    """Ways to divide `cores`, the fastest first, by trainings of `architecture` on noise.

    From one training of all cores to one a core, in steps of a factor of two.
    """
    counts = {cores}
    count = 1
    while count < cores:
        counts.add(count)
        count *= 2
    found = [
        WorkerLayout(workers, cores // workers, _speed(architecture, batch_size, workers, cores))
        for workers in sorted(counts)
    ]
    return sorted(found, key=lambda layout: -layout.speed)


def _speed(architecture: Architecture, batch_size: int, workers: int, cores: int) -> float:
    variables = os.environ | machine.process_variables(cores // workers)
    given = json.dumps({"architecture": architecture.to_dict(), "batch_size": batch_size})
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", __name__],
                    env=variables,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(workers)
        ]
        for process in processes:
            _say(process, given)
        for process in processes:
            _hear(process)  # it is warm
        for process in processes:
            _say(process, "go")
        return sum(float(_hear(process)) for process in processes)


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a process that measures how fast trainings are has died")
    return line


def _train() -> None:
    """One of the trainings that are measured; it is told what and when on standard input."""
    given = json.loads(sys.stdin.readline())
    with machine.prepared(None):
        steps = _steps(Architecture.from_dict(given["architecture"]), given["batch_size"])
        for _ in range(_WARM_UP_STEPS):
            next(steps)
        print("ready", flush=True)
        sys.stdin.readline()
        start, images = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < _SECONDS:
            images += next(steps)
        print(images / elapsed, flush=True)


def _steps(architecture: Architecture, batch_size: int) -> Iterator[int]:
    """Training steps on noise, one after the other; each gives its number of images."""
    learner = Learner(build(architecture).train(), TrainConfig(), torch.device("cpu"))
    side = architecture.resolution
    images = torch.randn(batch_size, architecture.in_channels, side, side)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(architecture.num_classes, (batch_size,))
    while True:
        learner.turn_to(0.01)
        learner.step(images, labels)
        yield batch_size


if __name__ == "__main__":
    _train()
