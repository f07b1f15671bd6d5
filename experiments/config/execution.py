"""The sections `executor` and `logging`: where trainings run, and where they are shown."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from experiments.config.value_types import Section, Workers


class ExecutorConfig(Section):
    """Where trainings run."""

    kind: Literal["local", "processes", "ray"] = "local"
    """`local`: one after the other in this process; `processes`: several at a time on this machine;
    `ray`: on a Ray cluster."""
    workers: Workers = "auto"
    """Trainings at a time; `auto`: one per GPU, or without one as many as `threads` leaves cores
    for, or as a short measurement at the run's start finds fastest."""
    pack: Workers = 1
    """Trainings at a time in this process on one GPU (`kind: local`), as far as its memory is
    foreseen to hold them; `auto`: 4 on a GPU, 1 on a CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of a training; none: the cores, divided among the workers."""
    address: str | None = None
    """HOST:PORT of a running Ray cluster (`kind: ray`); none: one on this machine, for the run."""
    checkpoints: str | None = None
    """Folder or fsspec URL (s3://…) of checkpoints and weights, one for all machines of a cluster;
    none: the run's folder."""
    gpus_per_trial: Annotated[float, Field(gt=0)] | None = None
    """GPUs of a training (`kind: ray`), 0.5 for two on one; none: one where the cluster has any."""

    @model_validator(mode="after")
    def _local_is_alone(self) -> Self:
        if self.kind == "local" and self.workers not in ("auto", 1):
            raise ValueError(
                "`kind: local` makes one training at a time, but got "
                f"`workers: {self.workers}`; choose `kind: processes`, or `workers: auto`"
            )
        if self.kind != "local" and self.pack != 1:
            raise ValueError(
                f"`pack` is of `kind: local`, but got `pack: {self.pack}` with `kind: {self.kind}`"
            )
        return self


class LoggingConfig(Section):
    """Where trainings are shown beside the run's own storage and report."""

    tensorboard: bool = False
    """Event files for TensorBoard, in `tensorboard/` of the run's folder."""
    mlflow: str | None = None
    """An MLflow tracking URI: a server's `http://…`, or `sqlite:///mlflow.db`; none: no MLflow."""
