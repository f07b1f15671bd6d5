"""Grids on the realised cost: what networks really cost once depth, width and pixels are rounded.

The published 1.2, 1.1, 1.15 has the nominal product 1.92 and makes EfficientNet-B0 cost 2.57 times
as much. Candidates of one nominal product may differ by half in MACs, and then the dearer ones win.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from scaling.coefficients import (
    ANY,
    Bounds,
    Candidate,
    Coefficients,
    check_grid,
    lattice,
    merged,
)
from scaling.compound import scale
from scaling.targets import macs, resolutions_near
from space.architecture import Architecture
from space.validation import InvalidInput

#: How many times more or less than its nominal product a network may cost once it is rounded
#: (measured: 0.93 to 1.96 times for B0, MobileNetV2, ResNet-50 and a small MnasNet at φ = 1).
_SLACK = 2.0


def realised(
    baseline: Architecture,
    step: float,
    tolerance: float,
    factor: float = 2.0,
    *,
    phi: float = 1.0,
    bounds: Bounds = ANY,
) -> tuple[Candidate, ...]:
    """The candidates on the grid that really cost `factor` times the baseline for each step of φ.

    That is |(MACs / baseline's MACs)^(1/φ) − factor| <= tolerance. Raises `InvalidInput` where
    none does; it then says which tolerance would give one.
    """
    check_grid(step, tolerance, factor)
    combinations = lattice(step, max(1.0, factor / _SLACK), factor * _SLACK, bounds)
    scaled = ((each, scale(baseline, **each.at(phi)._asdict())) for each in combinations)
    return _within(merged(baseline, scaled, factor), tolerance, factor, phi)


def equal_cost(
    baseline: Architecture,
    step: float,
    tolerance: float,
    factor: float = 2.0,
    *,
    phi: float = 1.0,
    bounds: Bounds = ANY,
    multiple: int = 1,
) -> tuple[Candidate, ...]:
    """Candidates of one cost: α and β on the grid, and the γ whose pixels bring MACs to the factor.

    Pixels are multiples of `multiple`; the nearest to factor^φ times the baseline's MACs is taken
    and must keep within the tolerance of `realised`. Raises `InvalidInput` where none does.
    """
    check_grid(step, tolerance, factor)
    shapes = lattice(step, 1.0, factor + tolerance, bounds._replace(gamma=(1.0, 1.0)))
    target = macs(baseline) * factor**phi
    steered = _steered(baseline, shapes, target, phi, bounds.gamma, multiple)
    return _within(merged(baseline, steered, factor), tolerance, factor, phi)


def _steered(
    baseline: Architecture,
    shapes: Iterable[Coefficients],
    target: float,
    phi: float,
    bounds: tuple[float, float],
    multiple: int,
) -> Iterator[tuple[Coefficients, Architecture]]:
    for shape in shapes:
        plain = scale(baseline, depth=shape.alpha**phi, width=shape.beta**phi)
        pixels = round(plain.resolution * math.sqrt(target / macs(plain)))
        options = resolutions_near(
            replace(plain, resolution=max(1, pixels)), target, multiple=multiple
        )
        network = min(options, key=lambda option: abs(macs(option) - target))
        gamma = round((network.resolution / baseline.resolution) ** (1 / phi), 4)
        if max(1.0, bounds[0]) <= gamma <= bounds[1]:
            yield Coefficients(shape.alpha, shape.beta, gamma), network


def _within(
    candidates: tuple[Candidate, ...], tolerance: float, factor: float, phi: float
) -> tuple[Candidate, ...]:
    misses = [abs(each.realised_ratio ** (1 / phi) - factor) for each in candidates]
    found = tuple(each for each, miss in zip(candidates, misses, strict=True) if miss <= tolerance)
    if found:
        return found
    advice = f"tolerance {math.ceil(min(misses) * 1000) / 1000:g}" if misses else "wider bounds"
    raise InvalidInput(
        f"coefficients: some network must really cost within {tolerance:g} of {factor:g} times the "
        f"baseline for a step of φ, but none of {len(candidates)} does; {advice} would give some"
    )
