"""Networks of a target cost: the factor of a rule is solved for, then the rounding is chosen.

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
from space.validation import InvalidInput

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

#: A target beyond the end of a rule may be missed by this part of it, as by rounding (assumed).
_FAR = 0.1

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
    target, but a network that costs more than `architecture` never has fewer pixels. Raises
    `InvalidInput` where the rule does not change the measure, or not as far as the target.
    """
    span = _span(rule, architecture, measure)
    solved = _solve(rule, architecture, target, measure, span)
    floor = architecture.resolution if target > measure(architecture) else 1
    best: Reached | None = None
    for rounding in _roundings(rule, architecture, solved):
        if best is not None and abs(best.miss) <= HIT and best.strain <= rounding.strain:
            break
        options = resolutions_near(rounding.network, target, measure, multiple, floor)
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
    if abs(best.miss) > _FAR and not span.least <= target <= span.most:
        raise _out_of_reach(rule, measure.__name__, target, span)
    return best


def reach_measured(
    rule: Rule,
    architecture: Architecture,
    target: float,
    *,
    measure: Measure,
    multiple: int = 1,
) -> Reached:
    """The same for a cost that is expensive to measure and noisy, such as latency in seconds.

    MACs stand in for it: what they must be for the target is corrected by each measurement (a
    secant in logarithms), at most `_MEASUREMENTS` times or until the target is hit within 1 %. Of
    the networks measured it is the nearest.
    """
    span = _span(rule, architecture, macs)
    known = [(math.log(macs(architecture)), math.log(measure(architecture)))]
    slope, best = 1.0, None
    for _ in range(_MEASUREMENTS):
        wanted = math.exp(known[-1][0] + (math.log(target) - known[-1][1]) / slope)
        wanted = min(max(wanted, span.least), span.most)
        network = reach(rule, architecture, wanted, multiple=multiple)
        found = replace(network, target=target, found=measure(network.architecture))
        best = found if best is None else min(best, found, key=lambda each: abs(each.miss))
        if abs(best.miss) <= HIT:
            return best
        known.append((math.log(macs(network.architecture)), math.log(found.found)))
        (before, slow), (after, slower) = known[-2:]
        if after != before:
            slope = min(_SLOPES[1], max(_SLOPES[0], (slower - slow) / (after - before)))
    assert best is not None
    if wanted in (span.least, span.most):
        raise InvalidInput(
            f"targets: the rule {rule.name!r} must reach {target:g}, but the nearest of "
            f"{_MEASUREMENTS} networks measured has {best.found:g}; choose another target or rule"
        )
    return best


#: Networks measured for one target, and how much faster or slower than MACs a measured cost is
#: taken to grow (assumed: a few networks tell, and noise must not send the search far away).
_MEASUREMENTS = 8
_SLOPES = (0.4, 2.0)


def _rank(reached: Reached) -> tuple[bool, float, float]:
    hit, miss = abs(reached.miss) <= HIT, abs(reached.miss)
    return (False, reached.strain, miss) if hit else (True, miss, reached.strain)


class _Span(NamedTuple):
    """log2 of the factors between which a rule gives networks, and the measure at both ends."""

    low: float
    high: float
    least: float
    most: float


def _span(rule: Rule, architecture: Architecture, measure: Measure) -> _Span:
    """How far a rule goes; raises `InvalidInput` where all of it leaves the measure as it is."""
    low = -_largest(lambda power: _grown(rule, architecture, -power) is not None, 0, _SPAN)
    high = _largest(lambda power: _grown(rule, architecture, power) is not None, 0, _SPAN)
    smallest, largest = (rule(architecture, 2.0**power) for power in (low, high))
    least, most = measure(smallest), measure(largest)
    if least == most and smallest != largest:
        raise InvalidInput(
            f"targets: the rule {rule.name!r} does not change {measure.__name__}, which stays "
            f"{least:,.0f}; choose another rule, or targets of another cost"
        )
    return _Span(low, high, least, most)


def _solve(
    rule: Rule, architecture: Architecture, target: float, measure: Measure, span: _Span
) -> float:
    """log2 of the largest factor whose network is no larger than `target`, by bisection.

    Beyond the ends of `span` it is the factor nearest 1 that gives the smallest or largest network.
    """
    if span.least == span.most:
        return 0.0
    goal = max(target, span.least)

    def at(power: float) -> float:
        return measure(rule(architecture, 2.0**power))

    if target >= span.most:
        return -_largest(lambda power: at(-power) >= span.most, -span.high, -span.low)
    return _largest(lambda power: at(power) <= goal, span.low, span.high)


def _largest(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The largest power between `low` and `high` at which `holds`, as it does at `low`."""
    if holds(high):
        return high
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _out_of_reach(rule: Rule, measure: str, target: float, span: _Span) -> InvalidInput:
    return InvalidInput(
        f"targets: the rule {rule.name!r} gives networks of {span.least:,.0f} to {span.most:,.0f} "
        f"{measure} from this baseline, but the target is {target:,.0f}; choose a target between "
        "them or another rule"
    )


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
    network: Architecture,
    target: float,
    measure: Measure = macs,
    multiple: int = 1,
    floor: int = 1,
) -> Iterator[Architecture]:
    """`network` at its own resolution and on both sides of where its cost passes `target`.

    The sides are at most a quarter from its own; all are multiples of `multiple` pixels, and none
    is below `floor`.
    """
    own, least = network.resolution, math.ceil(floor / multiple)
    low = max(least, int(own * (1 - _PIXELS) / multiple))
    high = max(low + 1, math.ceil(min(own * (1 + _PIXELS), MAX_RESOLUTION) / multiple))
    while high - low > 1:
        middle = (low + high) // 2
        if measure(replace(network, resolution=middle * multiple)) > target:
            high = middle
        else:
            low = middle
    for steps in sorted({max(least, round(own / multiple)), low, high}):
        if steps * multiple <= MAX_RESOLUTION:
            yield replace(network, resolution=steps * multiple)
