"""A whole recipe: all of its sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from experiments.config.data import DataConfig
from experiments.config.execution import ExecutorConfig, LoggingConfig
from experiments.config.scaling import CoefficientsConfig, FamilyConfig
from experiments.config.search import EvaluatorConfig, ObjectiveConfig, SearchConfig
from experiments.config.training import StartConfig, TrainConfig
from experiments.config.value_types import Pixels, Section, Seed

RUN_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


def _short_for(key: str) -> BeforeValidator:
    """`evaluator: records` as `evaluator: {kind: records}`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Common(Section):
    """The keys that recipes of runs and of scaling studies share."""

    name: Annotated[str, Field(pattern=rf"^{RUN_NAME.pattern}$")]
    """Name of the run, and of its folder in `runs/`."""
    description: str = ""
    """One line for `phiscale recipes`."""
    seed: Seed = 0
    """Seed of everything random."""
    storage: str | None = None
    """URL of an Optuna storage for this run alone (sqlite, journal, postgresql, mysql), or
    `journal` for `study.journal` in the run's folder, which suits network drives. Default:
    `study.db` in the run's folder."""
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    executor: ExecutorConfig = ExecutorConfig()
    logging: LoggingConfig = LoggingConfig()


class ReportConfig(Section):
    """The report of a run."""

    published: str | None = None
    """Folder `results` of a checkout of timm, whose networks the report of a run on 1,000 classes
    shows beside its own. Default: the networks of the EfficientNet and MnasNet papers."""


class Recipe(Common):
    """The recipe of a run."""

    space: str
    """Name of a shipped search space, or path of a YAML file."""
    resolution: Pixels
    """Resolution in pixels at which the baseline is searched."""
    evaluator: Annotated[EvaluatorConfig, _short_for("kind")] = EvaluatorConfig()
    start: Annotated[StartConfig, _short_for("weights")] = StartConfig()
    objective: ObjectiveConfig
    search: SearchConfig
    coefficients: CoefficientsConfig = CoefficientsConfig()
    family: FamilyConfig
    report: ReportConfig = ReportConfig()

    @property
    def tune_prunes(self) -> bool:
        """Whether Ray Tune's scheduler prunes the search instead of the study's pruner."""
        return self.executor.kind == "ray" and self.search.pruner.kind == "asha"

    @model_validator(mode="after")
    def _sampler_fits(self) -> Self:
        from search import samplers  # imports Optuna, which `--help` does not need

        search = self.search
        samplers.check(
            search.sampler, several=bool(self.objective.pareto), prior=bool(search.warm_start)
        )
        return self

    @model_validator(mode="after")
    def _start_is_used(self) -> Self:
        if self.evaluator.kind == "records" and self.start.weights is not None:
            raise ValueError("start.weights: must be none, because `records` train no networks")
        if "start" in self.family.rivals and self.start.weights is None:
            raise ValueError("family.rivals: `start` needs start.weights; set them, or remove it")
        return self

    @model_validator(mode="after")
    def _finalists_judge(self) -> Self:
        if self.evaluator.kind == "elastic" and self.search.continue_finalists:
            raise ValueError(
                "search.continue_finalists: must be false with evaluator.kind elastic, because "
                "finalists judge the elastic network by training runs of their own"
            )
        return self

    @model_validator(mode="after")
    def _patience_has_images(self) -> Self:
        if self.family.patience is not None and self.data.return_held_out:
            raise ValueError(
                "family.patience: needs held-out images, but the family trains on them; set "
                "data.return_held_out to false"
            )
        return self

    @model_validator(mode="after")
    def _pruner_fits(self) -> Self:
        if self.objective.pareto and self.search.pruner.kind != "none":
            raise ValueError(
                "search.pruner.kind: must be none with `objective.pareto`, because a pruner judges "
                f"a single reward, but got {self.search.pruner.kind}"
            )
        return self


def value_keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """All keys of a recipe that hold a value, as `--set` takes them: `search.trials`."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from value_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name
