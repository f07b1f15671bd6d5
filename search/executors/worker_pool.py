"""Carries jobs to workers and back, in one thread that alone calls the proposer.

A worker is whatever holds the other end of a connection and `serve`s there: a process, or a thread
of this one. They take turns:

    driver → worker  Job, then an `EpochReply` to each epoch; hanging up ends the worker
    worker → driver  READY once; for each job its epochs, then its measurement, INTERRUPTED,
                     the `InvalidInput` that ends the run, or `WorkerUnusable`
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing.connection import Connection, wait
from typing import Any

from search.executors.stopping import Stopping, stopping
from space.evaluation import (
    Epoch,
    Evaluate,
    Interrupted,
    Job,
    Measurement,
    Proposer,
    Status,
    WorkerUnusable,
)
from space.validation import InvalidInput

_logger = logging.getLogger(__name__)

#: How often a job is started again after its worker died; a job that kills workers fails (assumed).
RETRIES = 2

#: Seconds that a new worker may take to be ready, beside its first job's (assumed: torch on a
#: busy network drive).
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Worker:
    """The driver's side of a worker.

    `fate` says how it ended, once it has hung up, as in `was killed by SIGKILL`; `kill` ends it at
    once, if possible. A `replaceable` one has a process of its own, so that another can do its job
    if it becomes unusable.
    """

    connection: Connection[Any, Any]
    fate: Callable[[], str]
    kill: Callable[[], None]
    replaceable: bool = True


class WorkerSignal(Enum):
    """A worker's messages beside epochs and measurements."""

    READY = "ready"
    INTERRUPTED = "interrupted"


class EpochReply(Enum):
    """What a job does after an epoch."""

    GO_ON = "go on"
    STOP = "stop"
    INTERRUPT = "interrupt"


# ------------------------------------------------------------------------- shared by all executors


class ProposerFailed(BaseException):
    """Carries an `error` of the proposer past code that catches every `Exception`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def failure(job: Job, error: Exception) -> Measurement:
    """The measurement of an evaluation that raised `error`, which is logged."""
    _logger.error("%s failed", job.name, exc_info=error)
    return Measurement(Status.FAILED, reason=f"{type(error).__name__}: {error}")


def hung(seconds: float) -> Measurement:
    """The measurement of an evaluation that ended no epoch for `seconds`."""
    reason = f"hung: no epoch ended within {seconds:g} seconds (search.trial_timeout)"
    return Measurement(Status.FAILED, reason=reason)


def died(job: Job, fate: str, deaths: Counter[str]) -> Measurement | None:
    """The measurement of `job` after its worker's death; None if another worker continues it.

    `deaths` counts the workers that each job has lost, by its name.
    """
    deaths[job.name] += 1
    if deaths[job.name] > RETRIES:
        reason = f"its worker died {deaths[job.name]} times; the last one {fate}"
        return Measurement(Status.FAILED, reason=reason)
    _logger.warning("%s: its worker %s; another worker continues it", job.name, fate)
    return None


# ------------------------------------------------------------------------------ the worker's side


def serve(connection: Connection[Any, Any], evaluate: Evaluate) -> None:
    """Evaluates the jobs that come, until the driver hangs up."""
    try:
        connection.send(WorkerSignal.READY)
        while True:
            connection.send(_evaluated(connection.recv(), connection, evaluate))
    except (EOFError, OSError, _HungUp):
        return


class _HungUp(BaseException):
    """Passes through an evaluation whose driver has gone: it has not failed."""


def _evaluated(
    job: Job, connection: Connection[Any, Any], evaluate: Evaluate
) -> Measurement | WorkerSignal | InvalidInput | WorkerUnusable:
    def report(epoch: Epoch) -> bool:
        try:
            connection.send(epoch)
            reply = connection.recv()
        except (EOFError, OSError):
            raise _HungUp from None
        if reply is EpochReply.INTERRUPT:
            raise Interrupted
        return reply is EpochReply.STOP

    try:
        return evaluate(job.architecture, job.budget, report)
    except Interrupted:
        return WorkerSignal.INTERRUPTED
    except (InvalidInput, WorkerUnusable) as error:
        return error
    except Exception as error:
        return failure(job, error)


# ------------------------------------------------------------------------------ the driver's side


def run_jobs(
    proposer: Proposer, starts: Sequence[Callable[[], Worker]], trial_timeout: float | None
) -> None:
    """Carries the proposer's jobs to as many workers as there are `starts`, until it has no more.

    A job whose worker dies or is unusable is started again by another, `RETRIES` times, from its
    last checkpoint; if no worker can replace it, `WorkerUnusable` is raised. A worker that ends no
    epoch for `trial_timeout` seconds is killed, and its job FAILS. When the run is asked to stop,
    the jobs are interrupted after their epochs, to be continued later, and `KeyboardInterrupt` is
    raised. No worker is left in any case.
    """
    with stopping() as stop:
        pool = _Pool(proposer, [_Slot(start) for start in starts], trial_timeout, stop)
        try:
            pool.run()
        finally:
            for slot in pool.slots:
                slot.dismiss()


@dataclass(slots=True, eq=False)
class _Slot:
    """Room for one worker, which is started when there is a job for it."""

    start: Callable[[], Worker]
    worker: Worker | None = None
    job: Job | None = None
    deadline: float = math.inf

    def dismiss(self) -> None:
        """Ends the worker, whatever it does."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.connection.close()
        self.worker = self.job = None

    def send(self, message: Job | EpochReply) -> bool:
        """Whether the worker took the message: False if it has died."""
        assert self.worker is not None
        try:
            self.worker.connection.send(message)
        except OSError:
            return False
        return True


