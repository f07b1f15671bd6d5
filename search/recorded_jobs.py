"""Any proposer's jobs as trials, so that what is finished is never trained again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.ledger import Ledger, Value, alike, answer, identity, measurement_of
from space.evaluation import Epoch, Job, Measurement, Proposer


def accuracy(value: float, job: Job) -> float:  # noqa: ARG001
    """The value of a study that maximises accuracy alone."""
    return value


class Recorded:
    """A `Proposer` that records the jobs of another in a study, and answers what it can from there.

    The inner proposer is told at once about a job that the study has finished. A job of another
    name with the same network and budget becomes a trial that is `answered_from` the first, after
    that one has ended. A job that a killed process left running continues under the same number;
    one that failed is tried again. `value` is what the study maximises; its pruner, if any, may
    stop a job. `answered` is called with every answered job and its measurement.
    """

    def __init__(
        self,
        inner: Proposer,
        study: optuna.Study,
        value: Value = accuracy,
        environment: Mapping[str, Any] | None = None,
        answered: Callable[[Job, Measurement], None] = lambda job, measurement: None,  # noqa: ARG005
    ) -> None:
        self._inner, self._answered = inner, answered
        self._ledger = Ledger(study, value, environment)
        self._running: dict[str, Job] = {}
        self._twins: list[Job] = []

    def ask(self) -> Job | None:
        """The next job that the study cannot answer; None if there is none now."""
        while (job := self._next()) is not None:
            same = alike(self._ledger.trials(), job)
            own = [trial for trial in same if trial.user_attrs["job"] == job.name]
            if known := answer(own, job):
                self._answer(job, measurement_of(known))
                continue
            self._begin(job, own)
            if source := answer(same, job):
                self._answer(job, self._ledger.finish(job, measurement_of(source), source))
            else:
                self._running[job.name] = job
                return job
        return None

    def report(self, job: Job, epoch: Epoch) -> bool:
        """Records the value after `epoch`; whether pruner or inner proposer stops the job."""
        pruned = self._ledger.report(job, epoch)
        return self._inner.report(job, epoch) or pruned

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Records the job's result and passes it on."""
        self._running.pop(job.name, None)
        self._inner.tell(job, self._ledger.finish(job, measurement))

    def _answer(self, job: Job, measurement: Measurement) -> None:
        self._inner.tell(job, measurement)
        self._answered(job, measurement)

    def _next(self) -> Job | None:
        """The first job whose identity no running one has."""
        running = [identity(job) for job in self._running.values()]
        for job in self._twins:
            if identity(job) not in running:
                self._twins.remove(job)
                return job
        while (new := self._inner.ask()) is not None and identity(new) in running:
            self._twins.append(new)
        return new

    def _begin(self, job: Job, own: list[FrozenTrial]) -> None:
        waiting = next((trial for trial in own if trial.state is TrialState.WAITING), None)
        if waiting is None:
            self._ledger.begin(job)
        else:
            self._ledger.resume(job, waiting)
