"""Families planned: a baseline scaled to given φ or to given costs, ready to be trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import geometric_mean

from scaling.coefficients import Coefficients
from scaling.compound import scale
from scaling.rules import Uniform, compound, phi_of
from scaling.targets import MEASURES, Measure, macs, reach, reach_measured
from space.architecture import Architecture
from space.cost import Cost, cost
from space.evaluation import Budget, Job
from space.validation import InvalidInput

#: Dropout rises linearly from 0.2 for B0 to 0.5 for B7 (EfficientNet, section 5.2), taken as seven
#: steps of φ (assumed: the paper gives no φ for them), and the larger B8 and L2 keep 0.5 (official
#: code). So it grows by this part of the baseline's own with each step.
_GROWTH = (0.5 / 0.2 - 1) / 7
_MOST_DROPOUT = 0.5

#: All published members have this rate of stochastic depth (section 5.2: survival probability 0.8;
#: official code: `drop_connect_rate`). A baseline below it grows towards it as dropout does
#: (assumed).
_MOST_STOCHASTIC_DEPTH = 0.2


@dataclass(frozen=True, slots=True)
class PlannedMember:
    """One network of a family: the baseline at `phi`, scaled by `depth` and `width`.

    If it was made for a target cost, `miss` is the signed deviation from `target` as a fraction,
    and its depth and width may be rounded as at slightly different `phi`.
    """

    name: str
    phi: float
    depth: float
    width: float
    architecture: Architecture
    target: int | float | None = None
    miss: float | None = None

    @property
    def resolution(self) -> int:
        """Input pixels, along a side."""
        return self.architecture.resolution

    @property
    def cost(self) -> Cost:
        """Exact cost at the member's own resolution."""
        return cost(self.architecture)


@dataclass(frozen=True, slots=True)
class PlannedFamily:
    """A baseline's scaled members, named b0, b1 … in the order they were asked for."""

    coefficients: Coefficients
    members: tuple[PlannedMember, ...]

    @property
    def duplicates(self) -> tuple[tuple[str, str], ...]:
        """Pairs (name, earlier name) of members that rounding made the same network.

        The same but for dropout and stochastic depth, which act in training only.
        """
        first: dict[str, str] = {}
        pairs = []
        for member in self.members:
            plain = replace(member.architecture, dropout=0.0, stochastic_depth=0.0)
            earlier = first.setdefault(plain.key, member.name)
            if earlier != member.name:
                pairs.append((member.name, earlier))
        return tuple(pairs)

    def jobs(self, budget: Budget) -> tuple[Job, ...]:
        """One training run of each member, by its name."""
        return tuple(Job(member.name, member.architecture, budget) for member in self.members)


def family_at(
    baseline: Architecture,
    coefficients: Coefficients,
    phis: Iterable[float],
    *,
    multiple: int = 1,
) -> PlannedFamily:
    """The family with a member at each φ; fractions and negatives are allowed.

    Resolutions are multiples of `multiple` pixels; above φ = 0 none is below the baseline's.
    Dropout and stochastic depth grow with φ (see `regularised`). Raises `InvalidInput` if a member
    exceeds an architecture's bounds.
    """

    def member(number: int, phi: float) -> PlannedMember:
        factors = coefficients.at(phi)
        try:
            network = scale(baseline, **factors._asdict(), multiple=multiple)
            if phi > 0 and network.resolution < baseline.resolution:
                network = replace(network, resolution=network.resolution + multiple)
        except ValueError as error:
            raise InvalidInput(
                f"family.phi: no network can be made at φ = {phi:g}: {error}"
            ) from None
        network = regularised(network, phi)
        return PlannedMember(f"b{number}", phi, factors.depth, factors.width, network)

    return PlannedFamily(coefficients, tuple(member(*each) for each in enumerate(phis)))


def family_for(
    baseline: Architecture,
    coefficients: Coefficients,
    targets: Iterable[int | float],
    *,
    rule: Uniform | None = None,
    measure: Measure = macs,
    multiple: int = 1,
) -> PlannedFamily:
    """The family with a member for each target cost, within 1 % where rounding allows.

    `scaling.targets.reach` (`reach_measured` for a measured cost) solves for the rule's factor and
    the rounding; each member has its `miss`. The default rule is compound scaling. The φ of another
    rule is that of compound scaling by the same factor, so that members with equal MACs get the
    same regularisation.
    """
    grow = rule or compound(coefficients)

    def member(number: int, target: int | float) -> PlannedMember:
        solve = reach if measure in MEASURES.values() else reach_measured
        found = solve(grow, baseline, target, measure=measure, multiple=multiple)
        phi = phi_of(coefficients, found.factor)
        depth, width = grow.factors(found.factor)[:2]
        network = regularised(found.architecture, phi)
        return PlannedMember(f"b{number}", phi, depth, width, network, target, found.miss)

    return PlannedFamily(coefficients, tuple(member(*each) for each in enumerate(targets)))


def stage_means(network: Architecture, baseline: Architecture) -> tuple[float, float]:
    """The factors of depth (of all repeats) and width (geometric mean over stages)."""
    pairs = list(zip(network.stages, baseline.stages, strict=True))
    depth = sum(new.repeats for new, _ in pairs) / sum(old.repeats for _, old in pairs)
    return depth, geometric_mean(new.channels / old.channels for new, old in pairs)


def regularised(architecture: Architecture, phi: float) -> Architecture:
    """The same network with the dropout and stochastic depth of a member at φ.

    Both grow linearly from the baseline's, which `architecture` has, up to the largest published
    (0.5 and 0.2, or the baseline's if larger), and shrink towards 0 below φ = 0. If the baseline
    has none, so do the members.
    """
    return replace(
        architecture,
        dropout=_grown(architecture.dropout, phi, _MOST_DROPOUT),
        stochastic_depth=_grown(architecture.stochastic_depth, phi, _MOST_STOCHASTIC_DEPTH),
    )


def _grown(rate: float, phi: float, most: float) -> float:
    return round(max(0.0, min(rate * (1 + _GROWTH * phi), max(rate, most))), 4)