@dataclass(slots=True)
class _Pool:
    proposer: Proposer
    slots: Sequence[_Slot]
    timeout: float | None
    stop: Stopping
    again: deque[Job] = field(default_factory=deque)
    deaths: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Until no job is left, or none is running and the run is to stop."""
        while True:
            self._hand_out()
            busy = {
                slot.worker.connection: slot
                for slot in self.slots
                if slot.worker is not None and slot.job is not None
            }
            if not busy:
                if self.again and not self.stop.asked:  # its new worker died at once
                    continue
                return
            deadline = min(slot.deadline for slot in busy.values())
            seconds = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
            for connection in wait(list(busy), seconds):
                self._hear(busy[connection])  # type: ignore[index]
            for slot in busy.values():
                if slot.job is not None and time.monotonic() >= slot.deadline:
                    job = slot.job
                    slot.dismiss()
                    assert self.timeout is not None
                    self.proposer.tell(job, hung(self.timeout))

    def _hand_out(self) -> None:
        for slot in self.slots:
            if slot.job is None:
                if self.stop.asked:
                    return
                job = self.again.popleft() if self.again else self.proposer.ask()
                if job is None:
                    return
                self._hand(job, slot)

    def _hand(self, job: Job, slot: _Slot) -> None:
        fresh = slot.worker is None
        slot.worker = slot.worker or slot.start()
        slot.job = job
        if slot.send(job):
            self._extend(slot, _START_SECONDS if fresh else 0.0)
        elif fresh:
            self._lost(slot, job)
        else:  # it died while it had nothing to do
            slot.dismiss()
            self._hand(job, slot)

    def _hear(self, slot: _Slot) -> None:
        worker, job = slot.worker, slot.job
        assert worker is not None
        assert job is not None
        try:  # around the pipe alone: what the proposer raises is not the worker's
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(slot, job)
            return
        if isinstance(message, Epoch) and not slot.send(self._reply(job, message)):
            self._lost(slot, job)
            return
        self._extend(slot)
        match message:
            case Measurement():
                slot.job = None
                self.proposer.tell(job, message)
            case WorkerSignal.INTERRUPTED:
                slot.job = None
            case WorkerUnusable() if worker.replaceable:
                self._lost(slot, job, f"is unusable ({message})")
            case InvalidInput() | WorkerUnusable():
                raise message

    def _reply(self, job: Job, epoch: Epoch) -> EpochReply:
        if self.proposer.report(job, epoch):
            return EpochReply.STOP
        return EpochReply.INTERRUPT if self.stop.after(epoch, job) else EpochReply.GO_ON

    def _extend(self, slot: _Slot, extra: float = 0.0) -> None:
        """The worker gave a sign of life."""
        if self.timeout is not None:
            slot.deadline = time.monotonic() + self.timeout + extra

    def _lost(self, slot: _Slot, job: Job, fate: str | None = None) -> None:
        assert slot.worker is not None
        fate = fate or slot.worker.fate()
        slot.dismiss()
        if failed := died(job, fate, self.deaths):
            self.proposer.tell(job, failed)
        else:
            self.again.append(job)
