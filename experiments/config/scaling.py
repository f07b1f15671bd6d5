"""The sections of stages 2 and 3: `coefficients` and `family`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from experiments.config.training import BudgetConfig
from experiments.config.value_types import Amount, CostKind, Epochs, Scale, Section, Workers
from scaling import rules
from scaling.coefficients import Coefficients
from space import presets
from space.validation import one_of

Coefficient = Annotated[float, Field(ge=1, le=10)]
Phi = Annotated[float, Field(ge=-20, le=20)]


class CoefficientsConfig(Section):
    """Stage 2: the grid search for α (depth), β (width) and γ (resolution)."""

    alpha: Coefficient | None = None
    """Fixes α. If β and γ are fixed too, the stage is skipped."""
    beta: Coefficient | None = None
    """Fixes β."""
    gamma: Coefficient | None = None
    """Fixes γ."""
    step: Annotated[float, Field(ge=0.001, le=1)] = 0.1
    """Distance between two grid values of one coefficient."""
    tolerance: Annotated[float, Field(ge=0, le=100)] = 0.2
    """Maximum distance of a candidate from `factor`, measured by its MACs relative to the
    baseline's, or by α·β²·γ² with `constraint: nominal`."""
    factor: Annotated[float, Field(gt=1, le=100)] = 2.0
    """Factor by which one step of φ multiplies the MACs."""
    phi: Phi = 1.0
    """The φ at which candidates are compared. A value above 1 compares larger networks, which the
    paper calls better where affordable; a value below 0 compares smaller ones. Not 0."""
    compare_phi: Phi | None = None
    """A second φ at which the same grid is trained, to see whether its answer carries over."""
    constraint: Literal["realised", "equal_cost", "nominal"] = "realised"
    """`realised`: the MACs after rounding must be near `factor` for each step of φ; `nominal`:
    α·β²·γ² must be, as in the paper; `equal_cost`: γ is chosen so that all candidates cost the
    same."""
    method: Literal["refine", "race", "grid", "elastic"] = "refine"
    """`refine`: train every candidate once and the best four again with several seeds; `race`:
    train all for part of the epochs and the better ones longer; `grid`: train each once;
    `elastic`: measure all as parts of elastic networks of `evaluator.epochs`, one for each seed,
    and train the best four as `refine` does."""
    seeds: Annotated[int, Field(ge=2, le=20)] = 3
    """Number of seeds with which `refine` compares the finalists; the maximum for `race`; and the
    number of elastic networks."""
    epochs: Epochs = 5
    """Epochs of a candidate's training run."""
    data_fraction: Scale = 1.0
    """Fraction of the training images that is used."""

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        pinned = [name for name in ("alpha", "beta", "gamma") if getattr(self, name) is not None]
        if len(pinned) in (1, 2):
            raise ValueError(
                f"set all of alpha, beta and gamma or none, but got only {' and '.join(pinned)}"
            )
        return self

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if 0 in (self.phi, self.compare_phi):
            raise ValueError("phi: must not be 0, because at φ = 0 all candidates are the baseline")
        if self.compare_phi == self.phi:
            raise ValueError(f"compare_phi: must differ from phi, but both are {self.phi:g}")
        if self.compare_phi is not None and self.method != "grid":
            raise ValueError(
                "compare_phi: needs `method: grid`, which trains all candidates equally"
            )
        return self

    @property
    def pinned(self) -> Coefficients | None:
        """α, β and γ where the recipe fixes them, so that there is nothing to search."""
        if self.alpha is None or self.beta is None or self.gamma is None:
            return None
        return Coefficients(self.alpha, self.beta, self.gamma)


