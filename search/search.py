"""Stage 1: a search over a space, as a proposer of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.candidates import Exhausted
from search.ledger import Ledger, answer, measurement_of
from search.samplers.base import Sampler
from search.study import finished
from space.evaluation import Budget, Epoch, Job, Measurement, Status

#: Failures in a row, in one process, that end a search: then the network is not the cause.
MAX_FAILURES = 10


class SearchFailed(Exception):
    """The search cannot continue; the message is a sentence."""


class Search:
    """Proposes candidates of a space until `trials` training runs are finished.

    Each job is a trial of `study`, which is the only state. Trials that a killed process left
    RUNNING are run again first, with the same choices. A failed trial does not count, and its
    network is not proposed again. `exhausted` is a sentence if the space has no network left.

    Example:
        >>> from search import samplers
        >>> from search.candidates import Candidates
        >>> from search.executors.local import Local
        >>> from search.objective import Objective
        >>> from search.search import Search
        >>> from search.study import open_study, ranked
        >>> from space import choices
        >>> from space.evaluation import Budget, Measurement, Status
        >>> space = choices.load("mnasnet_small").adapted(num_classes=10, resolution=32)
        >>> candidates = Candidates(space, Objective(target=4_000_000))
        >>> study = open_study("sqlite:///example.db", "search")
        >>> sampler = samplers.create("random", candidates, seed=0)
        >>> search = Search(study, sampler, Budget(epochs=1), trials=3)
        >>> Local().run(search, lambda network, budget, report: Measurement(Status.COMPLETE, 0.5))
        >>> len(ranked(study))
        3
    """

    def __init__(
        self,
        study: optuna.Study,
        sampler: Sampler,
        budget: Budget,
        *,
        trials: int,
        environment: Mapping[str, Any] | None = None,
    ) -> None:
        self.exhausted: str | None = None
        self._sampler = sampler
        self._budget = budget
        self._trials = trials
        self._failures: list[str] = []
        objective = sampler.candidates.objective
        values = objective.values if objective.pareto else None
        self._ledger = Ledger(study, objective.value, environment, values)

    def ask(self) -> Job | None:
        """The next job; None if enough training runs are finished or running, or none is left.

        Raises `SearchFailed` after too many failures in a row, and `InvalidInput` if the bounds
        admit no network.
        """
        if len(self._failures) >= MAX_FAILURES:
            raise SearchFailed(
                f"{MAX_FAILURES} trials in a row failed; the last one: {self._failures[-1]}"
            )
        while True:
            recorded = self._ledger.trials()
            running = sum(trial.state is TrialState.RUNNING for trial in recorded)
            if len(finished(recorded)) + running >= self._trials:
                return None
            waiting = next((t for t in recorded if t.state is TrialState.WAITING), None)
            if waiting is None:
                return self._proposed(recorded)
            if job := self._resumed(waiting, recorded):
                return job

    def report(self, job: Job, epoch: Epoch) -> bool:
        """Records the reward after `epoch`; whether the pruner stops the job."""
        return self._ledger.report(job, epoch)

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Records the job's result."""
        measurement = self._ledger.finish(job, measurement)
        if measurement.status is Status.FAILED:
            self._failures.append(f"{job.name}: {measurement.reason or 'no reason given'}")
        else:
            self._failures.clear()

    def _proposed(self, recorded: list[FrozenTrial]) -> Job | None:
        number = len(recorded)
        try:
            proposal = self._sampler.propose(recorded, number)
        except Exhausted as reason:
            self.exhausted = str(reason)
            return None
        candidate = proposal.candidate
        job = Job(f"trial-{number}", candidate.architecture, self._budget)
        facts = {"rejected": proposal.rejected, "latency": candidate.price.latency}
        self._ledger.begin(
            job,
            params=candidate.choices,
            distributions=self._sampler.candidates.distributions,
            attributes={name: fact for name, fact in facts.items() if fact},
            notes=proposal.notes,
        )
        return job

    def _resumed(self, trial: FrozenTrial, recorded: list[FrozenTrial]) -> Job | None:
        """The job of a WAITING trial; None if it ended without one."""
        candidates = self._sampler.candidates
        try:
            candidate = candidates.at(self._completed(trial, recorded))
        except Exhausted as exhausted:
            self._ledger.refuse(trial, str(exhausted))
            return None
        if reason := candidates.objective.bounds.why_not(candidate.price):
            self._ledger.refuse(trial, f"rejected before training: {reason}")
            return None
        job = Job(f"trial-{trial.number}", candidate.architecture, self._budget)
        self._ledger.resume(job, trial)
        if source := answer(recorded, job):
            self._ledger.finish(job, measurement_of(source), source)
            return None
        return job

    def _completed(self, trial: FrozenTrial, recorded: list[FrozenTrial]) -> dict[str, Any]:
        """The trial's choices; missing ones are taken from a proposal for it."""
        candidates = self._sampler.candidates
        choices = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if missing := candidates.distributions.keys() - choices.keys():
            proposed = self._sampler.propose(recorded, trial.number).candidate.choices
            choices |= {name: proposed[name] for name in missing}
        self._ledger.complete_params(trial, choices, candidates.distributions)
        return choices
