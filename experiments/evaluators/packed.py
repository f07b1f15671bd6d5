"""Several training runs on one GPU at a time, as many as its memory is predicted to hold."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from experiments.config import TrainConfig
from experiments.data.images import Images
from experiments.evaluators.training import TrainingEvaluator
from experiments.train import VALIDATION_BATCHES
from experiments.training import machine
from experiments.training.failures import OutOfMemory
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget, Measurement, Report
from space.memory import peak_memory

_logger = logging.getLogger(__name__)

#: Training runs at a time on a GPU where nothing was measured (assumed; not measured on a GPU):
#: replays of small networks leave most of it idle, and share what it can do beyond some.
AUTO = 4

#: The part of the free memory that is planned (assumed: the rest is fragments).
_PLANNED = 0.85
#: Bytes that libraries keep for each stream (assumed: cuBLAS' and cuDNN's workspaces).
STREAM_MEMORY = 256 * 2**20
#: Copies of the weights in training: themselves, gradients, their average, and an optimiser's
#: state of one or two more.
_WEIGHT_COPIES = {"sgd": 4, "rmsprop": 5, "rmsprop_tf": 5, "adamw": 5}
_FLOAT = 4


class MemoryPool:
    """Bytes of memory that threads take and give back; a thread that finds too few waits.

    A thread that needs more than there is in all enters alone, and the device decides.
    """

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def all_taken(self) -> Iterator[None]:
        """Inside, no other thread has any."""
        with self.taken(self._size):
            yield

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Inside, `size` bytes are taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken + size <= self._size or not self._taken)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


@dataclass(frozen=True)
class Packed:
    """`evaluate`, called by several threads: each training run waits until its memory is free.

    All share the images on the device. A training run among others is the same as alone, except for
    its seconds; its memory is not measured. One that runs out of memory starts again once no other
    is running, and its batches are split only if it runs out again.
    """

    evaluate: TrainingEvaluator
    room: MemoryPool

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """As `evaluate`."""
        resolution = budget.resolution or architecture.resolution
        try:
            with self.room.taken(training_memory(architecture, self.evaluate.config, resolution)):
                return self.evaluate(architecture, budget, report)
        except OutOfMemory as failure:
            _logger.warning("%s beside others; it starts again alone", failure)
        with self.room.all_taken():
            return replace(self.evaluate, split=True)(architecture, budget, report)


def packed(evaluate: TrainingEvaluator, device: torch.device, threads: int) -> Packed:
    """`evaluate` for so many `threads` on `device`, planned with what is free there now."""
    several = (evaluate.train, evaluate.held_out, evaluate.test)
    images = sum(_bytes(each) for each in several if each is not None)
    free = 2**63 - 1  # nothing limits the training runs of a CPU but the user
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0] * _PLANNED) - threads * STREAM_MEMORY
    return Packed(
        replace(evaluate, alone=False, split=False), MemoryPool(free - min(images, free // 2))
    )


@dataclass(frozen=True)
class PackedOnArrival:
    """`evaluate`, packed for so many `threads` by the process in which it is unpickled."""

    evaluate: TrainingEvaluator
    device: str
    threads: int

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """As `evaluate`, where it has not travelled."""
        return self.evaluate(architecture, budget, report)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.evaluate, self.device, self.threads)


def _arrived(evaluate: TrainingEvaluator, device: str, threads: int) -> Packed:
    return packed(evaluate, machine.choose_device(device), threads)


def _bytes(images: Images) -> int:
    return len(images) * images.resolution**2 * images.channels


def training_memory(architecture: Architecture, config: TrainConfig, resolution: int) -> int:
    """Bytes that a training run needs at most, beside the images and its stream's `STREAM_MEMORY`.

    These are the activations of a batch in float32, from the exact model (mixed precision takes
    less), the weights and what is kept for them. A captured graph keeps its activations while
    validation allocates its own, so the two add up.
    """
    image = peak_memory(architecture, resolution)
    activations = (image.training + VALIDATION_BATCHES * image.inference) * config.batch_size
    weights = _WEIGHT_COPIES[config.optimizer] * _FLOAT * cost(architecture).params
    return activations + weights
