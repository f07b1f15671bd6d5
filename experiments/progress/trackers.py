"""Logs training runs to TensorBoard and MLflow, in addition to the run's storage.

A tracker that fails is dropped with a warning; it never ends a run. Jobs that are answered from the
storage were logged when they were trained, and are not logged again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from experiments.config import LoggingConfig
from experiments.progress import log
from reports.formatting import without_password
from space.cost import cost
from space.evaluation import Epoch, Job, Measurement, Observer, Status
from space.optional import needed

#: The folder of TensorBoard's event files, in the run's folder.
TENSORBOARD = "tensorboard"


class Tracker(Protocol):
    """Logs training runs somewhere else; may raise, which `tracking` handles."""

    def epoch(self, stage: str, job: Job, epoch: Epoch) -> None:
        """Logs an epoch of a running job."""

    def result(self, stage: str, job: Job, measurement: Measurement, value: float | None) -> None:
        """Logs the end of a job; `value` is what the stage maximises, None if the job failed."""

    def close(self) -> None:
        """Ends the logs that are still open."""


def trackers_of(settings: LoggingConfig, folder: Path, name: str) -> list[Tracker]:
    """The trackers that a recipe asks for; `folder` and `name` are the run's.

    Raises `InvalidInput` if a package is not installed.
    """
    found: list[Tracker] = []
    if settings.tensorboard:
        found.append(TensorBoard(folder / TENSORBOARD))
    if settings.mlflow is not None:
        found.append(MLflow(settings.mlflow, name))
    return found


@contextmanager
def tracking(
    stage: str, trackers: Sequence[Tracker], value: Callable[[float, Job], float]
) -> Iterator[Observer]:
    """An observer that logs the training runs of a stage to all of `trackers`."""
    observer = _Tracking(stage, list(trackers), value)
    try:
        yield observer
    finally:
        observer.each(lambda tracker: tracker.close())


@dataclass
class _Tracking(Observer):
    stage: str
    trackers: list[Tracker]
    value: Callable[[float, Job], float]

    def epoch(self, job: Job, epoch: Epoch) -> None:
        self.each(lambda tracker: tracker.epoch(self.stage, job, epoch))

    def ended(self, job: Job, measurement: Measurement) -> None:
        known = measurement.accuracy is not None and measurement.finished
        value = self.value(measurement.accuracy or 0.0, job) if known else None
        self.each(lambda tracker: tracker.result(self.stage, job, measurement, value))

    def each(self, act: Callable[[Tracker], None]) -> None:
        """Calls `act` with every tracker, and drops those that fail."""
        for tracker in tuple(self.trackers):
            try:
                act(tracker)
            except Exception as error:  # whatever a server or a disk may do
                self.trackers.remove(tracker)
                reason = without_password((str(error).splitlines() or ["no message"])[0])
                log.remark(
                    f"logging: {type(tracker).__name__} failed ({type(error).__name__}: {reason}); "
                    "the run continues without it"
                )


def described(stage: str, job: Job) -> dict[str, str | int | float]:
    """What is known about a job before it is trained, by the column names of the run's tables."""
    network, budget = job.architecture, job.budget
    resolution = budget.resolution or network.resolution
    return {
        "study": stage,
        "job": job.name,
        **cost(network, resolution)._asdict(),
        "resolution": resolution,
        "epochs": budget.epochs,
        "data_fraction": budget.data_fraction,
        "seed": budget.seed,
        "key": network.key,
    }


def _curves(epoch: Epoch) -> dict[str, float]:
    found = {"accuracy": epoch.accuracy, "loss": epoch.loss, "train_loss": epoch.train_loss}
    return {name: each for name, each in found.items() if each is not None}


def _outcome(measurement: Measurement, value: float | None) -> dict[str, float]:
    found = {
        "final/accuracy": measurement.accuracy,
        "final/value": value,
        "final/train_seconds": measurement.train_seconds,
    }
    return {name: each for name, each in found.items() if each is not None}


@dataclass
class TensorBoard:
    """Writes event files: `folder`/STAGE/JOB has the curves and HPARAMS row of a training run."""

    folder: Path
    _writers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        needed("tensorboard", "tensorboard", "logging.tensorboard")

    def epoch(self, stage: str, job: Job, epoch: Epoch) -> None:
        """Adds the values of the curves."""
        writer = self._writer(stage, job)
        for name, value in _curves(epoch).items():
            writer.add_scalar(name, value, epoch.epoch)

    def result(self, stage: str, job: Job, measurement: Measurement, value: float | None) -> None:
        """Adds the row and closes the training run's file."""
        writer = self._writer(stage, job)
        row = described(stage, job) | {"status": str(measurement.status)}
        writer.add_hparams(row, _outcome(measurement, value), run_name=".")
        if measurement.reason:
            writer.add_text("reason", measurement.reason)
        self._writers.pop(job.name).close()

    def close(self) -> None:
        """Closes the files of interrupted training runs."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _writer(self, stage: str, job: Job) -> Any:
        if job.name not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            place = self.folder / stage / _file_name(job.name)
            self._writers[job.name] = SummaryWriter(place)
        return self._writers[job.name]


def _file_name(job: str) -> str:
    return re.sub(r"[^\w.]+", "-", job).strip("-.") or "job"


_ENDS = {Status.COMPLETE: "FINISHED", Status.PRUNED: "KILLED", Status.FAILED: "FAILED"}


@dataclass
class MLflow:
    """One MLflow run per training run, on the tracking server or database `uri`."""

    uri: str
    experiment: str
    _client: Any = None
    _experiment_id: str = ""
    _runs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        needed("mlflow", "mlflow", "logging.mlflow")

    def epoch(self, stage: str, job: Job, epoch: Epoch) -> None:
        """Logs the values of the curves."""
        self._metrics(self._run(stage, job), _curves(epoch), epoch.epoch)

    def result(self, stage: str, job: Job, measurement: Measurement, value: float | None) -> None:
        """Logs the outcome and ends the run."""
        run = self._run(stage, job)
        self._metrics(run, _outcome(measurement, value), len(measurement.epochs))
        if measurement.reason:
            self._client.set_tag(run, "reason", measurement.reason)
        self._client.set_terminated(run, _ENDS[measurement.status])
        del self._runs[job.name]

    def close(self) -> None:
        """Ends the MLflow runs of interrupted training runs."""
        while self._runs:
            self._client.set_terminated(self._runs.popitem()[1], "KILLED")

    def _run(self, stage: str, job: Job) -> str:
        if job.name not in self._runs:
            from mlflow.entities import Param

            self._open()
            tags = {"phiscale.stage": stage}
            name = f"{stage} {job.name}"
            run = self._client.create_run(self._experiment_id, run_name=name, tags=tags).info.run_id
            self._runs[job.name] = run
            params = [Param(key, str(value)) for key, value in described(stage, job).items()]
            self._client.log_batch(run, params=params)
        return self._runs[job.name]

    def _open(self) -> None:
        """Connects at the first training run, where an unreachable server gives a warning."""
        if self._client is None:
            from mlflow import MlflowClient

            self._client = MlflowClient(self.uri)
            known = self._client.get_experiment_by_name(self.experiment)
            self._experiment_id = (
                known.experiment_id if known else self._client.create_experiment(self.experiment)
            )

    def _metrics(self, run: str, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(run, metrics=metrics)
