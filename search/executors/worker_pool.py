"""Jobs carried to workers and back, by one thread that alone speaks to the proposer.

A worker is whatever holds the other end of a connection and `serve`s there: a process, or a thread
of this one. They talk in turns:

    driver → worker  Job, then an `EpochReply` to each epoch; hanging up ends the worker
    worker → driver  READY once; of each job its epochs, then its measurement, INTERRUPTED,
                     the `InvalidInput` that ends the run, or `WorkerUnusable`
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

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


class Worker(Protocol):
    """What evaluates jobs, seen from the driver."""

    @property
    def connection(self) -> Connection[Any, Any]:
        """Where it is spoken to."""

    @property
    def replaceable(self) -> bool:
        """Whether another can do its job where it cannot: it has a process of its own."""

    def fate(self) -> str:
        """How it ended, once it has hung up: `was killed by SIGKILL`."""

    def kill(self) -> None:
        """Ends it at once, where that can be."""


class WorkerSignal(Enum):
    """What a worker says beside epochs and measurements."""

    READY = "ready"
    INTERRUPTED = "interrupted"


class EpochReply(Enum):
    """What a job does after an epoch."""

    GO_ON = "go on"
    STOP = "stop"
    INTERRUPT = "interrupt"


def failure(job: Job, error: Exception) -> Measurement:
    """The measurement of an evaluation that raised `error`, which is logged."""
    _logger.error("%s failed", job.name, exc_info=error)
    return Measurement(Status.FAILED, reason=f"{type(error).__name__}: {error}")


def hung(seconds: float) -> Measurement:
    """The measurement of an evaluation that gave no sign of life for `seconds`."""
    reason = f"hung: no epoch ended within {seconds:g} seconds (search.trial_timeout)"
    return Measurement(Status.FAILED, reason=reason)


# ------------------------------------------------------------------------------ the worker's side


def serve(connection: Connection[Any, Any], evaluate: Evaluate) -> None:
    """A worker's life: evaluates the jobs that come, until the driver hangs up."""
    try:
        connection.send(WorkerSignal.READY)
        while True:
            connection.send(_evaluated(connection.recv(), connection, evaluate))
    except (EOFError, OSError, _HungUp):
        return


class _HungUp(BaseException):
    """Passes an evaluation by whose driver has gone: it has not failed."""


def _evaluated(
    job: Job, connection: Connection[Any, Any], evaluate: Evaluate
) -> Measurement | WorkerSignal | InvalidInput | WorkerUnusable:
    def report(epoch: Epoch) -> bool:
        try:
            connection.send(epoch)
            answer = connection.recv()
        except (EOFError, OSError):
            raise _HungUp from None
        if answer is EpochReply.INTERRUPT:
            raise Interrupted
        return answer is EpochReply.STOP

    try:
        return evaluate(job.architecture, job.budget, report)
    except Interrupted:
        return WorkerSignal.INTERRUPTED
    except (InvalidInput, WorkerUnusable) as error:
        return error
    except Exception as error:
        return failure(job, error)


# ------------------------------------------------------------------------------ the driver's side


@dataclass(slots=True, eq=False)
class _Slot:
    """Room for one worker, who is started when there is a job for it."""

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


def run_jobs(
    proposer: Proposer, starts: Sequence[Callable[[], Worker]], trial_timeout: float | None
) -> None:
    """Carries the proposer's jobs to as many workers as `starts` gives, until it has no more.

    A job whose worker dies or is unusable is started again by another, `RETRIES` times, from its
    last checkpoint; where no worker can replace it, `WorkerUnusable` is raised. A
    worker that gives no sign of life for `trial_timeout` seconds is ended, and its job FAILS. Asked
    to stop, the jobs are interrupted after their epochs, to be run again later, and
    `KeyboardInterrupt` is raised. In any case no worker is left.
    """
    with stopping() as stop:
        pool = _Pool(proposer, [_Slot(start) for start in starts], trial_timeout, stop)
        try:
            pool.run()
        finally:
            pool.dismiss()


