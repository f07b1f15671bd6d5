"""The sections of stage 1: `evaluator`, `objective`, `search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from experiments.config.training import BudgetConfig
from experiments.config.value_types import Amount, CostKind, Fraction, Quantity, Seconds, Section


class EvaluatorConfig(Section):
    """What measures the networks of the search: trainings, or records of trainings made before."""

    kind: Literal["train", "records"] = "train"
    """`train`: train them on `data`; `records`: look them up, which needs no images. Records know
    the networks of one space alone, so that coefficients and family need trainings."""
    records: Path | None = None
    """The records: the archive of Accel-NASBench, as it is published."""
    surrogate: Literal["none", "gaussian_process", "boosting"] = "gaussian_process"
    """What predicts networks that are not recorded; `none`: these fail."""
    noise: Fraction = 0.0
    """Standard deviation added to predicted accuracies, as a fraction; 0.003 is realistic."""


class BoundsConfig(Section):
    """Hard bounds on the exact cost, both ends included."""

    macs: tuple[Quantity, Quantity] | None = None
    """Least and most multiply–adds at the run's resolution."""
    params: tuple[Quantity, Quantity] | None = None
    """Least and most parameters."""
    activations: tuple[Quantity, Quantity] | None = None
    """Least and most elements of convolution outputs."""
    latency: tuple[Seconds, Seconds] | None = None
    """Least and most seconds, by the latency table; `5ms` may be written."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in get_args(CostKind):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name}: `least <= most` must hold, but got {list(pair)}")
        return self


class ObjectiveConfig(Section):
    """The reward: accuracy · (cost / target)^w (MnasNet, section 3.1); or several objectives."""

    metric: Literal["top1", "balanced"] = "top1"
    """Accuracy over all images, or the mean over classes."""
    cost: CostKind = "macs"
    """Which cost enters the reward."""
    target: Amount
    """T, in units of `cost`: a count, or seconds, which may be written `5ms`."""
    exponent_below: Annotated[float, Field(le=0)] = -0.07
    """w where cost <= target."""
    exponent_above: Annotated[float, Field(le=0)] = -0.07
    """w where cost > target."""
    bounds: BoundsConfig = BoundsConfig()
    """Candidates outside are rejected before training."""
    pareto: tuple[CostKind, ...] = ()
    """Costs that are minimised beside accuracy: the search then looks for a Pareto front, and the
    reward only chooses the baseline from it. Not with a pruner."""
    latency_table: Path | None = None
    """What `latency` means: the table that `phiscale latency SPACE --build-table FILE` measured."""

    @model_validator(mode="after")
    def _meant(self) -> Self:
        latency = "latency" in (self.cost, *self.pareto) or self.bounds.latency is not None
        if latency and self.latency_table is None:
            raise ValueError(
                "latency_table: must name a table where latency is a cost; measure one with "
                "phiscale latency SPACE --resolution N --build-table FILE"
            )
        if "latency" in self.pareto and self.bounds.latency is None:
            raise ValueError(
                "bounds.latency: least and most seconds are needed where `pareto` names latency, "
                "since a hypervolume needs an end"
            )
        if len(set(self.pareto)) < len(self.pareto):
            raise ValueError(f"pareto: costs must differ, but got {list(self.pareto)}")
        if self.cost != "latency" and self.target != int(self.target):
            raise ValueError(f"target: must be a whole number of {self.cost}, got {self.target}")
        return self


class PrunerConfig(Section):
    """Which unpromising trainings end early, judged on the reward after each epoch."""

    kind: Literal["none", "median", "hyperband", "asha"] = "median"
    """Optuna's pruner; on Ray, `asha` is Ray Tune's scheduler."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs before the first judgement."""
    startup_trials: Annotated[int, Field(ge=0)] = 5
    """Finished trials before the median pruner judges."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """Hyperband's and ASHA's reduction factor: one in so many goes on."""


class SearchConfig(BudgetConfig):
    """Stage 1: find the baseline."""

    trials: Annotated[int, Field(ge=1)]
    """Finished trainings (complete or pruned)."""
    sampler: str = "predictor"
    """Which sampler proposes candidates: predictor, tpe, tpe_multivariate, evolution, local,
    controller, nsga2, nsga3, gp, random or brute_force."""
    warm_start: tuple[str, ...] = ()
    """Earlier searches (run folders or storage URLs) and files of records that the sampler
    `predictor` learns from, also of other data; the space must offer the same choices. They are
    read once, when the search begins. No other sampler can use them."""
    pruner: PrunerConfig = PrunerConfig()
    """Early stopping of trials."""
    finalists: Annotated[int, Field(ge=1)] = 5
    """The best candidates that are trained longer to choose the winner (MnasNet took 15)."""
    final_epochs: Annotated[int, Field(ge=1)]
    """Epochs of a finalist's training."""
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds without the end of an epoch after which a training of any stage hangs, and fails;
    none: never."""
