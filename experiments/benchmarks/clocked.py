"""A search whose training runs do nothing or sleep, and a clock between it and its executor."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import optuna

from search import samplers
from search.candidates import Candidates
from search.objective import Objective
from search.search import Search
from search.study import open_study
from space import choices
from space.choices import Space
from space.evaluation import Budget, Epoch, Job, Measurement, Proposer

CHOICES = 28
SEED = 0
#: In place of a storage's URL.
MEMORY = "memory"
#: Trials that are not counted: processes start, and TPE draws its first ten at random.
WARM_UP = 20


def space() -> Space:
    """The first 28 choices of the space `mnasnet`."""
    whole = choices.load("mnasnet")
    return replace(whole, choices=dict(islice(whole.choices.items(), CHOICES)))


def search(storage: str, sampler: str, trials: int) -> Search:
    """A search of ours in that space."""
    candidates = Candidates(space(), Objective(target=300_000_000))
    return Search(
        optuna.create_study(direction="maximize")
        if storage == MEMORY
        else open_study(storage, "search"),
        samplers.create(sampler, candidates, SEED),
        Budget(epochs=1),
        trials=trials,
    )


class Seconds(NamedTuple):
    """Of a trial: by the clock, and of the driver's processor, which other work changes less."""

    clock: float
    processor: float


def per_trial(clock: list[float], processor: list[float]) -> Seconds:
    """From the times at which trials ended, without the first ones."""
    count = len(clock) - WARM_UP
    first = WARM_UP - 1
    return Seconds((clock[-1] - clock[first]) / count, (processor[-1] - processor[first]) / count)


class Clock:
    """A proposer that notes when jobs have ended, and the processor time of the driver then."""

    def __init__(self, inner: Proposer) -> None:
        self._inner = inner
        self.told: list[float] = []
        self.spent: list[float] = []

    def ask(self) -> Job | None:
        """The next job."""
        return self._inner.ask()

    def report(self, job: Job, epoch: Epoch) -> bool:
        """Passes an epoch on."""
        return self._inner.report(job, epoch)

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Passes a result on."""
        assert measurement.finished, measurement.reason
        self._inner.tell(job, measurement)
        self.told.append(time.monotonic())
        self.spent.append(time.process_time())

    @property
    def seconds(self) -> Seconds:
        """Per trial, without the first ones."""
        return per_trial(self.told, self.spent)
