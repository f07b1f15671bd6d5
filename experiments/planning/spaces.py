"""Where to search: spaces at resolutions that suit the images, by what their networks cost."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.config import written
from experiments.data.survey import Survey
from reports.formatting import short
from search.candidates import Candidates
from search.objective import UNITS, Bounds, Objective
from space import choices
from space.architecture import Architecture
from space.choices import Space
from space.cost import cost
from space.device import Precision, RuntimeMemory, device_memory, litert_micro
from space.validation import InvalidInput

#: Shipped spaces by the pixels that they are made for: these halve an image three times …
_SMALL = ("mnasnet_small", "efficientnet_small")
_SMALL_PIXELS = (16, 20, 24, 28, 32, 40, 48, 56, 64, 80)
#: … and this one five times.
_LARGE = ("efficientnet",)
#: The same for a device: blocks that lose little in 8 bits.
_SMALL_DEVICE, _LARGE_DEVICE = ("efficientnet_lite_small",), ("efficientnet_lite",)
_LARGE_PIXELS = (96, 112, 128, 160, 192, 224)

#: The least MACs of the baseline, as a part of the budget.
_LEAST = 0.5

#: The middle of the bounds, by ratios, as a part of the budget.
MIDDLE = math.sqrt(_LEAST)

#: Networks drawn to learn what those of a space cost: at the least, the middle and the most.
_DRAWS, _QUANTILES = 100, (0.02, 0.5, 0.98)

#: Of a device's SRAM, what gaps between tensors may take (measured: 1/16 of it at most, over the
#: 34 networks of `efficientnet_lite_small`), and a margin on what the runtime takes (measured:
#: EfficientNet-Lite0 at 48 pixels has 4.8 % more structures than the estimate).
_GAPS, _MARGIN = 1 / 16, 1.05
#: How often networks are drawn to find some that fit a device together with the runtime (assumed).
_ROUNDS = 12

#: Networks of which each may become the baseline (assumed).
_TYPICAL = 3


@dataclass(frozen=True)
class DraftStart:
    """A published network to search around: its name for people, its keys in the recipe.

    `space` is the file of the space.
    """

    name: str
    weights: str
    architecture: str | None
    space: Path


class SpaceOffer(NamedTuple):
    """Where to search: a space at a resolution in pixels, and the MACs of its networks.

    Around a start, networks have this resolution at most. `least` is of those drawn; `low`, `macs`
    and `high` are the quantiles of 2, 50 and 98 %.
    """

    space: str
    resolution: int
    least: int
    low: int
    macs: int
    high: int


def nearest(survey: Survey, budget: int, start: DraftStart | None) -> SpaceOffer:
    """The space and resolution whose middle is nearest to that of the bounds.

    Raises `InvalidInput` where no space has a network within them.
    """
    offers = list(space_offers(survey, start))
    near = [each for each in offers if each.low <= budget and least_macs(budget) <= each.high]
    if start is None:
        finest = max((each.resolution for each in near), default=0)
        near = [each for each in near if each.resolution == finest]
    middle = MIDDLE * budget
    network = min(near or offers, key=lambda each: abs(math.log(each.macs / middle)))
    if start is not None:  # whose space has the resolution as a choice
        finest = max(each.resolution for each in offers if each.least <= max(budget, network.least))
        network = network._replace(resolution=finest)
    _check_reach(network, offers, budget, survey, start)
    return network


def _check_reach(
    network: SpaceOffer,
    offers: list[SpaceOffer],
    budget: int,
    survey: Survey,
    start: DraftStart | None,
) -> None:
    """Raises `InvalidInput` where the space has no network within the bounds."""
    bounds = Bounds(macs=(least_macs(budget), budget))
    space = _adapted(network.space, survey, network.resolution)
    candidates = Candidates(space, Objective(target=budget, bounds=bounds))
    if len(candidates.sample(1, np.random.default_rng(0))) == 0:
        least, most = min(each.low for each in offers), max(each.high for each in offers)
        lacking = f"the space around {start.name} has no" if start else "no shipped space has a"
        raise InvalidInput(
            f"--budget {written(budget)}: {lacking} network of "
            f"{written(least_macs(budget))} to {written(budget)} MACs for images of "
            f"{survey.sides.median} pixels; choose a budget between about "
            f"{short(rounded(least))} and {short(rounded(most))}"
        )


class DeviceOffer(NamedTuple):
    """Where to search for a device, and the bytes of its limits that are left to the runtime."""

    network: SpaceOffer
    overhead: RuntimeMemory


def fitting(survey: Survey, limits: Bounds, start: DraftStart | None) -> DeviceOffer:
    """Of spaces and resolutions, that with the most MACs on average among the networks that fit.

    Source of the rule: TinyNAS (Lin et al. 2020, section 3.1). The overhead is that of the largest
    of the networks drawn, which LiteRT for Microcontrollers takes.
    """
    found: dict[DeviceOffer, float] = {}
    for name, resolution in _places(survey, start, _LARGE_DEVICE, _SMALL_DEVICE):
        overhead, candidates, networks = _fitting_of(_adapted(name, survey, resolution), limits)
        if networks:
            macs = [cost(network).macs for network in networks]
            quantiles = np.quantile(macs, _QUANTILES).astype(int).tolist()
            offer = SpaceOffer(name, resolution, min(macs), *quantiles)
            found[DeviceOffer(offer, overhead)] = float(np.mean(macs))
    if not found:
        try:  # says which bytes are nearest, at the fewest pixels
            candidates.unseen(set(), np.zeros_like(candidates.sizes), np.random.default_rng(0))
        except InvalidInput as error:
            given = limits.given
            wanted = _amounts({name: most for name, (_, most) in given.items()})
            taken = _amounts({k: most for k, most in overhead._asdict().items() if k in given})
            runtime = f", of which LiteRT for Microcontrollers takes {taken}" if taken else ""
            nearest = str(error).partition("; ")[2]
            raise InvalidInput(
                f"--sram, --flash: no network of the space {name} has at most {wanted} at "
                f"{resolution} pixels{runtime}; {nearest}"
            ) from None
    return max(found, key=found.__getitem__)


def _amounts(amounts: Mapping[str, float]) -> str:
    """`64,000 bytes of SRAM and 30,000 bytes of flash`, without those that are 0."""
    return " and ".join(f"{most:,} {UNITS[name]}" for name, most in amounts.items() if most)


def _within(space: Space, limits: Bounds) -> tuple[Candidates, list[Architecture]]:
    """The candidates of a space within a device's limits, and some of them."""
    objective = Objective(target=1, bounds=limits, precision=Precision.INT8)
    candidates = Candidates(space, objective)
    rows = candidates.sample(_DRAWS, np.random.default_rng(0))
    return candidates, [candidates.at_row(row).architecture for row in rows]


