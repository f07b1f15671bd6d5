"""Several trainings on one GPU at once, as many as its memory is foreseen to hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from experiments.config import TrainConfig
from experiments.data.images import Images
from experiments.evaluators.training import TrainingEvaluator
from experiments.train import VALIDATION_BATCHES
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget, Measurement, Report
from space.memory import peak_memory

#: Trainings at once on a GPU where the recipe leaves it open (assumed; not measured on a GPU):
#: replays of small networks leave most of it idle, and share what it can do beyond some.
AUTO = 4

#: The part of the free memory that is planned (assumed: the rest is fragments).
_PLANNED = 0.85
#: Bytes that libraries take for a stream of their own (assumed: cuBLAS' and cuDNN's workspaces).
_WORKSPACE = 256 * 2**20
#: Copies of the weights in training: themselves, gradients, their average, and an optimiser's
#: state of one or two more.
_WEIGHT_COPIES = {"sgd": 4, "rmsprop": 5, "rmsprop_tf": 5, "adamw": 5}
_FLOAT = 4


class Room:
    """Bytes that threads take and give back; who finds too few waits.

    Who needs more than there are in all is let in alone, to be told by the device.
    """

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

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
    """`evaluate`, called by several threads: each training waits until its memory is free.

    All share the images on the device. A training among others is the same as alone, but for its
    seconds; its memory is not measured.
    """

    evaluate: TrainingEvaluator
    room: Room

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """As `evaluate`."""
        resolution = budget.resolution or architecture.resolution
        with self.room.taken(training_memory(architecture, self.evaluate.config, resolution)):
            return self.evaluate(architecture, budget, report)


def packed(evaluate: TrainingEvaluator, device: torch.device) -> Packed:
    """`evaluate` for several threads on `device`, planned with what is free there now."""
    images = _bytes(evaluate.train) + _bytes(evaluate.held_out)
    free = 2**63 - 1  # a CPU's trainings are planned by nobody but the user
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0] * _PLANNED)
    return Packed(replace(evaluate, alone=False), Room(free - min(images, free // 2)))


def _bytes(images: Images) -> int:
    return len(images) * images.resolution**2 * images.channels


def training_memory(architecture: Architecture, config: TrainConfig, resolution: int) -> int:
    """Bytes that a training needs at most, beside the images: activations of a batch in float32,
    from the exact model (mixed precision takes less), the weights and what is kept for them."""
    image = peak_memory(architecture, resolution)
    activations = max(image.training, VALIDATION_BATCHES * image.inference) * config.batch_size
    weights = _WEIGHT_COPIES[config.optimizer] * _FLOAT * cost(architecture).params
    return activations + weights + _WORKSPACE
