"""The sections of stage 1: `evaluator`, `objective`, `search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from experiments.config.training import BudgetConfig
from experiments.config.value_types import (
    Amount,
    CostKind,
    Count,
    Epochs,
    Fraction,
    Positive,
    Quantity,
    Seconds,
    Section,
)
from space.device import Precision

Exponent = Annotated[float, Field(le=0, ge=-1_000)]


class EvaluatorConfig(Section):
    """What measures the networks of the search: training runs, records of earlier ones, or parts
    of one elastic network."""

    kind: Literal["train", "records", "elastic"] = "train"
    """`train`: train the networks on `data`; `records`: look them up, which needs no images;
    `elastic`: train one network whose parts they are, then measure each part. Records cover the
    networks of one space only, so coefficients and family need training runs."""
    epochs: Epochs = 30
    """Epochs of the elastic network, on `search.data_fraction` of the images. Each trains four
    parts."""
    refine: Annotated[int, Field(ge=0, le=10**6)] = 0
    """Epochs that a part of the elastic network trains by itself before it is measured."""
    seeds: Annotated[int, Field(ge=1, le=20)] = 1
    """Number of elastic networks of a search, each trained with a seed of its own. The search uses
    the first. With more, some of its parts are measured again in the others, and the report says
    how well the orders of two seeds agree."""
    records: Path | None = None
    """The records: the archive of Accel-NASBench as published. A table of multipliers (CSV or
    JSON) makes a recipe of `family.rule: learned` alone; see Tables of measured networks."""
    surrogate: Literal["none", "gaussian_process", "boosting"] = "gaussian_process"
    """Model that predicts networks without a record. `none`: such networks fail."""
    noise: Fraction = 0.0
    """Standard deviation added to predicted accuracies, as a fraction. 0.003 is realistic."""


class BoundsConfig(Section):
    """Hard bounds on the exact cost, as [minimum, maximum], or as a maximum of bytes. All ends are
    included."""

    macs: tuple[Quantity, Quantity] | None = None
    """Multiply–adds at the run's resolution."""
    params: tuple[Quantity, Quantity] | None = None
    """Parameters."""
    activations: tuple[Quantity, Quantity] | None = None
    """Elements of all convolution outputs."""
    latency: tuple[Seconds, Seconds] | None = None
    """Seconds according to the latency table. `5ms` is allowed."""
    sram: Quantity | None = None
    """Bytes of all tensors alive at once in inference on one image, in `objective.precision`, in
    the best order. `256K` is 256,000."""
    flash: Quantity | None = None
    """Bytes of weights, biases and what quantisation adds, in `objective.precision`."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in get_args(CostKind):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name}: `minimum <= maximum` must hold, but got {list(pair)}")
        return self


class OverheadConfig(Section):
    """Bytes of `bounds` that networks leave to what else is on the device."""

    sram: Quantity | None = None
    """A runtime's own structures and the gaps of its allocator, or an application's memory."""
    flash: Quantity | None = None
    """The graph's description in a model file, a runtime's code, or an application's."""