def _fitting_of(
    space: Space, limits: Bounds
) -> tuple[RuntimeMemory, Candidates, list[Architecture]]:
    """What to leave of `limits` to the runtime, the candidates within the rest, and some of them.

    The overhead is the most that the runtime takes beside one of the networks drawn that fit
    together with it. Where none does, smaller ones are drawn, by bisection between an overhead
    that leaves networks and one that leaves none: the runtime takes less beside smaller networks.
    Without any that fit, it is what the runtime takes beside the smallest found.
    """
    low = least = near = RuntimeMemory(0, 0)
    high: RuntimeMemory | None = None
    for _ in range(_ROUNDS):
        _, networks = _within(space, _less(limits, least))
        taken = [_taken(network, limits) for network in networks]
        fitting = [
            each
            for network, each in zip(networks, taken, strict=True)
            if _fits(network, _less(limits, each))
        ]
        if fitting:
            most = RuntimeMemory(*(_rounded_up(max(each)) for each in zip(*fitting, strict=True)))
            found = _within(space, _less(limits, most))
            if found[1]:
                return most, *found
            near = min(fitting)  # of a network that does fit
            break
        if networks:
            low, near = least, RuntimeMemory(*map(min, zip(*taken, strict=True)))
        else:
            high = least
        pairs = zip(low, high or near, strict=True)
        least = RuntimeMemory(*(sum(pair) // 2 if high else max(pair) for pair in pairs))
        if least in (low, high):
            break
    return near, *_within(space, _less(limits, near))


def _taken(network: Architecture, limits: Bounds) -> RuntimeMemory:
    """What the runtime takes of `limits` beside a network."""
    found = litert_micro(network)
    sram = round(_MARGIN * found.sram)
    gaps = round(_GAPS * max(0, (limits.sram or 0) - sram))
    return RuntimeMemory(sram + gaps, round(_MARGIN * found.flash))


def _less(limits: Bounds, overhead: RuntimeMemory) -> Bounds:
    """What an overhead leaves of the limits that are set, 1 byte at least."""
    return replace(
        limits,
        sram=limits.sram and max(1, limits.sram - overhead.sram),
        flash=limits.flash and max(1, limits.flash - overhead.flash),
    )


def _fits(network: Architecture, limits: Bounds) -> bool:
    needs = device_memory(network, Precision.INT8)
    return needs.sram <= (limits.sram or needs.sram) and needs.flash <= (
        limits.flash or needs.flash
    )


def space_offers(survey: Survey, start: DraftStart | None) -> Iterator[SpaceOffer]:
    """Spaces at resolutions, with what their networks cost."""
    networks: dict[str, list[Architecture]] = {}
    for name, resolution in _places(survey, start, _LARGE, _SMALL):
        if name not in networks:
            networks[name] = _drawn(_adapted(name, survey, resolution))
        macs = sorted(cost(network, resolution).macs for network in networks[name])
        quantiles = (macs[round(part * _DRAWS)] for part in _QUANTILES)
        yield SpaceOffer(name, resolution, macs[0], *quantiles)


def _places(
    survey: Survey, start: DraftStart | None, large: Sequence[str], small: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """Spaces, with resolutions in pixels that do not enlarge most images, the finest first.

    Around a `start`, from its own resolution down.
    """
    side = max(survey.sides.median, _SMALL_PIXELS[0])
    if start is not None:
        resolutions = _adapted(str(start.space), survey, side).resolutions
        yield from ((str(start.space), each) for each in sorted(resolutions, reverse=True))
        return
    for spaces, offered in ((large, _LARGE_PIXELS), (small, _SMALL_PIXELS)):
        pixels = {each for each in offered if each <= side}
        pixels |= {side} if offered[0] <= side <= offered[-1] else set()
        yield from ((name, each) for name in spaces for each in sorted(pixels, reverse=True))


def typical(survey: Survey, network: SpaceOffer, budget: int) -> list[Architecture]:
    """Networks that may become the baseline: those drawn that cost nearest the budget's middle."""
    drawn = _drawn(_adapted(network.space, survey, network.resolution))
    middle = MIDDLE * budget
    drawn.sort(key=lambda each: abs(math.log(cost(each).macs / middle)))
    return drawn[:_TYPICAL]


def _adapted(name: str, survey: Survey, resolution: int) -> Space:
    return choices.load(name).adapted(
        num_classes=len(survey.classes),
        resolution=resolution,
        in_channels=1 if survey.grey else 3,
    )


def _drawn(space: Space) -> list[Architecture]:
    """Networks of a space, each combination of choices as likely as any."""
    draw = random.Random(0)
    return [
        space.decode({name: draw.choice(values) for name, values in space.choices.items()})
        for _ in range(_DRAWS)
    ]


def least_macs(budget: int) -> int:
    """The least MACs of a baseline within a budget."""
    return max(1, round(_LEAST * budget))


def _rounded_up(amount: float) -> int:
    """The next number of two digits."""
    unit: int = 10 ** max(0, len(str(round(amount))) - 2)
    return math.ceil(amount / unit) * unit


def rounded(macs: float) -> int:
    """MACs to two digits, as people write a budget."""
    return int(float(f"{macs:.1e}"))
