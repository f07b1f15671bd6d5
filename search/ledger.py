"""Jobs as trials: what every trial of every stage records, and how it is written.

user_attrs of a trial, all JSON:
  job           name of the job
  architecture  `Architecture.to_dict()`
  key           `Architecture.key`
  cost          {"macs", "params", "activations"} at the evaluated resolution
  budget        {"epochs", "data_fraction", "resolution", "seed"}, the resolution in pixels
  environment   {"host", "device", "torch", "python", "phiscale"}
  measurement   `Measurement`, with its epochs (once the trial has ended)
  seconds       wall-clock from ask to tell
  pruned_at     epoch after which the pruner stopped it (only where it did)
  rejected      proposals rejected by cost before this one (search only, where there were any)
  retries       how often the trial was restarted (only if it was)
  reward        accuracy · (cost / target)^w (search of several objectives only)
  latency       seconds of the network (search only, where latency is a cost)
  answered_from number of the trial that had already measured this (only where one had)
Intermediate values are the study's value after each epoch, counted from 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search import pruning
from search.optuna_internals import id_of_study, id_of_trial, storage_of
from search.storage import end_trial
from search.study import FINISHED
from space.architecture import Architecture
from space.cost import Cost, cost
from space.evaluation import Budget, Epoch, Job, Measurement, Status

_STATES = {
    Status.COMPLETE: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.FAILED: TrialState.FAIL,
}

#: What a study maximises, from a job's accuracy.
Value = Callable[[float, Job], float]

#: The values of a study of several objectives, from a job's accuracy.
Values = Callable[[float, Job], Sequence[float]]


@dataclass(slots=True)
class _Open:
    """A job that runs: its trial, and what this attempt has reported."""

    trial_id: int
    began: float
    values: dict[int, float] = field(default_factory=dict)
    stopped: bool = False


class Ledger:
    """Writes the jobs of one study into its storage, in as few transactions as it can.

    `value` is what the study maximises. One of several objectives records their `values`, and
    `value` as the trial's attribute `reward`.
    """

    def __init__(
        self,
        study: optuna.Study,
        value: Value,
        environment: Mapping[str, Any] | None = None,
        values: Values | None = None,
    ) -> None:
        self.study = study
        self._storage = storage_of(study)
        self._value = value
        self._values = values
        self._environment = dict(environment or {})
        self._open: dict[str, _Open] = {}

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study, by number."""
        return self.study.get_trials(deepcopy=False)

    def requeue(self) -> list[int]:
        """Sets trials that a dead process left RUNNING back to WAITING; gives their numbers.

        They keep number and parameters. Only for the one process that drives the study.
        """
        running = {entry.trial_id for entry in self._open.values()}
        orphans = [
            trial
            for trial in self.trials()
            if trial.state is TrialState.RUNNING and id_of_trial(trial) not in running
        ]
        for trial in orphans:
            retries = trial.user_attrs.get("retries", 0) + 1
            self._storage.set_trial_user_attr(id_of_trial(trial), "retries", retries)
            self._storage.set_trial_state_values(id_of_trial(trial), TrialState.WAITING)
        return [trial.number for trial in orphans]

    def begin(
        self,
        job: Job,
        *,
        params: Mapping[str, Any] | None = None,
        distributions: Mapping[str, BaseDistribution] | None = None,
        attributes: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """A new RUNNING trial for `job`, whole in one transaction."""
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params or {}),
            distributions=dict(distributions or {}),
            user_attrs=self._attributes(job) | dict(attributes or {}),
            system_attrs=dict(notes or {}),
        )
        self._opened(job, self._storage.create_new_trial(id_of_study(self.study), template))

    def complete_params(
        self,
        trial: FrozenTrial,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        """Writes those of `params` that the WAITING `trial` does not hold yet."""
        for name, distribution in distributions.items():
            if name not in trial.params:
                internal = distribution.to_internal_repr(params[name])
                self._storage.set_trial_param(id_of_trial(trial), name, internal, distribution)

    def resume(self, job: Job, trial: FrozenTrial) -> None:
        """Begins the WAITING `trial` again, as `job`."""
        self._storage.set_trial_state_values(id_of_trial(trial), TrialState.RUNNING)
        for name, value in self._attributes(job).items():
            if trial.user_attrs.get(name) != value:
                self._storage.set_trial_user_attr(id_of_trial(trial), name, value)
        self._opened(job, id_of_trial(trial))

    def report(self, job: Job, epoch: Epoch) -> bool:
        """Records the value after `epoch`; whether the study's pruner stops the job now.

        The last epoch is never judged: there is nothing left to save.
        """
        entry = self._open[job.name]
        if not math.isfinite(epoch.accuracy):
            return False  # the training run will fail, and say why
        value = self._value(epoch.accuracy, job)
        if epoch.epoch in entry.values:  # its worker died, and another goes on with it
            entry.values.clear()
            retries = self._storage.get_trial(entry.trial_id).user_attrs.get("retries", 0) + 1
            self._storage.set_trial_user_attr(entry.trial_id, "retries", retries)
        entry.values[epoch.epoch] = value
        self._storage.set_trial_intermediate_value(entry.trial_id, epoch.epoch, value)
        if epoch.epoch >= job.budget.epochs:
            return False
        stop, notes = pruning.judge(self.study, entry.trial_id, entry.values)
        if stop:  # written before the notes, which would let the trial pass when it runs again
            entry.stopped = True
            self._storage.set_trial_user_attr(entry.trial_id, "pruned_at", epoch.epoch)
        for name, note in notes.items():
            self._storage.set_trial_system_attr(entry.trial_id, name, note)
        return stop

    def finish(self, job: Job, measurement: Measurement) -> Measurement:
        """Ends the job's trial with its measurement, or as FAIL where that is no result.

        Gives the measurement as it was recorded.
        """
        entry = self._open.pop(job.name)
        measurement = checked(measurement)
        attributes = {
            "measurement": to_record(measurement),
            "seconds": round(time.monotonic() - entry.began, 3),
        }
        if measurement.status is Status.PRUNED and entry.values and not entry.stopped:
            # By who carried it out: Ray Tune's scheduler.
            attributes["pruned_at"] = max(entry.values)
        accuracy = measurement.accuracy if measurement.finished else None
        values = None
        if accuracy is not None:
            values = [self._value(accuracy, job)]
            if self._values:
                attributes["reward"] = values[0]
                values = [*self._values(accuracy, job)]
        state = _STATES[measurement.status]
        end_trial(self._storage, entry.trial_id, state, values, attributes)
        return measurement

    def refuse(self, trial: FrozenTrial, reason: str) -> None:
        """Ends the WAITING `trial` as FAIL without running it."""
        self._storage.set_trial_state_values(id_of_trial(trial), TrialState.RUNNING)
        record = to_record(Measurement(Status.FAILED, reason=reason))
        self._storage.set_trial_user_attr(id_of_trial(trial), "measurement", record)
        self._storage.set_trial_state_values(id_of_trial(trial), TrialState.FAIL)

    def copy_answer(self, job: Job, source: FrozenTrial) -> Measurement:
        """Ends the open job with what the finished trial `source` measured, and says so."""
        trial_id = self._open[job.name].trial_id
        self._storage.set_trial_user_attr(trial_id, "answered_from", source.number)
        return self.finish(job, measurement_of(source))

    def _attributes(self, job: Job) -> dict[str, Any]:
        return {
            "job": job.name,
            "architecture": job.architecture.to_dict(),
            "key": job.architecture.key,
            "cost": cost_of(job)._asdict(),
            "budget": budget_of(job),
            "environment": self._environment,
        }

    def _opened(self, job: Job, trial_id: int) -> None:
        if job.name in self._open:
            raise ValueError(f"job names must be unique, but {job.name!r} is already running")
        self._open[job.name] = _Open(trial_id, time.monotonic())


def cost_of(job: Job) -> Cost:
    """The exact cost of a job's network at the resolution at which it is evaluated."""
    return cost(job.architecture, job.budget.resolution)


def budget_of(job: Job) -> dict[str, Any]:
    """A job's budget as it is recorded, with the resolution that None stands for."""
    resolution = job.budget.resolution or job.architecture.resolution
    return asdict(replace(job.budget, resolution=resolution))


def answer(trials: Sequence[FrozenTrial], job: Job) -> FrozenTrial | None:
    """The first trial that finished training the job's network with the job's budget."""
    key, budget = job.architecture.key, budget_of(job)
    return next(
        (
            trial
            for trial in trials
            if trial.state in FINISHED
            and trial.user_attrs.get("key") == key
            and trial.user_attrs.get("budget") == budget
        ),
        None,
    )


def job_of(trial: FrozenTrial) -> Job:
    """The job that a trial records."""
    attributes = trial.user_attrs
    return Job(
        name=attributes["job"],
        architecture=Architecture.from_dict(
            attributes["architecture"], source=f"trial {trial.number}"
        ),
        budget=Budget(**attributes["budget"]),
    )


def checked(measurement: Measurement) -> Measurement:
    """`measurement`, or a FAILED one where it claims a result that is none."""
    accuracy = measurement.accuracy
    if measurement.status is Status.PRUNED and accuracy is None and measurement.epochs:
        accuracy = measurement.epochs[-1].accuracy
        measurement = replace(measurement, accuracy=accuracy)
    if not measurement.finished or (accuracy is not None and 0 <= accuracy <= 1):
        return measurement
    reason = f"accuracy must be in [0, 1], but the evaluation returned {accuracy}"
    return replace(measurement, status=Status.FAILED, accuracy=None, reason=reason)


def to_record(measurement: Measurement) -> dict[str, Any]:
    """`measurement` as JSON, which has no NaN: what is not finite becomes null."""
    record: dict[str, Any] = _finite(asdict(measurement))
    return record


def measurement_of(trial: FrozenTrial) -> Measurement:
    """The measurement that a trial records; raises ValueError where it has not ended."""
    record = trial.user_attrs.get("measurement")
    if record is None:
        raise ValueError(f"trial {trial.number} holds no measurement: it has not ended")
    epochs = tuple(Epoch(**_with_nan(epoch)) for epoch in record["epochs"])
    return Measurement(**{**record, "status": Status(record["status"]), "epochs": epochs})


def _with_nan(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in record.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