class ObjectiveConfig(Section):
    """The reward: accuracy · (cost / target)^w (MnasNet, section 3.1); or several objectives."""

    metric: Literal["top1", "balanced"] = "top1"
    """`top1`: accuracy over all images; `balanced`: mean of the accuracies of the classes."""
    cost: CostKind = "macs"
    """Which cost enters the reward."""
    target: Amount
    """Target T in units of `cost`: a count, or seconds, which may be written `5ms`."""
    exponent_below: Exponent = -0.07
    """w where cost <= target."""
    exponent_above: Exponent = -0.07
    """w where cost > target."""
    bounds: BoundsConfig = BoundsConfig()
    """Candidates outside these bounds are rejected before training."""
    overhead: OverheadConfig = OverheadConfig()
    """Bytes of `bounds.sram` and `bounds.flash` that networks leave free. `phiscale init --sram`
    writes what LiteRT for Microcontrollers takes."""
    precision: Precision = Precision.FLOAT32
    """Type of weights and tensors on the device, float32 or int8: `bounds.sram` and `bounds.flash`
    count its bytes, and the finalists' accuracy is that after quantisation to it. int8 needs the
    extra `onnx`."""
    pareto: tuple[CostKind, ...] = ()
    """Costs to minimise in addition to maximising accuracy: the search looks for a Pareto front,
    and the reward only selects the baseline from it. Cannot be combined with a pruner."""
    latency_table: Path | None = None
    """Latency table that `phiscale latency SPACE --build-table FILE` measured, or the latency.csv
    that a kit (`--kit`) wrote on a device. Required where `latency` is a cost."""

    @property
    def network_bounds(self) -> dict[str, Any]:
        """The bounds by name, less the overhead."""
        taken, bounds = self.overhead.model_dump(exclude_none=True), self.bounds.model_dump()
        return bounds | {name: bounds[name] - each for name, each in taken.items()}

    @property
    def uses_latency(self) -> bool:
        """Whether latency is a cost, an objective, or bounded."""
        return "latency" in (self.cost, *self.pareto) or self.bounds.latency is not None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.uses_latency and self.latency_table is None:
            raise ValueError(
                "latency_table: required where latency is a cost; measure a table with: "
                "phiscale latency SPACE --resolution N --build-table FILE"
            )
        for name, taken in self.overhead.model_dump().items():
            most = getattr(self.bounds, name)
            if taken is not None and (most is None or taken >= most):
                raise ValueError(
                    f"overhead.{name}: must be less than bounds.{name}, but got {taken:,} of "
                    f"{'no bound' if most is None else format(most, ',')}"
                )
        if "latency" in self.pareto and self.bounds.latency is None:
            raise ValueError(
                "bounds.latency: required where `pareto` contains latency, because a hypervolume "
                "needs a maximum; give [minimum, maximum] in seconds"
            )
        if len(set(self.pareto)) < len(self.pareto):
            raise ValueError(f"pareto: costs must differ, but got {list(self.pareto)}")
        if self.cost != "latency" and self.target != int(self.target):
            raise ValueError(
                f"target: must be a whole number of {self.cost}, but got {self.target}"
            )
        return self


class PrunerConfig(Section):
    """Which unpromising training runs are stopped early, judged by their reward per epoch."""

    kind: Literal["none", "median", "hyperband", "asha"] = "median"
    """Optuna's pruner. On Ray, `asha` is Ray Tune's scheduler."""
    warmup_epochs: Annotated[int, Field(ge=0, le=10**6)] = 1
    """Epochs before the first judgement."""
    startup_trials: Annotated[int, Field(ge=0, le=10**9)] = 5
    """Number of finished trials before the median pruner starts."""
    reduction: Annotated[int, Field(ge=2, le=1_000)] = 3
    """Reduction factor of Hyperband and ASHA: one of this many training runs continues."""


class SearchConfig(BudgetConfig):
    """Stage 1: find the baseline."""

    trials: Count
    """Number of finished training runs (complete or pruned)."""
    sampler: str = "predictor"
    """Sampler that suggests candidates: predictor, tpe, tpe_multivariate, evolution, local,
    controller, nsga2, nsga3, gp, random or brute_force."""
    warm_start: tuple[str, ...] = ()
    """Earlier searches (run folders or storage URLs) and files of records from which the sampler
    `predictor` learns, also of other data. Their space must offer the same choices. They are read
    once, when the search starts. Other samplers cannot use them."""
    pruner: PrunerConfig = PrunerConfig()
    """Early stopping of trials."""
    finalists: Annotated[int, Field(ge=1, le=10**6)] = 5
    """Number of best candidates that are trained longer to choose the winner (MnasNet used 15). One
    of two or more is the best of those that the search began with and that needed no search."""
    final_epochs: Epochs
    """Epochs of a finalist's training run; at least `epochs`."""
    continue_finalists: bool = False
    """Whether finalists start from the weights of their short training run."""
    trial_timeout: Positive | None = None
    """Maximum seconds between the ends of two epochs. A training run of any stage that takes longer
    fails. Default: no limit."""

    @model_validator(mode="after")
    def _finalists_train_longer(self) -> Self:
        if self.final_epochs < self.epochs:
            raise ValueError(
                "final_epochs: `epochs <= final_epochs` must hold, because finalists are trained "
                f"longer, but got (epochs={self.epochs}, final_epochs={self.final_epochs})"
            )
        return self
