"""An `Evaluate` in closed form that can fail in every way in which a training run can.

A module of its own, so that worker processes can import it.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from space.architecture import Architecture
from space.evaluation import Budget, Epoch, Measurement, Report, Status, WorkerUnusable
from space.validation import InvalidInput

#: What goes wrong: in the evaluation, in its process, or at the keyboard.
Fault = Literal["none", "exception", "nan", "invalid", "hang", "death", "unusable", "ctrl-c"]


@dataclass(frozen=True)
class FakeEvaluate:
    """Sleeps `epoch_seconds` an epoch, and puts a line in the file `log` for each run.

    In training runs `first` to `last`, as the file counts them over all processes, `fault`
    happens after the first epoch. `driver` is the process whose keyboard it is.
    """

    log: Path
    epoch_seconds: float = 0.0
    fault: Fault = "none"
    first: int = 2
    last: int = 2
    driver: int = 0

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """An accuracy that the network alone decides, reached in equal steps."""
        number = self._begin(architecture)
        accuracy, epochs = accuracy_of(architecture), []
        for epoch in range(1, budget.epochs + 1):
            time.sleep(self.epoch_seconds)
            epochs.append(Epoch(epoch, 1.0, accuracy * epoch / budget.epochs, 1.0, 0.0))
            stop = report(epochs[-1])
            if stop and epoch < budget.epochs:
                reached = epochs[-1].accuracy
                return Measurement(Status.PRUNED, accuracy=reached, epochs=tuple(epochs))
            if epoch == 1 and self.first <= number <= self.last:
                accuracy = self._fail(accuracy)
        return Measurement(Status.COMPLETE, accuracy=accuracy, loss=1.0, epochs=tuple(epochs))

    def begun(self) -> list[tuple[str, int]]:
        """The training runs started so far, in order: key of the network, and process."""
        if not self.log.is_file():
            return []
        lines = [line.split() for line in self.log.read_text("utf-8").splitlines()]
        return [(key, int(process)) for key, process, _ in lines]

    def _begin(self, architecture: Architecture) -> int:
        own = f"{architecture.key} {os.getpid()} {uuid.uuid4().hex}"
        with self.log.open("a", encoding="utf-8") as file:  # one write: whole, whoever else appends
            file.write(own + "\n")
        return self.log.read_text("utf-8").splitlines().index(own) + 1

    def _fail(self, accuracy: float) -> float:
        match self.fault:
            case "exception":
                raise OSError("no space left on device")
            case "nan":
                return math.nan
            case "invalid":
                raise InvalidInput("data: no images")
            case "unusable":
                raise WorkerUnusable("CUDA error: device-side assert triggered")
            case "hang":
                time.sleep(3600)
            case "death":
                os.kill(os.getpid(), signal.SIGKILL)
            case "ctrl-c":
                os.kill(self.driver, signal.SIGINT)
                time.sleep(0.2)  # for the driver to have noticed
        return accuracy


class HangsOnceStopped:
    """An `Evaluate` that never ends after it was told to stop."""

    def __call__(self, _: Architecture, __: Budget, report: Report) -> Measurement:
        """Nothing."""
        while not report(Epoch(1, 1.0, 0.5, 1.0, 0.0)):
            pass
        time.sleep(3600)
        raise AssertionError


def accuracy_of(architecture: Architecture) -> float:
    """Between 0.1 and 0.9, decided by the network alone."""
    return 0.1 + 0.8 * int(hashlib.sha256(architecture.key.encode()).hexdigest()[:8], 16) / 2**32
