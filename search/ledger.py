"""Jobs as trials: what every trial of every stage records, and how it is written.

user_attrs of a trial, all JSON:
  job           name of the job
  architecture  `Architecture.to_dict()`
  key           `Architecture.key`
  cost          {"macs", "params", "activations"} at the evaluated resolution
  budget        {"epochs", "data_fraction", "resolution", "seed"}, the resolution in pixels; and
                "start", "teacher" and "patience" where the training run had them
  environment   {"host", "device", "torch", "python", "phiscale"}
  measurement   `Measurement`, with its epochs (once the trial has ended)
  seconds       wall-clock from ask to tell
  pruned_at     epoch after which the pruner stopped it (only if it did)
  rejected      proposals rejected by cost before this one (search only, if there were any)
  retries       how often the trial was restarted (only if it was)
  reward        accuracy · (cost / target)^w (search of several objectives only)
  latency       seconds of the network (search only, if latency is a cost)
  answered_from number of the trial that had already measured this (only if one had)
Intermediate values are the study's value after each epoch, counted from 1; NaN where no accuracy is
measured after epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from space.cost import cost
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
    """A running job: its trial, and what this attempt has reported."""

    trial_id: int
    began: float
    values: dict[int, float] = field(default_factory=dict)
    stopped: bool = False


class Ledger:
    """Writes the jobs of one study into its storage, in as few transactions as possible.

    Only for the process that drives the study: trials that a dead process left RUNNING become
    WAITING, with their number and parameters. `value` is what the study maximises. A study of
    several objectives records their `values`, and `value` as the trial's attribute `reward`.
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
        for trial in self.trials():
            if trial.state is TrialState.RUNNING:
                self._count_retry(id_of_trial(trial))
                self._storage.set_trial_state_values(id_of_trial(trial), TrialState.WAITING)

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study, by number."""
        return self.study.get_trials(deepcopy=False)

    def begin(
        self,
        job: Job,
        *,
        params: Mapping[str, Any] = {},
        distributions: Mapping[str, BaseDistribution] = {},
        attributes: Mapping[str, Any] = {},
        notes: Mapping[str, Any] = {},
    ) -> None:
        """Creates a RUNNING trial for `job` in one transaction."""
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=self._attributes(job) | dict(attributes),
            system_attrs=dict(notes),
        )
        self._opened(job, self._storage.create_new_trial(id_of_study(self.study), template))

    def complete_params(
        self,
        trial: FrozenTrial,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        """Writes those of `params` that the WAITING `trial` does not have yet."""
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

        The value is NaN where no accuracy is measured after epochs. The last epoch is never judged:
        there is nothing left to save.
        """
        entry = self._open[job.name]
        if epoch.accuracy is not None and not math.isfinite(epoch.accuracy):
            return False  # the training run will fail, and say why
        value = math.nan if epoch.accuracy is None else self._value(epoch.accuracy, job)
        if epoch.epoch in entry.values:  # its worker died, and another continues it
            entry.values.clear()
            self._count_retry(entry.trial_id)
        entry.values[epoch.epoch] = value
        self._storage.set_trial_intermediate_value(entry.trial_id, epoch.epoch, value)
        if epoch.accuracy is None or epoch.epoch >= job.budget.epochs:
            return False
        stop, notes = pruning.judge(self.study, entry.trial_id, entry.values)
        if stop:  # written before the notes, with which the trial would pass when it runs again
            entry.stopped = True
            self._storage.set_trial_user_attr(entry.trial_id, "pruned_at", epoch.epoch)
        for name, note in notes.items():
            self._storage.set_trial_system_attr(entry.trial_id, name, note)
        return stop

    def finish(
        self, job: Job, measurement: Measurement, source: FrozenTrial | None = None
    ) -> Measurement:
        """Ends the job's trial with its measurement, or as FAIL if that is not a result.

        `source` is the trial that the measurement is copied from, if any. Returns the measurement
        as recorded.
        """
        entry = self._open.pop(job.name)
        measurement = checked(measurement)
        attributes: dict[str, Any] = {
            "measurement": _as_json(asdict(measurement)),
            "seconds": round(time.monotonic() - entry.began, 3),
        }
        if source is not None:
            attributes["answered_from"] = source.number
        if measurement.status is Status.PRUNED and entry.values and not entry.stopped:
            attributes["pruned_at"] = max(entry.values)  # by Ray Tune's scheduler
        accuracy = measurement.accuracy if measurement.finished else None
        values: Sequence[float] | None = None
        if accuracy is not None:
            values = [self._value(accuracy, job)]
            if self._values:
                attributes["reward"] = values[0]
                values = self._values(accuracy, job)
        state = _STATES[measurement.status]
        end_trial(self._storage, entry.trial_id, state, values, attributes)
        return measurement

    def refuse(self, trial: FrozenTrial, reason: str) -> None:
        """Ends the WAITING `trial` as FAIL without running it."""
        self._storage.set_trial_state_values(id_of_trial(trial), TrialState.RUNNING)
        record = _as_json(asdict(Measurement(Status.FAILED, reason=reason)))
        end_trial(self._storage, id_of_trial(trial), TrialState.FAIL, None, {"measurement": record})

    def _attributes(self, job: Job) -> dict[str, Any]:
        return {
            "job": job.name,
            "architecture": job.architecture.to_dict(),
            "cost": cost(job.architecture, job.budget.resolution)._asdict(),
            "environment": self._environment,
        } | identity(job)

    def _opened(self, job: Job, trial_id: int) -> None:
        if job.name in self._open:
            raise ValueError(f"job names must be unique, but {job.name!r} is already running")
        self._open[job.name] = _Open(trial_id, time.monotonic())

    def _count_retry(self, trial_id: int) -> None:
        retries = self._storage.get_trial(trial_id).user_attrs.get("retries", 0) + 1
        self._storage.set_trial_user_attr(trial_id, "retries", retries)