class FamilyConfig(BudgetConfig):
    """Stage 3: scale the baseline, then train and export the members."""

    phi: tuple[Phi, ...] = (0.0, 1.0, 2.0, 3.0)
    """One member for each φ, in this order: b0, b1 …. Fractions and negative values are allowed."""
    targets: tuple[Amount, ...] = ()
    """One member for each cost, instead of `phi`. A latency may be written 5ms."""
    cost: CostKind = "macs"
    """Unit of `targets`. `latency` is measured for one image on the machine that trains the
    members."""
    rule: Literal["compound", "depth", "width", "resolution", "fast", "learned"] = "compound"
    """How the baseline grows or shrinks to `targets`: by α, β and γ; in one dimension alone; by
    pycls' fast scaling; or `learned`, which gives each stage a depth and a width of its own, by
    training runs like those of the coefficients. It ships compound scaling's member where
    `coefficients.seeds` paired seeds do not tell what it found to be better."""
    runs: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Maximum number of these training runs for the rule `learned`, over all members together."""
    grow: bool = False
    """Whether each member starts from the trained weights of the next smaller one, or from the
    run's `start` where that is nearer in MACs, and its resolution grows last."""
    teacher: Annotated[str, Field(pattern=r"^b\d{1,3}$")] | None = None
    """Member, such as b3, whose outputs the others learn from besides the labels (knowledge
    distillation). It is trained first."""
    patience: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Stop training a member when its accuracy on the held-out images has not risen for so many
    epochs, and keep the weights of its best epoch. Needs `data.return_held_out: false`. Default:
    train for all `epochs`."""
    int8: bool = False
    """Whether every member is quantised to 8 bits after training, with ranges from held-out images,
    and measured on the test images again. Needs the extra `onnx`; with the extra `litert`, it is
    also written as model.int8.tflite."""
    multiple: Annotated[int, Field(ge=1, le=1024)] = 1
    """Round resolutions to multiples of this many pixels."""
    rivals: tuple[str, ...] = ()
    """Networks trained and tested like the members, at the MACs of each, for comparison: what a
    scaling rule makes of the baseline (depth, width, resolution, fast, compound); presets, and
    `start`, the network of the recipe's start, whose resolution is solved (from 32 pixels to those
    of the images), then their width for the rest; `base`, the space's base network, and `random`,
    networks drawn within the bounds, scaled by the rule of the family."""
    test_resolutions: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = ()
    """Factors of its own resolution at which each trained member is also measured, with the same
    weights, such as [1.0, 1.25, 1.5]. The most accurate resolution on the held-out images is
    exported where these tell it from the member's own; it needs `data.return_held_out: false`."""
    processes: Workers = 1
    """Number of processes on this machine that train one member together, each with its part of
    every batch. `auto`: one per GPU, or per CPU core. With more than one, members are trained one
    after another."""

    @model_validator(mode="after")
    def _known_rivals(self) -> Self:
        known = [*rules.NAMES, "random", "base", "start", *presets.names()]
        for name in self.rivals:
            if name not in known:
                raise ValueError(str(one_of("rivals", name, known)))
            if name == self.rule:
                raise ValueError(f"rivals: {name!r} is the rule of the family itself; remove it")
        return self

    @model_validator(mode="after")
    def _has_members(self) -> Self:
        if not self.phi and not self.targets:
            raise ValueError("needs at least one value in `phi` or in `targets`")
        members = [f"b{number}" for number in range(len(self.targets or self.phi))]
        if self.teacher is not None and self.teacher not in members:
            raise ValueError(
                f"teacher: must be a member, {members[0]} to {members[-1]}, but got {self.teacher}"
            )
        if self.rule != "compound" and not self.targets:
            raise ValueError(f"rule: {self.rule!r} needs `targets`, because it has no φ")
        if self.cost != "latency" and any(target != int(target) for target in self.targets):
            raise ValueError(
                f"targets: must be whole numbers of {self.cost}, but got {list(self.targets)}"
            )
        if (self.rule, self.cost) == ("learned", "latency"):
            raise ValueError(
                "cost: the rule 'learned' needs a computed one, macs, params or activations, "
                "because it compares thousands of networks"
            )
        if (self.rule, self.cost) == ("resolution", "params"):
            raise ValueError(
                "cost: the rule 'resolution' does not change params; choose another rule or cost"
            )
        return self
