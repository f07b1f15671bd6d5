"""A recipe whole: all of its sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from experiments.config.data import DataConfig
from experiments.config.execution import ExecutorConfig, LoggingConfig
from experiments.config.scaling import CoefficientsConfig, FamilyConfig
from experiments.config.search import EvaluatorConfig, ObjectiveConfig, SearchConfig
from experiments.config.training import TrainConfig
from experiments.config.value_types import Section

RUN_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


def _kind(value: Any) -> Any:
    """A section whose kind alone is given."""
    return {"kind": value} if isinstance(value, str) else value


class Common(Section):
    """What recipes of runs and of scaling studies share."""

    name: Annotated[str, Field(pattern=rf"^{RUN_NAME.pattern}$")]
    """The run's name, and its folder under `runs/`."""
    description: str = ""
    """One line for `phiscale recipes`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Everything random follows from it."""
    storage: str | None = None
    """URL of an Optuna storage of the run's own (sqlite, journal, postgresql, mysql); none:
    `study.db` in the run's folder; `journal`: `study.journal` there, for network drives."""
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    executor: ExecutorConfig = ExecutorConfig()
    logging: LoggingConfig = LoggingConfig()


class Recipe(Common):
    """A whole run."""

    space: str
    """Name of a shipped space, or path of a YAML file."""
    resolution: Annotated[int, Field(ge=8, le=4096)]
    """Pixels at which the baseline is searched."""
    evaluator: Annotated[EvaluatorConfig, BeforeValidator(_kind)] = EvaluatorConfig()
    objective: ObjectiveConfig
    search: SearchConfig
    coefficients: CoefficientsConfig = CoefficientsConfig()
    family: FamilyConfig

    @property
    def tune_prunes(self) -> bool:
        """Whether Ray Tune's scheduler prunes the search, in place of the study's pruner."""
        return self.executor.kind == "ray" and self.search.pruner.kind == "asha"

    @model_validator(mode="after")
    def _samplable(self) -> Self:
        from search import samplers  # optuna: not needed for help

        search = self.search
        samplers.check(
            search.sampler, several=bool(self.objective.pareto), prior=bool(search.warm_start)
        )
        return self

    @model_validator(mode="after")
    def _prunable(self) -> Self:
        if self.objective.pareto and self.search.pruner.kind != "none":
            raise ValueError(
                "search.pruner.kind: must be none with `objective.pareto`, since a pruner judges "
                f"one reward, but got {self.search.pruner.kind}"
            )
        return self


def value_keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """All keys of a recipe that hold a value, as `--set` writes them: `search.trials`."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from value_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name
