"""The sections `executor` and `logging`: where training runs execute, and where they are shown."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from experiments.config.value_types import Section, Workers


class ExecutorConfig(Section):
    """Where training runs execute."""

    kind: Literal["local", "processes", "ray"] = "local"
    """`local`: one after another in this process; `processes`: several at a time on this machine;
    `ray`: on a Ray cluster."""
    workers: Workers = "auto"
    """Number of training runs at a time. `auto`: one per GPU; without a GPU, as many as the CPU
    cores allow with `threads` threads each, or as many as a short measurement at the start of the
    run finds fastest."""
    pack: Workers = 1
    """Number of training runs at a time in one process on one GPU, as far as its memory is expected
    to hold them (`kind: local`; with `kind: processes`, in each process). `auto`: on a GPU, as many
    as a short measurement at the start of the run finds fastest; 1 on a CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` uses a GPU if there is one."""
    threads: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """CPU threads of one training run. Default: the cores divided among the workers."""
    address: str | None = None
    """HOST:PORT of a running Ray cluster (`kind: ray`). Default: start one on this machine for the
    run."""
    checkpoints: str | None = None
    """Folder or fsspec URL (s3://…) for checkpoints and weights, shared by all machines of a
    cluster. Default: the run's folder."""
    gpus_per_trial: Annotated[float, Field(gt=0, le=1_000)] | None = None
    """GPUs of one training run (`kind: ray`); 0.5 runs two on one GPU. Default: one if the cluster
    has GPUs."""

    @model_validator(mode="after")
    def _local_is_sequential(self) -> Self:
        if self.kind == "local" and self.workers not in ("auto", 1):
            raise ValueError(
                "`kind: local` executes one training run at a time, but got "
                f"`workers: {self.workers}`; set `kind: processes` or `workers: auto`"
            )
        if self.kind == "ray" and self.pack != 1:
            raise ValueError(
                f"`pack` needs `kind: local` or `processes`, but got `pack: {self.pack}` with "
                f"`kind: {self.kind}`"
            )
        return self


class LoggingConfig(Section):
    """Where training runs are shown in addition to the run's own storage and report."""

    tensorboard: bool = False
    """Write event files for TensorBoard to `tensorboard/` in the run's folder."""
    mlflow: str | None = None
    """An MLflow tracking URI: a server's `http://…`, or `sqlite:///mlflow.db`. Default: no
    MLflow."""
