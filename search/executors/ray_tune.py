"""What Ray Tune sees of a proposer and its jobs: a searcher, a scheduler and a trainable.

Searcher and scheduler are called from Tune's loop in the driver, so the proposer is called from one
thread; the trainable serves in a worker process, one job after the other. A job is a trial of
Tune's, and each of its epochs a result. Tune never stops a trial: the job's evaluation is told to
stop, so that every job ends with its own measurement.

This module needs ray, and is imported at first use.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.executors.stopping import Stopping
from search.executors.worker_pool import (
    EpochReply,
    ProposerFailed,
    WorkerSignal,
    died,
    hung,
    serve,
)
from search.pruning import Halving
from space.evaluation import Epoch, Job, Measurement, Proposer, Status, WorkerUnusable
from space.validation import InvalidInput

#: The only key of a trial's configuration: its job.
_JOB = "job"


class _Unwritten:
    """Tune saves such objects without content: the study is the only state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class JobSearcher(_Unwritten, Searcher):  # type: ignore[misc]
    """Asks a proposer for jobs while there is `room` for more, and tells it the results.

    What the proposer raises reaches the executor as `ProposerFailed`, since Tune catches every
    `Exception`.
    """

    def __init__(self, proposer: Proposer, room: Callable[[], int], stop: Stopping) -> None:
        super().__init__()
        self.jobs: dict[str, Job] = {}
        self._deaths: Counter[str] = Counter()
        self._failed: dict[str, Measurement] = {}
        self._proposer, self._room, self._stop = proposer, room, stop
        self._dry = self._closed = False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next job as a trial's configuration; None if there is none now."""
        with self.open():
            if not self._dry and not self._stop.asked and len(self.jobs) < self._room():
                job = self._proposer.ask()
                if job is not None:
                    self.jobs[trial_id] = job
                    return {_JOB: job}
                self._dry = True  # until a job has ended
        return None if self.jobs or not (self._dry or self._stop.asked) else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells the proposer a job's result; nothing if it was interrupted."""
        job = self.jobs.pop(trial_id)
        self._dry = False
        with self.open():
            if error or result is None:
                unknown = Measurement(Status.FAILED, reason="no reason given")
                self._proposer.tell(job, self._failed.pop(trial_id, unknown))
                return
            match result["message"]:
                case Measurement() as measurement:
                    self._proposer.tell(job, measurement)
                case InvalidInput() as refusal:
                    raise refusal

    def lost(self, trial_id: str, fate: str) -> None:
        """Notes how a job's worker ended."""
        if trial_id in self._failed:
            return  # it was killed
        if failed := died(self.jobs[trial_id], fate, self._deaths):
            self._failed[trial_id] = failed

    def hung(self, trial_id: str, seconds: float) -> None:
        """Notes that a job's worker is killed since it ended no epoch for `seconds`."""
        self._failed[trial_id] = hung(seconds)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside, the proposer may be called."""
        if self._closed:
            raise ProposerFailed(RuntimeError("the run has ended"))
        try:
            yield
        except Exception as error:
            raise ProposerFailed(error) from error

    def close(self) -> None:
        """From now on the proposer is not called, whatever Tune does."""
        self._closed = True

    def save(self, _: str) -> None:
        """Nothing."""


class EpochScheduler(_Unwritten, FIFOScheduler):  # type: ignore[misc]
    """Reports epochs to a proposer, and replies to the jobs."""

    def __init__(
        self, proposer: Proposer, feed: JobSearcher, stop: Stopping, halving: Halving | None = None
    ) -> None:
        super().__init__()
        self._proposer, self._feed, self._stop = proposer, feed, stop
        self._halving = None if halving is None else _Halving(halving)

    def on_trial_result(self, _: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Always continues the trial; the reply to its worker says what the job does."""
        job, epoch = self._feed.jobs[trial.trial_id], result["message"]
        with self._feed.open():
            stop = self._proposer.report(job, epoch)
            if self._halving is not None:
                stop = self._halving.stops(trial, job, epoch) or stop
        if stop:
            _reply(trial, EpochReply.STOP)
        elif self._stop.after(epoch, job):
            _reply(trial, EpochReply.INTERRUPT)
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, _: Any, trial: Trial) -> None:
        """Notes how a trial's worker ended; Tune restarts the trial, `RETRIES` times."""
        self._feed.lost(trial.trial_id, _fate(trial))


