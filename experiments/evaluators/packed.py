"""Several concurrent training runs on one GPU, as many as should fit in its memory."""

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

#: Concurrent training runs on a GPU where nothing was measured (assumed; not measured on a GPU).
#: One small network leaves most of a GPU idle; beyond some number, training runs slow each other.
AUTO = 4

#: The fraction of the free memory that training runs may use (assumed; fragments take the rest).
_PLANNED = 0.85
#: Bytes that libraries allocate per stream (assumed; workspaces of cuBLAS and cuDNN).
STREAM_MEMORY = 256 * 2**20
#: Tensors of the weights' size in training: weights, gradients, the average of the weights, and one
#: or two of the optimizer's state.
_WEIGHT_COPIES = {"sgd": 4, "rmsprop": 5, "rmsprop_tf": 5, "adamw": 5}
_FLOAT = 4


class MemoryPool:
    """A number of bytes that threads reserve and release. A thread waits until enough are free.

    A thread that needs more than the whole pool runs alone, and may run out of memory.
    """

    def __init__(self, size: int) -> None:
        self.size, self._taken = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Reserves `size` bytes for the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken + size <= self.size or not self._taken)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


@dataclass(frozen=True)
class Packed:
    """`evaluate` for several threads. Each training run waits until its memory is free.

    All threads share the images on the device. Concurrent training runs give the same results as
    single ones, but take longer, and their memory is not measured. A training run that runs out of
    memory starts again when no other is running. Its batches are split only if it runs out again.
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
            _logger.warning(
                "%s; other training runs share the GPU, so this one starts again when they end",
                failure,
            )
        with self.room.taken(self.room.size):
            return replace(self.evaluate, split=True)(architecture, budget, report)


def packed(evaluate: TrainingEvaluator, device: torch.device, threads: int) -> Packed:
    """Shares the memory of `device` that is free now among `threads` that call `evaluate`."""
    several = (evaluate.train, evaluate.held_out, evaluate.test)
    images = sum(_bytes(each) for each in several if each is not None)
    free = 2**63 - 1  # on a CPU, only the user limits the number of training runs
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0] * _PLANNED) - threads * STREAM_MEMORY
    return Packed(
        replace(evaluate, alone=False, split=False), MemoryPool(free - min(images, free // 2))
    )


@dataclass(frozen=True)
class PackedOnArrival:
    """Becomes `packed(evaluate, device, threads)` in the process that unpickles it."""

    evaluate: TrainingEvaluator
    device: str
    threads: int

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """As `evaluate`, in the process that has not pickled it."""
        return self.evaluate(architecture, budget, report)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.evaluate, self.device, self.threads)


def _arrived(evaluate: TrainingEvaluator, device: str, threads: int) -> Packed:
    return packed(evaluate, machine.choose_device(device), threads)


def _bytes(images: Images) -> int:
    return len(images) * images.resolution**2 * images.channels


def training_memory(architecture: Architecture, config: TrainConfig, resolution: int) -> int:
    """The most bytes that a training run needs, without images and `STREAM_MEMORY`.

    They are the activations of a batch in float32 (`space.memory`; mixed precision needs less), the
    weights, their gradients and the optimizer's state. A captured CUDA graph keeps its activations
    while validation allocates others, so both count.
    """
    image = peak_memory(architecture, resolution)
    activations = (image.training + VALIDATION_BATCHES * image.inference) * config.batch_size
    weights = _WEIGHT_COPIES[config.optimizer] * _FLOAT * cost(architecture).params
    return activations + weights
