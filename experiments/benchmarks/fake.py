"""Evaluators in closed form, to measure what lies around a training run."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from space.architecture import Architecture
from space.evaluation import Budget, Epoch, Measurement, Report, Status


@dataclass(frozen=True)
class FakeEvaluate:
    """Sleeps `epoch_seconds` an epoch, and adds a line to the file `log` for each run it starts."""

    log: Path
    epoch_seconds: float = 0.0

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """An accuracy that the network alone decides, reached in equal steps."""
        own = f"{architecture.key} {os.getpid()} {uuid.uuid4().hex}"
        with self.log.open("a", encoding="utf-8") as file:  # one write: whole, whoever else appends
            file.write(own + "\n")
        accuracy, epochs = accuracy_of(architecture), []
        for epoch in range(1, budget.epochs + 1):
            time.sleep(self.epoch_seconds)
            epochs.append(Epoch(epoch, 1.0, accuracy * epoch / budget.epochs, 1.0, 0.0))
            stop = report(epochs[-1])
            if stop and epoch < budget.epochs:
                reached = epochs[-1].accuracy
                return Measurement(Status.PRUNED, accuracy=reached, epochs=tuple(epochs))
        return Measurement(Status.COMPLETE, accuracy=accuracy, loss=1.0, epochs=tuple(epochs))

    def begun(self) -> list[tuple[str, int]]:
        """The training runs started so far, in order: key of the network, and process."""
        if not self.log.is_file():
            return []
        lines = [line.split() for line in self.log.read_text("utf-8").splitlines()]
        return [(key, int(process)) for key, process, _ in lines]


def accuracy_of(architecture: Architecture) -> float:
    """Between 0.1 and 0.9, decided by the network alone."""
    return 0.1 + 0.8 * int(hashlib.sha256(architecture.key.encode()).hexdigest()[:8], 16) / 2**32


@dataclass(frozen=True)
class Sleeper:
    """Sleeps `seconds`, or the budget's fraction of them, and reports no epoch.

    What a job takes longer is what carrying it costs. No job ends before the time `until`.
    """

    seconds: float = 0.0
    until: float = 0.0

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:  # noqa: ARG002
        """An accuracy that the network alone decides."""
        seconds = max(self.seconds * budget.data_fraction, self.until - time.time())
        time.sleep(seconds)
        return Measurement(
            Status.COMPLETE, accuracy=accuracy_of(architecture), train_seconds=seconds
        )
