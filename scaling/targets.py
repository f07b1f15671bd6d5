"""Networks of a target cost: solve for the factor of a rule, then choose the rounding.

Whole repeats, rounded channels and whole pixels make the cost of a growing network a staircase, and
most targets lie between two of its steps. The networks between them have the depth and the width of
slightly smaller or larger factors, and a few pixels more or less.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from scaling.rules import Uniform
from space.architecture import MAX_RESOLUTION, Architecture
from space.cost import cost
from space.validation import InvalidInput

#: The cost that a target is a value of; it must not fall as a network grows.
Measure = Callable[[Architecture], float]

#: A target counts as hit within this fraction of it.
HIT = 0.01

#: Factors are searched from 2^−12 to 2^12. Depth and width are rounded as at factors up to one
#: doubling from the solved one, in 16 steps each way (assumed: wide enough for networks with few
#: channels at 32 pixels, where one repeat can be a third of the cost).
_SPAN = 12.0
_WINDOW = 1.0
_STEPS = 16

#: The largest miss, as a fraction, that rounding explains at the end of a rule (assumed).
_FAR = 0.1

#: A network this close to the rule, in doublings, that misses by this fraction at most comes before
#: a hit that is farther (assumed: a hit may otherwise cost a member all pixels that γ gave it). Of
#: several, a miss of a doubling counts as so many doublings of strain.
_CLOSE, _NEARLY, _MISS = 0.5, 0.05, 8.0

#: How far pixels may deviate from the rule's, as a fraction (assumed).
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


#: The measures that a recipe can name; latency is measured by the caller.
MEASURES: Mapping[str, Measure] = {"macs": macs, "params": params, "activations": activations}


@dataclass(frozen=True, slots=True)
class Reached:
    """A network near `target`, for which the measure gives `found`.

    `factor` is the rule's, solved for the target. `strain` is the distance, in doublings of cost
    and summed over depth, width and resolution, between the network and the rule at `factor`.
    """

    architecture: Architecture
    factor: float
    strain: float
    target: float
    found: float

    @property
    def miss(self) -> float:
        """The signed deviation of `found` from the target, as a fraction of it."""
        return self.found / self.target - 1


def reach(
    rule: Uniform,
    architecture: Architecture,
    target: float,
    *,
    measure: Measure = macs,
    multiple: int = 1,
    pixels: bool = True,
) -> Reached:
    """The network nearest `target` as `rule` grows `architecture`.

    Of the networks within 1 %, this is the one with the least strain, but one within 5 % that keeps
    much closer to the rule comes first; if there are none, the nearest. Its resolution is a
    multiple of `multiple` pixels. With `pixels`, it may deviate from the rule's to come nearer to
    the target, but a network that costs more than `architecture` never has fewer
    pixels. Raises `InvalidInput` if the rule does not change the measure, or not enough.
    """
    span = _span(rule, architecture, measure)
    solved = _solve(rule, architecture, target, measure, span)
    floor = architecture.resolution if target > measure(architecture) else 1
    best: Reached | None = None
    for rounding in _roundings(rule, architecture, solved):
        if best is not None and _is_final(best, rounding.strain):
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
        raise InvalidInput(
            f"targets: the rule {rule.name!r} gives networks of {span.least:,.0f} to "
            f"{span.most:,.0f} {measure.__name__} from this baseline, but the target is "
            f"{target:,.0f}; choose a target between them or another rule"
        )
    return best


def reach_measured(
    rule: Uniform,
    architecture: Architecture,
    target: float,
    *,
    measure: Measure,
    multiple: int = 1,
) -> Reached:
    """`reach` for a cost that is expensive to measure and noisy, such as latency in seconds.

    It solves for a target of MACs instead, and corrects that target after each measurement (a
    secant in logarithms), at most `_MEASUREMENTS` times or until a network is within 1 %. Returns
    the nearest network measured.
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


#: The most networks measured for one target, and bounds of the exponent with which a measured cost
#: grows with MACs (assumed: a few networks suffice, and noise must not lead the search astray).
_MEASUREMENTS = 8
_SLOPES = (0.4, 2.0)


def _rank(reached: Reached) -> tuple[int, float, float]:
    strain, miss = reached.strain, abs(reached.miss)
    hit, close = miss <= HIT, strain <= _CLOSE
    if hit:
        return (0 if close else 2, strain, miss)
    if close and miss <= _NEARLY:
        return 1, strain + _MISS * math.log2(1 + miss), miss
    return 3, miss, strain


def _is_final(best: Reached, strain: float) -> bool:
    """Whether no network of as much strain, or more, can rank before `best`."""
    tier, *_ = _rank(best)
    return (tier in (0, 2) and best.strain <= strain) or (tier == 1 and strain > _CLOSE)


class _Span(NamedTuple):
    """log2 of the smallest and the largest factor of a rule, and the measure at both."""

    low: float
    high: float
    least: float
    most: float


def _span(rule: Uniform, architecture: Architecture, measure: Measure) -> _Span:
    """The range of a rule; raises `InvalidInput` if the measure is the same all over it."""
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
    rule: Uniform, architecture: Architecture, target: float, measure: Measure, span: _Span
) -> float:
    """log2 of the largest factor whose network is no larger than `target`, by bisection.

    For a target outside `span`, the factor nearest 1 that gives the smallest or largest network.
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
    """The largest power between `low` and `high` where `holds` is true, as it is at `low`."""
    if holds(high):
        return high
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _grown(rule: Uniform, architecture: Architecture, power: float) -> Architecture | None:
    """The rule's network at the factor 2^power; None outside the bounds of an architecture."""
    try:
        return rule(architecture, 2.0**power)
    except ValueError:
        return None


class _Rounding(NamedTuple):
    """The repeats of one factor with the channels of another; `strain` as in `Reached`."""

    strain: float
    network: Architecture


def _roundings(rule: Uniform, architecture: Architecture, solved: float) -> list[_Rounding]:
    """The distinct networks near 2^solved, at its resolution, by increasing strain."""
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
    """`network` at its own resolution and at the two between which its cost passes `target`.

    Those deviate from its own by at most a quarter. All are multiples of `multiple` pixels, and
    none is below `floor`.
    """
    own, least = network.resolution, math.ceil(floor / multiple)
    low = max(least, int(own * (1 - _PIXELS) / multiple))
    high = max(low + 1, math.ceil(min(own * (1 + _PIXELS), MAX_RESOLUTION) / multiple))

    def at(steps: int) -> Architecture:
        return replace(network, resolution=steps * multiple)

    between = range(low + 1, high)
    above = low + 1 + bisect_right(between, target, key=lambda steps: measure(at(steps)))
    for steps in sorted({max(least, round(own / multiple)), above - 1, above}):
        if steps * multiple <= MAX_RESOLUTION:
            yield at(steps)
