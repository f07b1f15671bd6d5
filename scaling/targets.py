"""Networks of a wanted size: a rule's factor solved for a target cost, then the rounding chosen.

Whole repeats, rounded channels and whole pixels make the cost of a growing network a staircase,
and most targets lie between two of its steps. Between them lie networks whose depth and width are
rounded as a little earlier or later on the way, at a few pixels more or less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from scaling.rules import Rule
from space.architecture import MAX_RESOLUTION, Architecture
from space.cost import cost

#: What a target is a value of; it must not fall as a network grows.
Measure = Callable[[Architecture], float]

#: A target counts as hit within this fraction of it.
HIT = 0.01

#: Factors are searched from 2^−12 to 2^12. In doublings of cost: how far from the solved factor
#: depth and width may be rounded, and in how many steps (assumed: wide enough for networks of few
#: channels at 32 pixels, where one repeat can be a third of the cost).
_SPAN = 12.0
_WINDOW = 1.0
_STEPS = 16

#: Pixels may leave the rule's by this part of them (assumed).
_PIXELS = 0.25


def macs(architecture: Architecture) -> float:
    """Multiply–adds at the architecture's own resolution."""
    return cost(architecture).macs


def params(architecture: Architecture) -> float:
    """Parameters."""
    return cost(architecture).params


def activations(architecture: Architecture) -> float:
    """Elements of convolution outputs at the architecture's own resolution."""
    return cost(architecture).activations


#: What a recipe can name as the measure of a target; latency is measured, so it is the caller's.
MEASURES: Mapping[str, Measure] = {"macs": macs, "params": params, "activations": activations}


@dataclass(frozen=True, slots=True)
class Reached:
    """A network near `target`, for which the measure gives `found`.

    `factor` is the rule's, solved for the target. `strain` is how far in all the rounding of depth,
    of width and of resolution stands from the rule's at `factor`, in doublings of cost.
    """

    architecture: Architecture
    factor: float
    strain: float
    target: float
    found: float

    @property
    def miss(self) -> float:
        """How far `found` is from the target, as a signed fraction of it."""
        return self.found / self.target - 1


def reach(
    rule: Rule,
    architecture: Architecture,
    target: float,
    *,
    measure: Measure = macs,
    multiple: int = 1,
    pixels: bool = True,
) -> Reached:
    """The network nearest `target` on the way on which `rule` makes `architecture` grow.

    Of those within 1 % it is the one least strained; where rounding leaves none, the nearest. Its
    resolution is a multiple of `multiple` pixels; with `pixels` it may leave the rule's to hit the
    target.
    """
    solved = _solve(rule, architecture, target, measure)
    best: Reached | None = None
    for rounding in _roundings(rule, architecture, solved):
        if best is not None and abs(best.miss) <= HIT and best.strain <= rounding.strain:
            break
        options = resolutions_near(rounding.network, target, measure, multiple)
        for network in options if pixels else (rounding.network,):
            finer = network.resolution / rounding.network.resolution
            found = Reached(
                network,
                factor=2.0**solved,
                strain=rounding.strain + 2 * abs(math.log2(finer)),
                target=target,
                found=measure(network),
            )
            best = found if best is None else min(best, found, key=_rank)
    assert best is not None, "the solved factor itself is a rounding"
    return best


def reach_measured(
    rule: Rule,
    architecture: Architecture,
    target: float,
    *,
    measure: Measure,
    multiple: int = 1,
) -> Reached:
    """The same for a cost that is dear to measure and noisy, such as latency in seconds.

    MACs stand in for it: what they must be for the target is corrected by each measurement (a
    secant in logarithms), at most `_MEASUREMENTS` times or until the target is hit within 1 %. Of
    the networks measured it is the nearest.
    """
    known = [(math.log(macs(architecture)), math.log(measure(architecture)))]
    slope, best = 1.0, None
    for _ in range(_MEASUREMENTS):
        wanted = math.exp(known[-1][0] + (math.log(target) - known[-1][1]) / slope)
        network = reach(rule, architecture, wanted, multiple=multiple)
        seconds = measure(network.architecture)
        found = replace(network, target=target, found=seconds)
        best = found if best is None else min(best, found, key=lambda each: abs(each.miss))
        if abs(best.miss) <= HIT:
            break
        known.append((math.log(macs(network.architecture)), math.log(seconds)))
        (before, slow), (after, slower) = known[-2:]
        if after != before:
            slope = min(_SLOPES[1], max(_SLOPES[0], (slower - slow) / (after - before)))
    assert best is not None
    return best


