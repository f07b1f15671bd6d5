"""How many training runs a GPU does at a time: measured at a run's start.

Replays of small networks leave most of a large GPU idle, and several of them share what it can do.
How many are fastest depends on the network and the GPU.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
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

#: Numbers of training runs at a time that are tried.
COUNTS = (1, 2, 4, 8)
#: Seconds for which each number of them trains (assumed: thousands of replays).
_SECONDS = 2.0
#: Steps before the time is taken: eager ones, the capture and a first replay.
_WARM_UP_STEPS = 6
#: Steps between two waits for the GPU, as in training.
_WAIT_STEPS = 50


class PackSpeed(NamedTuple):
    """Images per second of so many training `runs` at a time, all together."""

    runs: int
    speed: float


def measure_packs(
    architecture: Architecture,
    config: TrainConfig,
    device: str,
    counts: Sequence[int] = COUNTS,
    seconds: float = _SECONDS,
) -> list[PackSpeed]:
    """How fast `counts` of training runs are at a time on noise in `seconds`, the fastest first.

    They run in a process of their own, so that no memory of a GPU stays taken. A count that fails,
    such as for lack of memory, ends the measurement; none at all is the count 1 at speed 0.
    """
    given = {
        "architecture": architecture.to_dict(),
        "config": config.model_dump(mode="json"),
        "device": device,
        "counts": list(counts),
        "seconds": seconds,
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    found = [PackSpeed(**json.loads(line)) for line in done.stdout.splitlines()]
    if len(found) < len(counts):
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        _logger.info("%d training runs at a time failed: %s", counts[len(found)], reason)
    return sorted(found, key=lambda each: -each.speed) or [PackSpeed(1, 0.0)]


def _speed(
    architecture: Architecture,
    config: TrainConfig,
    device: torch.device,
    count: int,
    seconds: float,
) -> float:
    """Images per second of `count` threads that train."""
    ready, failures = threading.Barrier(count), list[Exception]()
    speeds: list[float] = []

    def work() -> None:
        try:
            with cuda_context.thread_stream(device):
                speeds.append(_train(architecture, config, device, ready, seconds))
        except Exception as error:
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(speeds)


def _train(
    architecture: Architecture,
    config: TrainConfig,
    device: torch.device,
    ready: threading.Barrier,
    seconds: float,
) -> float:
    """Images per second of this thread, from when all are ready."""
    learner = Learner(build(architecture).train(), config, device)
    side, size = architecture.resolution, config.batch_size
    batch = {
        "images": torch.randn(size, architecture.in_channels, side, side, device=device),
        "labels": torch.randint(architecture.num_classes, (size,), device=device),
    }
    step: Step = lambda batch: learner.step(batch["images"], batch["labels"])  # noqa: E731
    if device.type == "cuda":
        graph = CudaGraph(device, learner.generator)
        step = CapturedStep(step, graph, learner.renew_generator)
    for _ in range(_WARM_UP_STEPS):
        _take(learner, step, batch).item()
    ready.wait()
    start, steps = time.perf_counter(), 0
    loss = torch.zeros(())
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


def _main() -> None:
    """Measures what standard input says; writes a line for each count."""
    given = json.loads(sys.stdin.read())
    architecture = Architecture.from_dict(given["architecture"])
    config = TrainConfig.model_validate(given["config"])
    with machine.prepared(None):
        for count in given["counts"]:
            device = machine.choose_device(given["device"])
            speed = _speed(architecture, config, device, count, given["seconds"])
            print(json.dumps({"runs": count, "speed": speed}), flush=True)


if __name__ == "__main__":
    _main()
