"""The seam between what proposes networks and what trains them, free of torch.

A `Proposer` (a search, a coefficient grid, a family) hands out jobs: an architecture and a budget.
An `Evaluate` turns one into a `Measurement`. An `Executor` carries jobs from the one to the other
and knows neither; a test may hand each a closed-form fake and run in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from space.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Budget:
    """How much an evaluation may spend.

    `data_fraction` of the training images; `resolution` in pixels, None for the architecture's
    own; `seed` orders the batches and draws the initial weights. `start` names the weights that
    the network inherits, None for fresh ones: two measurements of one network that start from
    different weights never answer each other. With 0 epochs these are measured as they are, once
    batch-norm statistics are (a part of an elastic network). `teacher` names the weights of the
    network whose outputs it learns from, too, None for none. With `patience` it ends after so many
    epochs without a rise of the accuracy on held-out images, at the weights of the best epoch.

    Example:
        >>> from space.evaluation import Budget
        >>> Budget(epochs=5, data_fraction=0.5).to_dict()
        {'epochs': 5, 'data_fraction': 0.5, 'resolution': None, 'seed': 0}
    """

    epochs: int
    data_fraction: float = 1.0
    resolution: int | None = None
    seed: int = 0
    start: str | None = None
    teacher: str | None = None
    patience: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON, without `start`, `teacher` and `patience` where there are none."""
        fields = asdict(self)
        return {
            name: value
            for name, value in fields.items()
            if value is not None or name not in ("start", "teacher", "patience")
        }

    def __post_init__(self) -> None:
        least = 1 if self.start is None else 0
        if self.epochs < least:
            raise ValueError(f"`epochs >= {least}` must hold, but got epochs={self.epochs}")
        if not 0 < self.data_fraction <= 1:
            raise ValueError(f"`0 < data_fraction <= 1` must hold, but got {self.data_fraction}")
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"`resolution >= 1` must hold, but got {self.resolution}")


class Status(StrEnum):
    """How an evaluation ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of a training run: losses are means per image, accuracy is a fraction in [0, 1].

    `accuracy` and `loss` are on held-out images, and None where none are measured after epochs.
    """

    epoch: int
    train_loss: float
    accuracy: float | None
    loss: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What an evaluation gives.

    `accuracy` is a fraction in [0, 1] by the run's metric, `loss` the mean cross-entropy, both on
    the test images where there are any, else on the held-out ones. Times are in seconds,
    `peak_memory` in bytes. `images` is how many accuracy was measured on. `reason` says why a
    FAILED evaluation failed.

    Example:
        >>> from space.evaluation import Measurement, Status
        >>> Measurement(Status.COMPLETE, accuracy=0.9).finished
        True
    """

    status: Status
    accuracy: float | None = None
    loss: float | None = None
    train_seconds: float = 0.0
    validation_seconds: float = 0.0
    peak_memory: int | None = None
    images: int | None = None
    epochs: tuple[Epoch, ...] = ()
    details: dict[str, float] = field(default_factory=dict)
    reason: str | None = None

    @property
    def finished(self) -> bool:
        """Whether a training run ended with a result: COMPLETE or PRUNED."""
        return self.status is not Status.FAILED


class Interrupted(BaseException):
    """Raised by a `Report` where the run stops and the job is to be continued by a later one.

    An `Evaluate` saves what it has come to, and passes it on.
    """


class WorkerUnusable(BaseException):
    """Raised by an `Evaluate` whose process can evaluate nothing more, such as after a CUDA error.

    The message says why. The job has no result yet: another process runs it again.
    """


#: Told after each epoch; answers whether to stop the evaluation now (it is then PRUNED).
Report = Callable[[Epoch], bool]


class Evaluate(Protocol):
    """What trains a network and measures it."""

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """The measurement of `architecture` within `budget`.

        Raises nothing for what a network can do wrong (NaN, out of memory): that is a measurement
        with status FAILED and its reason. Raises `WorkerUnusable` where its process can do no more.
        """
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One evaluation to make; `name` is unique in its study and says what people call it.

    It begins only when the job named `after` is complete, whose weights its budget may start from.
    """

    name: str
    architecture: Architecture
    budget: Budget
    after: str | None = None


class Proposer(Protocol):
    """What an executor works for, ask and tell; all of it is called from one thread."""

    def ask(self) -> Job | None:
        """The next job; None if there is none now (and, while no job runs, none ever)."""
        ...

    def report(self, job: Job, epoch: Epoch) -> bool:  # noqa: ARG002
        """Takes an epoch of a running job; answers whether to stop it now, by default never."""
        return False

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Takes the result of a job."""
        ...


class Observer:
    """Looks on while jobs are carried out and changes nothing of them.

    A subclass overrides the hooks that it needs. All of them are called from the proposer's thread.
    """

    def began(self, job: Job, since: float) -> None:
        """A job is handed out; it was asked for at `since`, on the clock of `time.monotonic`."""

    def epoch(self, job: Job, epoch: Epoch) -> None:
        """A running job has ended an epoch, which is recorded."""

    def ended(self, job: Job, measurement: Measurement) -> None:
        """A running job has ended, and its result is recorded."""

    def answered(self, job: Job, measurement: Measurement) -> None:
        """A job was answered from what is recorded; nothing was trained."""


class Executor(Protocol):
    """A way to get jobs done: in this process, in several, on a cluster."""

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Carries the proposer's jobs to `evaluate` and back until it has no more."""
        ...
