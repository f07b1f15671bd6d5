"""How many training runs at a time are fastest: measured, on a CPU and on a GPU.

Two threads of one training run wait for each other after every operation; two runs of one thread
each share caches and memory. Replays of small networks leave most of a large GPU idle, and several
of them share what it can do. Which is faster depends on the network and the machine.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.config import TrainConfig
from experiments.training import cuda_context, machine
from experiments.training.batches import Batch
from experiments.training.cuda_graphs import CapturedStep, CudaGraph, Step
from experiments.training.learner import Learner
from space.architecture import Architecture
from space.network import build

_logger = logging.getLogger(__name__)

#: Numbers of training runs at a time that are tried on a GPU.
PACKS = (1, 2, 4, 8)
#: Seconds for which each way trains (assumed: a hundred steps of a small network).
_SECONDS = 2.0
#: Steps before the time is taken: on a GPU eager ones, the capture and a first replay.
_WARM_UP_STEPS = 6
#: Steps between two waits for the device, as in training.
_WAIT_STEPS = 50


class Throughput(NamedTuple):
    """Images per second (`speed`) of `processes`, each with so many training `runs` at a time.

    `threads` are the CPU's, of each process.
    """

    processes: int
    runs: int
    threads: int
    speed: float


def measure_cpu(architecture: Architecture, config: TrainConfig, cores: int) -> list[Throughput]:
    """Ways to divide `cores` among training runs of `architecture` on noise, the fastest first.

    From one run with all cores to one run per core, in steps of a factor of two.
    """
    counts = {cores}
    count = 1
    while count < cores:
        counts.add(count)
        count *= 2
    found = []
    for processes in sorted(counts):
        threads = cores // processes
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

    One that fails, such as for lack of memory, ends the measurement; if all fail, it is one run at
    speed 0.
    """
    threads, found = machine.cores(), []
    for runs in packs:
        try:
            speed = _speed(
                architecture, config, device, runs=runs, threads=threads, seconds=seconds
            )
        except RuntimeError as error:
            _logger.info("%d training runs at a time on one GPU failed: %s", runs, error)
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
    """Images per second of all together; raises RuntimeError where a process fails.

    Each is a process of its own, so that nothing stays taken of a GPU's memory.
    """
    variables = os.environ | machine.process_variables(threads)
    given = {
        "architecture": architecture.to_dict(),
        "config": config.model_dump(mode="json"),
        "device": device,
        "runs": runs,
        "seconds": seconds,
    }
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", __name__],
                    env=variables,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        for process in started:
            _send(process, json.dumps(given))
        for process in started:
            _receive(process)  # it is warm
        for process in started:
            _send(process, "start")
        return sum(float(_receive(process)) for process in started)


def _send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _receive(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    if line := process.stdout.readline():
        return line
    message = process.stderr.read().strip()
    raise RuntimeError(message.splitlines()[-1] if message else "the process has died")


def _main() -> None:
    """One of the processes; it receives what to do and when on standard input."""
    given = json.loads(sys.stdin.readline())
    architecture = Architecture.from_dict(given["architecture"])
    config = TrainConfig.model_validate(given["config"])
    device, runs = machine.choose_device(given["device"]), given["runs"]
    all_warm, speeds = threading.Barrier(runs + 1), list[float]()
    failures: list[Exception] = []

    def work() -> None:
        try:
            with cuda_context.thread_stream(device):
                speeds.append(_train(architecture, config, device, all_warm, given["seconds"]))
        except Exception as error:
            failures.append(error)
            all_warm.abort()

    with machine.prepared(None):
        threads = [threading.Thread(target=work, daemon=True) for _ in range(runs)]
        for thread in threads:
            thread.start()
        try:
            all_warm.wait()
            print("warm", flush=True)
            sys.stdin.readline()
            all_warm.wait()
        except threading.BrokenBarrierError:
            sys.exit(f"{failures[0]}")
        for thread in threads:
            thread.join()
    if failures:
        sys.exit(f"{failures[0]}")
    print(sum(speeds), flush=True)


def _train(
    architecture: Architecture,
    config: TrainConfig,
    device: torch.device,
    all_warm: threading.Barrier,
    seconds: float,
) -> float:
    """Images per second of this thread, from when all are ready."""
    learner = Learner(build(architecture).train(), config, device)
    side, size = architecture.resolution, config.batch_size
    images = torch.randn(size, architecture.in_channels, side, side, device=device)
    batch = {
        "images": images.contiguous(memory_format=torch.channels_last),
        "labels": torch.randint(architecture.num_classes, (size,), device=device),
    }
    step: Step = lambda batch: learner.step(batch["images"], batch["labels"])  # noqa: E731
    if device.type == "cuda":
        graph = CudaGraph(device, learner.generator)
        step = CapturedStep(step, graph, learner.renew_generator)
    for _ in range(_WARM_UP_STEPS):
        loss = _take(learner, step, batch)
    loss.item()
    all_warm.wait()
    all_warm.wait()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        loss = _take(learner, step, batch)
        steps += 1
        if steps % _WAIT_STEPS == 0:
            loss.item()
    loss.item()
    return steps * size / (time.perf_counter() - start)


def _take(learner: Learner, step: Step, batch: Batch) -> Tensor:
    learner.turn_to(1e-4)
    return step(batch)


if __name__ == "__main__":
    _main()