class _Pool:
    def __init__(
        self,
        proposer: Proposer,
        slots: Sequence[_Slot],
        trial_timeout: float | None,
        stop: Stopping,
    ) -> None:
        self._proposer, self._slots, self._stop = proposer, slots, stop
        self._timeout = trial_timeout
        self._again: deque[Job] = deque()
        self._deaths: dict[str, int] = {}

    def run(self) -> None:
        """Until no job is left, or none is running and the run is to stop."""
        while True:
            self._hand_out()
            busy = {
                slot.worker.connection: slot
                for slot in self._slots
                if slot.worker is not None and slot.job is not None
            }
            if not busy:
                if self._again and not self._stop.asked:  # its new worker died at once
                    continue
                return
            deadline = min(slot.deadline for slot in busy.values())
            seconds = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
            for connection in wait(list(busy), seconds):
                self._hear(busy[connection])  # type: ignore[index]
            for slot in busy.values():
                if slot.job is not None and time.monotonic() >= slot.deadline:
                    self._end_hung(slot, slot.job)

    def dismiss(self) -> None:
        """Ends all workers."""
        for slot in self._slots:
            slot.dismiss()

    def _hand_out(self) -> None:
        for slot in self._slots:
            if slot.job is not None:
                continue
            job = self._next()
            if job is None:
                return
            self._hand(job, slot)

    def _next(self) -> Job | None:
        if self._stop.asked:
            return None
        return self._again.popleft() if self._again else self._proposer.ask()

    def _hand(self, job: Job, slot: _Slot) -> None:
        fresh = slot.worker is None
        slot.worker = slot.worker or slot.start()
        slot.job = job
        if self._sent(slot, job):
            self._alive(slot, _START_SECONDS if fresh else 0.0)
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
        if isinstance(message, Epoch) and not self._sent(slot, self._reply(job, message)):
            self._lost(slot, job)
            return
        self._alive(slot)
        match message:
            case Measurement():
                slot.job = None
                self._deaths.pop(job.name, None)
                self._proposer.tell(job, message)
            case WorkerSignal.INTERRUPTED:
                slot.job = None
            case WorkerUnusable() if worker.replaceable:
                self._lost(slot, job, f"is unusable ({message})")
            case InvalidInput() | WorkerUnusable():
                raise message

    def _sent(self, slot: _Slot, message: Job | EpochReply) -> bool:
        """Whether the slot's worker took the message; it did not where it has died."""
        assert slot.worker is not None
        try:
            slot.worker.connection.send(message)
        except OSError:
            return False
        return True

    def _reply(self, job: Job, epoch: Epoch) -> EpochReply:
        if self._proposer.report(job, epoch):
            return EpochReply.STOP
        return EpochReply.INTERRUPT if self._stop.after(epoch, job) else EpochReply.GO_ON

    def _alive(self, slot: _Slot, extra: float = 0.0) -> None:
        if self._timeout is not None:
            slot.deadline = time.monotonic() + self._timeout + extra

    def _lost(self, slot: _Slot, job: Job, fate: str | None = None) -> None:
        assert slot.worker is not None
        fate = fate or slot.worker.fate()
        slot.dismiss()
        deaths = self._deaths[job.name] = self._deaths.get(job.name, 0) + 1
        if deaths <= RETRIES:
            _logger.warning("%s: its worker %s; another worker continues it", job.name, fate)
            self._again.append(job)
            return
        del self._deaths[job.name]
        reason = f"its worker died {deaths} times; the last one {fate}"
        self._proposer.tell(job, Measurement(Status.FAILED, reason=reason))

    def _end_hung(self, slot: _Slot, job: Job) -> None:
        assert self._timeout is not None
        slot.dismiss()
        self._proposer.tell(job, hung(self._timeout))
