"""The sections of stages 2 and 3: `coefficients` and `family`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from experiments.config.training import BudgetConfig
from experiments.config.value_types import Amount, CostKind, Section, Workers
from scaling import rules
from space import presets
from space.validation import one_of


class CoefficientsConfig(Section):
    """Stage 2: the grid search for α (depth), β (width) and γ (resolution)."""

    alpha: Annotated[float, Field(ge=1)] | None = None
    """Pins α; with β and γ pinned too, the stage is skipped."""
    beta: Annotated[float, Field(ge=1)] | None = None
    """Pins β."""
    gamma: Annotated[float, Field(ge=1)] | None = None
    """Pins γ."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Distance of two grid values of one coefficient."""
    tolerance: Annotated[float, Field(ge=0)] = 0.2
    """How far from `factor` a candidate may be: its MACs over the baseline's, or where `constraint`
    is `nominal` its α·β²·γ²."""
    factor: Annotated[float, Field(gt=1)] = 2.0
    """What one step of φ multiplies MACs by."""
    phi: float = 1.0
    """The φ at which candidates are compared: above 1 around a larger network, which the paper
    notes to be better where affordable, below 0 around a smaller one; not 0."""
    compare_phi: float | None = None
    """Another φ at which the same grid is trained, to see whether its answer carries over."""
    constraint: Literal["realised", "equal_cost", "nominal"] = "realised"
    """Whether the MACs after rounding must be near `factor` for each step of φ, or, as in the
    paper, α·β²·γ²; `equal_cost` chooses γ's pixels so that all candidates cost alike."""
    method: Literal["grid", "race"] = "grid"
    """`grid` trains every candidate alike; `race` trains the better ones longer, with several
    seeds, until the best is told apart."""
    seeds: Annotated[int, Field(ge=2, le=20)] = 3
    """Seeds of each of a race's finalists, at most."""
    epochs: Annotated[int, Field(ge=1)] = 5
    """Epochs of one candidate's training."""
    data_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images that is used."""

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        pinned = [name for name in ("alpha", "beta", "gamma") if getattr(self, name) is not None]
        if len(pinned) in (1, 2):
            rule = "alpha, beta and gamma are pinned together or not at all"
            raise ValueError(f"{rule}, but got only {' and '.join(pinned)}")
        return self

    @model_validator(mode="after")
    def _grown(self) -> Self:
        if 0 in (self.phi, self.compare_phi):
            raise ValueError("at φ = 0 all candidates are the baseline; choose another phi")
        if self.compare_phi == self.phi:
            raise ValueError(f"compare_phi must be another φ than phi, but both are {self.phi:g}")
        if self.compare_phi is not None and self.method != "grid":
            raise ValueError(
                "compare_phi needs `method: grid`: a race trains its candidates unequally"
            )
        return self

    @property
    def pinned(self) -> bool:
        """Whether the recipe gives α, β and γ, so that there is nothing to search."""
        return self.alpha is not None


class FamilyConfig(BudgetConfig):
    """Stage 3: scale the baseline, train and export the members."""

    phi: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)
    """One member each, in this order: b0, b1 …; fractions and negatives are allowed."""
    targets: tuple[Amount, ...] = ()
    """Costs to hit instead, one member each; φ follows from them. A latency may be written 5ms."""
    cost: CostKind = "macs"
    """Which cost `targets` are of; `latency` is measured, of one image, where members are
    trained."""
    rule: Literal["compound", "depth", "width", "resolution", "fast", "per_stage"] = "compound"
    """How the baseline grows to `targets`: by α, β, γ, in one dimension alone, by pycls' fast
    scaling, or `per_stage`: the best single stage at a time, made deeper or wider, each step chosen
    by trainings like those of the coefficients."""
    multiple: Annotated[int, Field(ge=1)] = 1
    """Resolutions are multiples of this many pixels."""
    rivals: tuple[str, ...] = ()
    """Trained and tested beside the family, for the report to compare: rules of growth (depth,
    width, resolution, fast, compound), each at the members' MACs, and presets, each as it is."""
    processes: Workers = 1
    """Processes of this machine that train one member together, each with its part of every batch;
    `auto`: one per GPU, or CPU core. With more than one, members are trained one by one."""

    @model_validator(mode="after")
    def _known_rivals(self) -> Self:
        known = [*rules.NAMES, *presets.names()]
        for name in self.rivals:
            if name not in known:
                raise ValueError(str(one_of("rivals", name, known)))
            if name == self.rule:
                raise ValueError(f"rivals: the family itself grows by the rule {name!r}")
        return self

    @model_validator(mode="after")
    def _some_member(self) -> Self:
        if not self.phi and not self.targets:
            raise ValueError("the family needs at least one value in `phi` or in `targets`")
        if self.rule != "compound" and not self.targets:
            raise ValueError(f"the rule {self.rule!r} needs `targets`: it has no φ to grow by")
        if self.cost != "latency" and any(target != int(target) for target in self.targets):
            raise ValueError(f"targets: must be whole numbers of {self.cost}, got {self.targets}")
        if self.rule == "per_stage" and self.cost != "macs":
            raise ValueError(f"the rule 'per_stage' grows to MACs, but `cost` is {self.cost!r}")
        if (self.rule, self.cost) == ("resolution", "params"):
            raise ValueError(
                "the rule 'resolution' does not change params; choose another rule, or another cost"
            )
        return self
