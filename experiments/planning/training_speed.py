"""How fast this machine trains networks, measured by short training runs, and how busy it is."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
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

#: Epochs of a measured training run. The first warms up and gives the time to start.
_EPOCHS = 4

#: Approximate seconds of a measured epoch, and its minimum number of batches.
_EPOCH_SECONDS = 1.5
_LEAST_BATCHES = 4

#: Seconds for which `cpu_share` keeps the CPU busy, and bytes hashed per step, without the GIL.
_BUSY_SECONDS, _BUSY_BYTES = 0.2, 1 << 20


class TrainingSpeed(NamedTuple):
    """The measured speed of a network.

    `train` and `validation` are seconds per image, `spread` the relative standard deviation between
    epochs, and `start` the seconds until a training run has started.
    """

    name: str
    architecture: Architecture
    macs: int
    train: float
    validation: float
    spread: float
    start: float


@dataclass(frozen=True)
class SpeedTest:
    """Measures networks as the recipe trains them, with `workers` training runs at a time."""

    recipe: Recipe
    data: Data
    workers: int

    def measure(self, name: str, network: Architecture, folder: Path) -> TrainingSpeed:
        """The speed of a network; `folder` is for checkpoints.

        Raises:
            InvalidInput: if a measured training run fails.
        """
        batch = self.recipe.train.batch_size
        first = self._trained(name, network, _LEAST_BATCHES * batch, 2, folder)
        count = round(_EPOCH_SECONDS / max(first.train + first.validation / 4, 1e-9))
        count = max(_LEAST_BATCHES, count // batch) * batch
        return self._trained(name, network, count, _EPOCHS, folder)

    def _trained(
        self, name: str, network: Architecture, images: int, epochs: int, folder: Path
    ) -> TrainingSpeed:
        recipe = self.recipe
        train = _subset(self.data.train, images)
        held_out = _subset(self.data.held_out, max(recipe.train.batch_size, len(train) // 4))
        evaluate = TrainingEvaluator(
            train=train,
            held_out=held_out,
            config=recipe.train,
            metric=recipe.objective.metric,
            device=recipe.executor.device,
            threads=recipe.executor.threads,
            checkpoints=folder,
        )
        executor = recipe.executor
        if executor.kind != "processes":
            executor = executor.model_copy(update={"kind": "local", "pack": 1})
        jobs = InOrder(
            Job(f"{seed}", network, Budget(epochs, seed=seed)) for seed in range(self.workers)
        )
        start = time.perf_counter()
        executor_of(executor).run(jobs, evaluate)
        wall = time.perf_counter() - start
        results = list(jobs.told.values())
        if failed := next((each for each in results if not each.finished), None):
            raise InvalidInput(f"the training run that measures speed failed: {failed.reason}")
        later = [epoch.seconds for each in results for epoch in each.epochs[1:]]
        middle = fmean(later)
        training = sum(each.train_seconds for each in results)
        part = training / (training + sum(each.validation_seconds for each in results))
        return TrainingSpeed(
            name=name,
            architecture=network,
            macs=cost(network).macs,
            train=middle * part / len(train),
            validation=middle * (1 - part) / len(held_out),
            spread=stdev(later) / middle if len(later) > 1 else 0.0,
            start=max(0.0, wall - middle * epochs) if self.workers == 1 else 0.0,
        )


def cpu_share(threads: int) -> float:
    """The fraction of `threads` CPU cores that this process gets: 1.0 on an idle machine."""

    def busy(_: int) -> float:
        wall, cpu = time.perf_counter(), time.thread_time()
        while time.perf_counter() - wall < _BUSY_SECONDS:
            hashlib.sha256(bytes(_BUSY_BYTES))
        return (time.thread_time() - cpu) / (time.perf_counter() - wall)

    with ThreadPoolExecutor(threads) as pool:
        return min(1.0, fmean(pool.map(busy, range(threads))))


def _subset(images: Images, count: int) -> Images:
    """A random subset of at most `count` images."""
    order = np.random.default_rng(0).permutation(len(images))
    return images.subset(np.sort(order[:count]))
