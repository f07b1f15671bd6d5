"""Data-parallel training on this machine: several processes share every batch."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

from experiments.evaluators.training import TrainingEvaluator
from experiments.training.distributed import Replica
from search.executors.processes import Process
from search.executors.worker_pool import EpochReply, WorkerSignal
from space.architecture import Architecture
from space.evaluation import (
    Budget,
    Epoch,
    Interrupted,
    Job,
    Measurement,
    Report,
    Status,
    WorkerUnusable,
)
from space.validation import InvalidInput

#: gloo resolves the host name by default, which fails on some machines.
_THIS_MACHINE = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


@dataclass(frozen=True)
class DataParallelEvaluator:
    """Runs `evaluate` in one process for each of `environments` (its environment variables).

    The first process reports, writes checkpoints and weights, and measures. If a process fails or
    dies, the training run fails.
    """

    evaluate: TrainingEvaluator
    environments: Sequence[dict[str, str]]

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """As `evaluate`, with each batch divided among the processes."""
        with tempfile.TemporaryDirectory(prefix="phiscale-meeting-") as folder:
            processes = [self._started(rank, Path(folder)) for rank in range(self._size)]
            try:
                for process in processes:
                    process.connection.send(Job("together", architecture, budget))
                return self._heard(processes, report)
            finally:
                for process in processes:
                    process.kill()
                    process.connection.close()

    @property
    def _size(self) -> int:
        return len(self.environments)

    def _started(self, rank: int, folder: Path) -> Process:
        member = replace(
            self.evaluate, replica=Replica(rank, self._size), meeting=folder / "meeting"
        )
        return Process(self.environments[rank] | _THIS_MACHINE, pickle.dumps(member))

    def _heard(self, processes: Sequence[Process], report: Report) -> Measurement:
        """The measurement of the processes. Calls `report` after every epoch."""
        ranks = {process.connection: rank for rank, process in enumerate(processes)}
        while True:
            for connection in wait(list(ranks)):
                rank = ranks[connection]  # type: ignore[index]
                process = processes[rank]
                try:
                    message = process.connection.recv()
                    if isinstance(message, Epoch):
                        process.connection.send(_answer(report, message))
                except (EOFError, OSError):
                    reason = f"process {rank + 1} of {self._size} {process.fate()}"
                    return Measurement(Status.FAILED, reason=reason)
                match message:
                    case InvalidInput():
                        raise message
                    case WorkerUnusable():  # each job has processes of its own
                        return Measurement(Status.FAILED, reason=str(message))
                    case WorkerSignal.INTERRUPTED if rank == 0:
                        raise Interrupted
                    case Measurement() if rank == 0 or message.status is Status.FAILED:
                        return message


def _answer(report: Report, epoch: Epoch) -> EpochReply:
    try:
        return EpochReply.STOP if report(epoch) else EpochReply.GO_ON
    except Interrupted:
        return EpochReply.INTERRUPT
