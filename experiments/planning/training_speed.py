"""Short trainings that measure how fast a machine trains networks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from experiments.conduct import executor_of
from experiments.config import Recipe
from experiments.data.images import Images
from experiments.data.load import Data
from experiments.evaluators.training import TrainingEvaluator
from scaling.jobs import InOrder
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget, Job
from space.validation import InvalidInput

#: Epochs of a measured training; the first, which warms up, says what starting takes.
_EPOCHS = 4

#: Seconds that an epoch of a measured training is to take about, and batches it has at least.
_EPOCH_SECONDS = 1.5
_LEAST_BATCHES = 4


class Probe(NamedTuple):
    """A measured network: seconds per image of training and of validation, with the relative spread
    between epochs, and the seconds that beginning a training takes."""

    name: str
    architecture: Architecture
    macs: int
    train: float
    validation: float
    spread: float
    start: float


@dataclass(frozen=True)
class Stand:
    """A recipe's images and trainer, where networks are measured `workers` at a time."""

    recipe: Recipe
    data: Data
    workers: int

    def measure(self, name: str, network: Architecture, folder: Path) -> Probe:
        """Measures as many trainings at a time as the recipe's executor makes."""
        batch = self.recipe.train.batch_size
        first = self._trained(network, _LEAST_BATCHES * batch, 2, folder)
        count = round(_EPOCH_SECONDS / max(first.train + first.validation / 4, 1e-9))
        count = max(_LEAST_BATCHES, count // batch) * batch
        return self._trained(network, count, _EPOCHS, folder)._replace(name=name)

    def _trained(self, network: Architecture, images: int, epochs: int, folder: Path) -> Probe:
        train = _first(self.data.train, images)
        held_out = _first(self.data.held_out, max(self.recipe.train.batch_size, len(train) // 4))
        executor = self.recipe.executor
        evaluate = TrainingEvaluator(
            train=train,
            held_out=held_out,
            config=self.recipe.train,
            metric=self.recipe.objective.metric,
            device=executor.device,
            threads=executor.threads,
            checkpoints=folder,
        )
        jobs = InOrder(
            Job(f"{seed}", network, Budget(epochs, seed=seed)) for seed in range(self.workers)
        )
        kind = (
            executor
            if executor.kind == "processes"
            else executor.model_copy(update={"kind": "local", "pack": 1})
        )
        began = time.perf_counter()
        executor_of(kind).run(jobs, evaluate)
        wall = time.perf_counter() - began
        told = list(jobs.told.values())
        if failed := next((each for each in told if not each.finished), None):
            raise InvalidInput(f"a training that was to be measured failed: {failed.reason}")
        later = [epoch.seconds for each in told for epoch in each.epochs[1:]]
        spent = sum(each.train_seconds + each.validation_seconds for each in told)
        part = sum(each.train_seconds for each in told) / spent
        middle = fmean(later)
        return Probe(
            name="",
            architecture=network,
            macs=cost(network).macs,
            train=middle * part / len(train),
            validation=middle * (1 - part) / len(held_out),
            spread=stdev(later) / middle if len(later) > 1 else 0.0,
            start=max(0.0, wall - middle * epochs) if self.workers == 1 else 0.0,
        )


def _first(images: Images, count: int) -> Images:
    """Some of the images, of all classes alike."""
    order = np.random.default_rng(0).permutation(len(images))
    return images.subset(np.sort(order[:count]))