def identity(job: Job) -> dict[str, Any]:
    """The attributes that are equal for two jobs if and only if one training run answers both.

    In the budget, a resolution of None becomes the network's own.
    """
    resolution = job.budget.resolution or job.architecture.resolution
    budget = replace(job.budget, resolution=resolution).to_dict()
    return {"key": job.architecture.key, "budget": budget}


def alike(trials: Iterable[FrozenTrial], job: Job) -> list[FrozenTrial]:
    """The trials, in any state, whose identity is the job's."""
    own = identity(job).items()
    return [
        trial for trial in trials if all(trial.user_attrs.get(name) == value for name, value in own)
    ]


def answer(trials: Iterable[FrozenTrial], job: Job) -> FrozenTrial | None:
    """The first finished trial whose identity is the job's."""
    return next((trial for trial in alike(trials, job) if trial.state in FINISHED), None)


def job_of(trial: FrozenTrial) -> Job:
    """The job of a trial."""
    attributes = trial.user_attrs
    return Job(
        name=attributes["job"],
        architecture=Architecture.from_dict(
            attributes["architecture"], source=f"trial {trial.number}"
        ),
        budget=Budget(**attributes["budget"]),
    )


def checked(measurement: Measurement) -> Measurement:
    """`measurement`, or a FAILED one if its accuracy is not a fraction."""
    accuracy = measurement.accuracy
    if measurement.status is Status.PRUNED and accuracy is None and measurement.epochs:
        accuracy = measurement.epochs[-1].accuracy
        measurement = replace(measurement, accuracy=accuracy)
    if not measurement.finished or (accuracy is not None and 0 <= accuracy <= 1):
        return measurement
    reason = f"accuracy must be in [0, 1], but the evaluation returned {accuracy}"
    return replace(measurement, status=Status.FAILED, accuracy=None, reason=reason)


def measurement_of(trial: FrozenTrial) -> Measurement:
    """The measurement of a trial; raises ValueError if it has not ended."""
    record = trial.user_attrs.get("measurement")
    if record is None:
        raise ValueError(f"trial {trial.number} holds no measurement: it has not ended")
    epochs = tuple(Epoch(**epoch) for epoch in record["epochs"])
    return Measurement(**{**record, "status": Status(record["status"]), "epochs": epochs})


def _as_json(value: Any) -> Any:
    """`value` with lists for tuples, and null for numbers that are not finite."""
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
