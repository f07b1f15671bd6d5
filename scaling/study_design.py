"""The design of a scaling study: networks grown by several rules to the same costs.

EfficientNet compares depth, width, resolution and compound scaling at equal MACs (tables 3 and 7,
figures 3, 4 and 8). Here that is a list of points, each trained with the same seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scaling import rules
from scaling.rules import Uniform
from scaling.targets import macs, reach
from space.architecture import Architecture, HeadScaling, Stem
from space.evaluation import Budget, Job

#: What the rule of a point is called where nothing has grown.
UNSCALED = "baseline"


@dataclass(frozen=True, slots=True)
class StudyPoint:
    """A network of a study: `baseline` grown by `rule` to about `target` MACs.

    `factor` is the target over the baseline's MACs; for the baseline itself it is 1.
    """

    baseline: str
    rule: str
    factor: float
    target: float
    architecture: Architecture

    @property
    def name(self) -> str:
        """The name of its training runs: `mobilenet_v2, width × 4`."""
        own = self.rule if self.rule == UNSCALED else f"{self.rule} × {self.factor:.3g}"
        return f"{self.baseline}, {own}"

    @property
    def miss(self) -> float:
        """How far its MACs are from the target, as a signed fraction."""
        return macs(self.architecture) / self.target - 1


def grown(
    name: str, baseline: Architecture, ways: Mapping[str, Uniform], factors: Iterable[float]
) -> Iterator[StudyPoint]:
    """The baseline, and what each rule makes of it at each factor of its MACs.

    A rule grows nothing but what it says: depth alone never changes a pixel, so whole repeats may
    leave a point some way from its target.
    """
    own = macs(baseline)
    yield StudyPoint(name, UNSCALED, 1.0, own, baseline)
    for factor in factors:
        yield from _at(name, baseline, ways, factor * own)


def sized(
    name: str, baseline: Architecture, ways: Mapping[str, Uniform], targets: Iterable[float]
) -> Iterator[StudyPoint]:
    """What each rule makes of the baseline at each target of MACs, smaller or larger."""
    for target in targets:
        yield from _at(name, baseline, ways, target)


def _at(
    name: str, baseline: Architecture, ways: Mapping[str, Uniform], target: float
) -> Iterator[StudyPoint]:
    for rule_name, rule in ways.items():
        found = reach(rule, baseline, target, pixels=rule.shares.resolution > 0)
        yield StudyPoint(name, rule_name, target / macs(baseline), target, found.architecture)


def jobs(points: Sequence[StudyPoint], budget: Budget, seeds: int) -> tuple[tuple[Job, ...], ...]:
    """The training runs of each point (rows) with each seed (columns), named for both."""
    return tuple(
        tuple(
            Job(
                f"{point.name}, seed {budget.seed + number}",
                point.architecture,
                replace(budget, seed=budget.seed + number),
            )
            for number in range(seeds)
        )
        for point in points
    )


#: Pixels along a side of the last maps, at least (assumed: below it a 3×3 kernel sees mostly
#: padding).
_LEAST_MAP = 2


def small_image_form(architecture: Architecture) -> Architecture:
    """The network with early strides of 1, so that its last maps keep at least 2 pixels a side.

    First the stem becomes a 3×3 convolution of stride 1 without pooling, as ResNet's own form for
    32 pixels begins (He et al. 2016, section 4.2); then the earliest strides become 1 (assumed).
    """

    def last(network: Architecture) -> float:
        pooling = 2 if network.stem.pool else 1
        strides = (network.stem.stride, pooling, *(stage.stride for stage in network.stages))
        return network.resolution / math.prod(strides)

    network = architecture
    if last(network) < _LEAST_MAP:
        network = replace(network, stem=Stem(network.stem.channels, kernel=3, stride=1))
    for index, stage in enumerate(architecture.stages):
        if last(network) < _LEAST_MAP:
            before, after = network.stages[:index], network.stages[index + 1 :]
            network = replace(network, stages=(*before, replace(stage, stride=1), *after))
    return network


def narrowed(architecture: Architecture, target: float) -> Architecture:
    """The network made narrower, or wider, until it has about `target` MACs.

    Its head too, whatever its scaling rule says of that: MobileNetV2's 1,280 features over a tenth
    of its channels did not train at any rate tried (measured). Later growth keeps to the rule.
    """
    evenly = replace(architecture.scaling, head=HeadScaling.SCALE)
    whole = replace(architecture, scaling=evenly)
    found = reach(rules.WIDTH, whole, target, pixels=False).architecture
    return replace(found, scaling=architecture.scaling)
