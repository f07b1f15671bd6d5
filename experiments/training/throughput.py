"""How many training runs at a time are fastest: measured, on a CPU and on a GPU.

On a CPU, two threads of one training run wait for each other after every operation, while two runs
of one thread each share caches and memory. On a large GPU, a small network leaves most of it idle.
What is faster depends on the network and the machine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from threading import Barrier
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.config import TrainConfig
from experiments.training import cuda_context, machine
from experiments.training.learner import Learner
from search.executors.processes import cores, end_with_driver, variables
from space.architecture import Architecture
from space.network import build

_logger = logging.getLogger(__name__)

#: Numbers of training runs at a time that are tried on a GPU.
PACKS = (1, 2, 4, 8)
#: Seconds of each measurement (assumed: a hundred steps of a small network).
_SECONDS = 2.0
#: Steps before the time is taken: on a GPU eager ones, the capture and a first replay.
_WARM_UP_STEPS = 6
#: Steps between two waits for the device, as in training.
_WAIT_STEPS = 50

#: In a process that is measured: the threads of all processes wait here until all are warm.
_all_warm: Barrier


class Throughput(NamedTuple):
    """Images per second (`speed`) of `processes`, each with `runs` at a time on `threads`."""

    processes: int
    runs: int
    threads: int
    speed: float


def measure_cpu(
    architecture: Architecture, config: TrainConfig, available: int
) -> list[Throughput]:
    """Ways to divide `available` cores among runs of `architecture` on noise, the fastest first.

    From one run with all cores to one run per core, in steps of a factor of two.
    """
    found = []
    for processes in (*(2**n for n in range((available - 1).bit_length())), available):
        threads = available // processes
        speed = _speed(architecture, config, "cpu", processes=processes, threads=threads)
        found.append(Throughput(processes, 1, threads, speed))
    return sorted(found, key=lambda each: -each.speed)


def measure_gpu(
    architecture: Architecture,
    config: TrainConfig,
    device: str,
    packs: Sequence[int] = PACKS,
    seconds: float = _SECONDS,
) -> list[Throughput]:
    """Numbers of training runs at a time in one process on one GPU, the fastest first.

    The first that fails, such as for lack of memory, ends the measurement. If all fail, the result
    is one run at speed 0.
    """
    threads, found = cores(), []
    for runs in packs:
        try:
            speed = _speed(
                architecture, config, device, runs=runs, threads=threads, seconds=seconds
            )
        except Exception as error:  # of a process, whatever it is
            _logger.info("%d training runs at a time on one GPU failed: %r", runs, error)
            break
        found.append(Throughput(1, runs, threads, speed))
    return sorted(found, key=lambda each: -each.speed) or [Throughput(1, 1, threads, 0.0)]


def _speed(
    architecture: Architecture,
    config: TrainConfig,
    device: str,
    *,
    processes: int = 1,
    runs: int = 1,
    threads: int,
    seconds: float = _SECONDS,
) -> float:
    """Images per second of all processes together; they are new ones, whose GPU memory is freed."""
    context = get_context("spawn")
    all_warm = context.Barrier(processes * runs)
    with (
        variables(machine.process_variables(threads)),
        ProcessPoolExecutor(processes, context, _prepare, (all_warm,)) as pool,
    ):
        found = [
            pool.submit(_train_side_by_side, architecture, config, device, runs, seconds)
            for _ in range(processes)
        ]
        return sum(future.result() for future in found)


def _prepare(all_warm: Barrier) -> None:
    """Prepares a process that is measured."""
    global _all_warm
    _all_warm = all_warm
    end_with_driver()


def _train_side_by_side(
    architecture: Architecture, config: TrainConfig, device: str, runs: int, seconds: float
) -> float:
    """Images per second of this process, which trains in as many threads as `runs`."""
    chosen = machine.choose_device(device)

    def work(_: int) -> float:
        try:
            return _train(architecture, config, chosen, seconds)
        except Exception:
            _all_warm.abort()
            raise

    with machine.prepared(None), ThreadPoolExecutor(runs) as threads:
        return sum(threads.map(work, range(runs)))


def _train(
    architecture: Architecture, config: TrainConfig, device: torch.device, seconds: float
) -> float:
    """Images per second of this thread, from when the threads of all processes are warm."""
    with cuda_context.thread_stream(device):
        learner = Learner(build(architecture).train(), config, device)
        side, size = architecture.resolution, config.batch_size
        images = torch.randn(size, architecture.in_channels, side, side, device=device)
        batch = {
            "images": images.contiguous(memory_format=torch.channels_last),
            "labels": torch.randint(architecture.num_classes, (size,), device=device),
        }
        step = learner.captured(lambda batch: learner.step(batch["images"], batch["labels"]))

        def take() -> Tensor:
            learner.turn_to(1e-4)
            return step(batch)

        for _ in range(_WARM_UP_STEPS):
            loss = take()
        loss.item()
        _all_warm.wait()
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            loss = take()
            steps += 1
            if steps % _WAIT_STEPS == 0:
                loss.item()
        loss.item()
        return steps * size / (time.perf_counter() - start)