class _Halving:
    """Tune's scheduler, asked about one epoch at a time."""

    def __init__(self, halving: Halving) -> None:
        self._epochs, self._value = halving.epochs, halving.value
        self._scheduler = ASHAScheduler(
            metric="value",
            mode="max",
            max_t=halving.epochs,
            grace_period=halving.first,
            reduction_factor=halving.reduction,
        )
        self._known: set[str] = set()
        for number, values in enumerate(halving.earlier):
            trial = SimpleNamespace(trial_id=f"earlier {number}")
            for epoch, value in sorted(values.items()):
                self._judged(trial, epoch, value)

    def stops(self, trial: Trial, job: Job, epoch: Epoch) -> bool:
        """Whether the job of `trial` ends after `epoch`."""
        if epoch.accuracy is None or not math.isfinite(epoch.accuracy):
            return False
        if epoch.epoch >= self._epochs:
            return False
        return self._judged(trial, epoch.epoch, self._value(epoch.accuracy, job))

    def _judged(self, trial: Any, epoch: int, value: float) -> bool:
        if trial.trial_id not in self._known:
            self._known.add(trial.trial_id)
            self._scheduler.on_trial_add(None, trial)
        result = {"training_iteration": epoch, "value": value}
        decision = self._scheduler.on_trial_result(None, trial, result)
        return bool(decision == TrialScheduler.STOP)


class TimeoutCallback(_Unwritten, Callback):  # type: ignore[misc]
    """Kills the workers of jobs that end no epoch for `seconds`."""

    def __init__(self, feed: JobSearcher, seconds: float) -> None:
        self._feed, self._seconds = feed, seconds
        self._deadlines: dict[Trial, float] = {}

    def on_trial_start(self, trial: Trial, **_: Any) -> None:
        """A job starts."""
        self._deadlines[trial] = time.monotonic() + self._seconds

    on_trial_result = on_trial_start

    def on_trial_complete(self, trial: Trial, **_: Any) -> None:
        """A job has ended."""
        self._deadlines.pop(trial, None)

    on_trial_error = on_trial_recover = on_trial_complete

    def on_step_end(self, **_: Any) -> None:
        """Several times a second."""
        for trial, deadline in tuple(self._deadlines.items()):
            if time.monotonic() > deadline:
                del self._deadlines[trial]
                trial.max_failures = 0  # it would hang again
                self._feed.hung(trial.trial_id, self._seconds)
                ray.kill(trial.temporary_state.ray_actor)


def _reply(trial: Trial, reply: EpochReply) -> None:
    # Calls of one actor arrive in order: before the `train` that the reply is for.
    trial.temporary_state.ray_actor.reply.remote(reply)


def _fate(trial: Trial) -> str:
    """How a trial's worker ended, from Ray's long report."""
    told = Path(trial.error_file).read_text("utf-8").rpartition("Failure # ")[2]
    if "low on memory" in told:
        return "was stopped because its machine ran out of memory"
    if "node has died" in told or "node was terminated" in told:
        return "was lost with its machine"
    if "worker process has died" in told:
        return "died (out of memory?)"
    return f"failed: {told.strip().splitlines()[-1]}"


class JobTrainable(tune.Trainable):  # type: ignore[misc]
    """Evaluates jobs, one after the other: a step of Tune's is an epoch, or the end of a job."""

    def setup(self, config: dict[str, Any], evaluate: bytes, variables: dict[str, str]) -> None:
        """Unpickles `evaluate`, with environment variables set before its first import."""
        os.environ.update(variables)
        self._refusal: InvalidInput | None = None
        try:
            unpickled = cloudpickle.loads(evaluate)
        except InvalidInput as error:  # this machine lacks something: the run is told
            self._refusal = error
            return
        self._connection, other = multiprocessing.Pipe()
        threading.Thread(target=serve, args=(other, unpickled), daemon=True).start()
        assert self._connection.recv() is WorkerSignal.READY
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes another job."""
        self._next: Job | EpochReply = new_config[_JOB]
        return True

    def step(self) -> dict[str, Any]:
        """The next epoch of the job, or how it ended."""
        if self._refusal is not None:
            return {"message": self._refusal, "done": True}
        self._connection.send(self._next)
        self._next = EpochReply.GO_ON
        message = self._connection.recv()
        if isinstance(message, WorkerUnusable):  # Tune ends this process and starts another
            raise RuntimeError(f"the worker is unusable: {message}")
        return {"message": message, "done": not isinstance(message, Epoch)}

    def reply(self, reply: EpochReply) -> None:
        """What the job does after its epoch."""
        self._next = reply
