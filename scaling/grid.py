"""Grids of coefficients: combinations of α, β, γ, and the networks that they make of a baseline.

EfficientNet, section 5.3, holds the nominal product α·β²·γ² near 2. After rounding, networks of one
nominal product differ by half in MACs: the published 1.2, 1.1, 1.15 has the product 1.92 and makes
EfficientNet-B0 cost 2.57 times as much. So a grid can also hold the realised cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import fmean

from scaling.coefficients import Coefficients
from scaling.compound import scale
from scaling.rules import Shares, compound
from scaling.targets import macs, resolutions_near
from space.architecture import Architecture
from space.cost import Cost, cost
from space.validation import InvalidInput

#: Finer grids have more combinations than networks to tell apart (assumed).
MIN_STEP = 0.01

#: What scales nothing, and so is no candidate.
UNSCALED = Coefficients(1.0, 1.0, 1.0)

#: How many times its nominal product a rounded network may cost (measured: 0.93 to 1.96 times for
#: B0, MobileNetV2, ResNet-50 and a small MnasNet at φ = 1; rounding takes a tenth of the channels,
#: and so a fifth of MACs, at most).
_LEAST_REALISED, _MOST_REALISED = 0.7, 2.0


def grid(step: float, tolerance: float, factor: float = 2.0) -> tuple[Coefficients, ...]:
    """All (α, β, γ) on 1, 1 + step, 1 + 2·step … with |α·β²·γ² − factor| <= tolerance, ascending.

    The constraint is on the nominal product, as in the paper; that of `realised` is on the cost
    after rounding. Computed in exact decimals: 1.1 + 0.1 is 1.2, and a product on the bound belongs
    to the grid. (1, 1, 1) does not. Raises `InvalidInput` for invalid values and for an empty grid,
    with a tolerance or step that would give candidates.
    """
    check_grid(step, tolerance, factor)
    found = tuple(each for each in lattice(step, *_around(factor, tolerance)) if each != UNSCALED)
    if not found:
        raise InvalidInput(_empty(step, tolerance, factor))
    return found


def check_grid(step: float, tolerance: float, factor: float) -> None:
    """Raises `InvalidInput` for values outside the bounds of a grid."""
    for name, value, rule, holds in (
        ("step", step, f"{MIN_STEP} <= step <= 1", MIN_STEP <= step <= 1),
        ("tolerance", tolerance, "0 <= tolerance < factor", 0 <= tolerance < factor),
        ("factor", factor, "1 < factor <= 16", 1 < factor <= 16),
    ):
        if not holds:
            raise InvalidInput(f"coefficients.{name}: `{rule}` must hold, but got {name}={value}")


def lattice(
    step: float, least: float | Fraction, most: float | Fraction, finest: float = math.inf
) -> Iterator[Coefficients]:
    """The combinations with `least` <= α·β²·γ² <= `most` and γ <= `finest`, ascending."""
    low, high = _exact(least), _exact(most)
    for alpha in _values(step, high):
        for beta in _values(step, high / alpha, root=2):
            for gamma in _values(step, high / alpha / beta**2, root=2):
                if gamma <= finest and low <= alpha * beta**2 * gamma**2:
                    yield Coefficients(float(alpha), float(beta), float(gamma))


def _values(step: float, most: Fraction, root: int = 1) -> Iterator[Fraction]:
    """1, 1 + step, 1 + 2·step … while the value to the power of `root` is at most `most`."""
    value = Fraction(1)
    while value**root <= most:
        yield value
        value += _exact(step)


def _exact(value: float | Fraction) -> Fraction:
    """The decimal number as written, not the nearest binary one."""
    return Fraction(str(value))


def _around(factor: float, tolerance: float) -> tuple[Fraction, Fraction]:
    return _exact(factor) - _exact(tolerance), _exact(factor) + _exact(tolerance)


def _empty(step: float, tolerance: float, factor: float) -> str:
    nearest = min(
        (each for each in lattice(step, 1, 2 * factor) if each != UNSCALED),
        key=lambda each: abs(each.nominal - factor),
    )
    needed = math.ceil(abs(nearest.nominal - factor) * 1000 - 1e-6) / 1000
    within = _around(factor, tolerance)
    finer = (trial for trial in (0.5, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01) if trial < step)
    enough = next((trial for trial in finer if any(lattice(trial, *within))), None)
    others = f", step {enough:g} others" if enough is not None else ""
    return (
        f"coefficients: some combination must have |α·β²·γ² − {factor:g}| <= tolerance, but with "
        f"step {step:g} and tolerance {tolerance:g} none has; tolerance {needed:g} would give "
        f"{nearest}{others}"
    )


@dataclass(frozen=True, slots=True)
class GridCandidate:
    """One network of the grid, with every combination that rounds to it in `names`.

    `coefficients` is the one of `names` whose nominal product is nearest the grid's factor (the
    first of several): by it the family would grow. `realised_ratio` is MACs over the baseline's.
    """

    coefficients: Coefficients
    names: tuple[Coefficients, ...]
    architecture: Architecture
    cost: Cost
    realised_ratio: float

    @property
    def shares(self) -> Shares:
        """The parts of the growth that depth, width and resolution take, the mean over `names`."""
        each = [compound(name).shares for name in self.names]
        return Shares(*(fmean(parts) for parts in zip(*each, strict=True)))

    @property
    def label(self) -> str:
        """The name of its job: `α1.2 β1.1 γ1.15`."""
        return str(self.coefficients)


def candidates(
    baseline: Architecture,
    combinations: Iterable[Coefficients],
    *,
    phi: float = 1.0,
    factor: float = 2.0,
) -> tuple[GridCandidate, ...]:
    """The distinct networks that `combinations` make of `baseline` at φ, in their order.

    Combinations that round to the same network (the same `key`) are one candidate. The resolution
    belongs to a network, so those that differ only in γ are merged only where the pixels agree.
    """
    return merged(
        baseline,
        ((each, scale(baseline, **each.at(phi)._asdict())) for each in combinations),
        factor,
    )


def merged(
    baseline: Architecture,
    scaled: Iterable[tuple[Coefficients, Architecture]],
    factor: float,
) -> tuple[GridCandidate, ...]:
    """One candidate for each network of `scaled`, with all combinations that gave it, in order."""
    own = macs(baseline)
    found: dict[str, tuple[Architecture, list[Coefficients]]] = {}
    for combination, network in scaled:
        found.setdefault(network.key, (network, []))[1].append(combination)
    return tuple(
        GridCandidate(
            coefficients=min(names, key=lambda each: abs(each.nominal - factor)),
            names=tuple(names),
            architecture=network,
            cost=cost(network),
            realised_ratio=macs(network) / own,
        )
        for network, names in found.values()
    )


def realised(
    baseline: Architecture,
    step: float,
    tolerance: float,
    factor: float = 2.0,
    *,
    phi: float = 1.0,
) -> tuple[GridCandidate, ...]:
    """The candidates on the grid that really cost `factor` times the baseline for each step of φ.

    That is |(MACs / baseline's MACs)^(1/φ) − factor| <= tolerance. Raises `InvalidInput` if there
    are none, with a tolerance that would give one.
    """
    check_grid(step, tolerance, factor)
    low, high = max(1.0, factor / _MOST_REALISED), factor / _LEAST_REALISED
    scaled = (
        (each, scale(baseline, **each.at(phi)._asdict()))
        for each in lattice(step, low, high)
        if each != UNSCALED
    )
    return _within(baseline, scaled, tolerance, factor, phi)


def equal_cost(
    baseline: Architecture,
    step: float,
    tolerance: float,
    factor: float = 2.0,
    *,
    phi: float = 1.0,
) -> tuple[GridCandidate, ...]:
    """Candidates of equal cost: α and β on the grid, and the γ that brings MACs to the factor.

    Each takes the resolution whose MACs are nearest to factor^φ times the baseline's, and must keep
    within the tolerance of `realised`. Raises `InvalidInput` if none does.
    """
    check_grid(step, tolerance, factor)
    shapes = lattice(step, 1.0, factor + tolerance, finest=1.0)
    target = macs(baseline) * factor**phi
    return _within(baseline, _steered(baseline, shapes, target, phi), tolerance, factor, phi)


def _steered(
    baseline: Architecture, shapes: Iterable[Coefficients], target: float, phi: float
) -> Iterator[tuple[Coefficients, Architecture]]:
    for shape in shapes:
        plain = scale(baseline, depth=shape.alpha**phi, width=shape.beta**phi)
        pixels = round(plain.resolution * math.sqrt(target / macs(plain)))
        options = resolutions_near(replace(plain, resolution=max(1, pixels)), target)
        network = min(options, key=lambda option: abs(macs(option) - target))
        gamma = round((network.resolution / baseline.resolution) ** (1 / phi), 4)
        if gamma >= 1:
            yield Coefficients(shape.alpha, shape.beta, gamma), network


def _within(
    baseline: Architecture,
    scaled: Iterable[tuple[Coefficients, Architecture]],
    tolerance: float,
    factor: float,
    phi: float,
) -> tuple[GridCandidate, ...]:
    """The candidates of those networks that cost `factor` times the baseline for a step of φ."""
    own, count, nearest = macs(baseline), 0, math.inf
    found = []
    for combination, network in scaled:
        miss = abs((macs(network) / own) ** (1 / phi) - factor)
        count, nearest = count + 1, min(nearest, miss)
        if miss <= tolerance:
            found.append((combination, network))
    if found:
        return merged(baseline, found, factor)
    advice = f"tolerance {math.ceil(nearest * 1000) / 1000:g}" if count else "a smaller step"
    raise InvalidInput(
        f"coefficients: some network must cost within {tolerance:g} of {factor:g} times the "
        f"baseline for a step of φ, but none of {count} combinations does; {advice} would give some"
    )