#: Networks measured for one target, and how much faster or slower than MACs a measured cost is
#: taken to grow (assumed: a few networks tell, and noise must not send the search far away).
_MEASUREMENTS = 8
_SLOPES = (0.4, 2.0)


def _rank(reached: Reached) -> tuple[bool, float, float]:
    hit, miss = abs(reached.miss) <= HIT, abs(reached.miss)
    return (False, reached.strain, miss) if hit else (True, miss, reached.strain)


def _solve(rule: Rule, architecture: Architecture, target: float, measure: Measure) -> float:
    """log2 of the largest factor whose network is no larger than `target`, by bisection.

    Below the smallest network it is the largest factor that gives just that.
    """
    smallest = _grown(rule, architecture, -_SPAN)
    target = max(target, measure(smallest)) if smallest else target
    low, high = -_SPAN, _SPAN
    while high - low > 1e-3:
        middle = (low + high) / 2
        grown = _grown(rule, architecture, middle)
        beyond = middle > 0 if grown is None else measure(grown) > target
        low, high = (low, middle) if beyond else (middle, high)
    return low


def _grown(rule: Rule, architecture: Architecture, power: float) -> Architecture | None:
    """The rule's network at the factor 2^power; None beyond the bounds of an architecture."""
    try:
        return rule(architecture, 2.0**power)
    except ValueError:
        return None


class _Rounding(NamedTuple):
    """The repeats of one factor with the channels of another; `strain` as in `Reached`."""

    strain: float
    network: Architecture


def _roundings(rule: Rule, architecture: Architecture, solved: float) -> list[_Rounding]:
    """The distinct networks about 2^solved, at its resolution, the least strained first."""
    own = rule(architecture, 2.0**solved)
    powers = [solved + _WINDOW * step / _STEPS for step in range(-_STEPS, _STEPS + 1)]
    powers.sort(key=lambda power: abs(power - solved))
    depths: dict[tuple[int, ...], float] = {}
    widths: dict[Architecture, float] = {}
    for power in powers:
        if (grown := _grown(rule, architecture, power)) is not None:
            depths.setdefault(_repeats(grown), power)
            widths.setdefault(_with(grown, _repeats(own), own.resolution), power)
    found = [
        _Rounding(
            abs(depth - solved) + abs(width - solved),
            _with(channels, repeats, own.resolution),
        )
        for repeats, depth in depths.items()
        for channels, width in widths.items()
    ]
    return sorted(found, key=lambda rounding: rounding.strain)


def _repeats(architecture: Architecture) -> tuple[int, ...]:
    return tuple(stage.repeats for stage in architecture.stages)


def _with(architecture: Architecture, repeats: tuple[int, ...], resolution: int) -> Architecture:
    stages = zip(architecture.stages, repeats, strict=True)
    return replace(
        architecture,
        stages=tuple(replace(stage, repeats=count) for stage, count in stages),
        resolution=resolution,
    )


def resolutions_near(
    network: Architecture, target: float, measure: Measure = macs, multiple: int = 1
) -> Iterator[Architecture]:
    """`network` at its own resolution and on both sides of where its cost passes `target`.

    The sides are at most a quarter from its own; all are multiples of `multiple` pixels.
    """
    own = network.resolution
    low = max(1, int(own * (1 - _PIXELS) / multiple))
    high = max(low + 1, math.ceil(min(own * (1 + _PIXELS), MAX_RESOLUTION) / multiple))
    while high - low > 1:
        middle = (low + high) // 2
        if measure(replace(network, resolution=middle * multiple)) > target:
            high = middle
        else:
            low = middle
    for steps in sorted({max(1, round(own / multiple)), low, high}):
        if steps * multiple <= MAX_RESOLUTION:
            yield replace(network, resolution=steps * multiple)
