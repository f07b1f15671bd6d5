"""What a network costs, in closed form: no torch, no forward pass, exact integers.

The multiply–adds of a layer (`space.layers`) are proportional to the pixels of the map it writes,
so a stage's cost is a few coefficients (`Terms`), whatever the resolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from space.architecture import Activation, Architecture, Stage, resolve
from space.layers import At, Layer, LayerKind, head_layers, layers, stem_layer


class Cost(NamedTuple):
    """MACs (multiply–adds), parameters, and activations (elements of convolution outputs).

    MACs are of convolution and linear layers for one image, without biases and normalisation;
    parameters are all that training learns. The EfficientNet paper calls these MACs "FLOPS".

    Example:
        >>> from space.cost import Cost
        >>> Cost(macs=100, params=10, activations=5).macs
        100
    """

    macs: int
    params: int
    activations: int


class PartCost(NamedTuple):
    """The cost of the stem, a stage or the head, and the map that it puts out.

    `resolution` is the map's side in pixels; 1 after the head's mean over space.
    """

    name: str
    channels: int
    resolution: int
    cost: Cost


def cost(architecture: Architecture, resolution: int | None = None) -> Cost:
    """The exact cost of `architecture` at `resolution` pixels (its own where None is given).

    Raises ValueError for a resolution below 1.

    Example:
        >>> from space.cost import cost
        >>> from space.presets import load
        >>> cost(load("efficientnet_b0"))
        Cost(macs=385814752, params=5288548, activations=6747036)
    """
    macs = params = activations = 0
    for terms, side, given in _walk(architecture, resolution):
        (macs_in, _, act_in), (macs_out, _, act_out), (macs_image, more_params, act_image) = terms
        inputs, outputs = given * given, side * side
        macs += macs_in * inputs + macs_out * outputs + macs_image
        params += more_params
        activations += act_in * inputs + act_out * outputs + act_image
    return Cost(macs, params, activations)


def parts(architecture: Architecture, resolution: int | None = None) -> list[PartCost]:
    """The cost of the stem, each stage, and the head, in this order; together `cost`."""
    stages = [(f"stage {n}", stage.channels) for n, stage in enumerate(architecture.stages, 1)]
    named = [("stem", architecture.stem.channels), *stages, ("head", architecture.num_classes)]
    found = [
        PartCost(name, channels, side, terms.at(given, side))
        for (name, channels), (terms, side, given) in zip(
            named, _walk(architecture, resolution), strict=True
        )
    ]
    if architecture.stem.pool:
        found[0] = found[0]._replace(resolution=-(-found[0].resolution // 2))
    return found


def _walk(architecture: Architecture, resolution: int | None) -> Iterator[tuple[Terms, int, int]]:
    """Stem, stages and head: their terms, and the sides of the maps they put out and are given."""
    stem = architecture.stem
    given = input_side(architecture, resolution)
    side = -(-given // stem.stride)
    yield _terms([stem_layer(architecture)]), side, given
    given = -(-side // 2) if stem.pool else side
    channels = stem.channels
    for stage in architecture.stages:
        side = -(-given // stage.stride)
        yield stage_terms(stage, channels), side, given
        given, channels = side, stage.channels
    yield head_terms(architecture), 1, given


def input_side(architecture: Architecture, resolution: int | None) -> int:
    """The side of the image in pixels: the architecture's own where None is given."""
    side = architecture.resolution if resolution is None else resolution
    if side < 1:
        raise ValueError(f"`resolution >= 1` must hold, but got resolution={side}")
    return side


class Terms(NamedTuple):
    """A cost by where it is spent; parameters count as spent once per image."""

    input_pixel: Cost
    output_pixel: Cost
    image: Cost

    def at(self, given: int, side: int) -> Cost:
        """The cost where the input map and the output map have these sides."""
        return _plus(_plus(self.image, self.input_pixel, given**2), self.output_pixel, side**2)


def _plus(cost: Cost, other: Cost, times: int = 1) -> Cost:
    return Cost(*(a + times * b for a, b in zip(cost, other, strict=True)))


def _terms(found: Iterable[Layer]) -> Terms:
    macs, activations, params = dict.fromkeys(At, 0), dict.fromkeys(At, 0), 0
    for layer in found:
        macs[layer.at] += layer.weights
        params += layer.params
        if layer.kind is LayerKind.CONVOLUTION:
            activations[layer.at] += layer.out_channels
    spent = {at: Cost(macs[at], params if at is At.IMAGE else 0, activations[at]) for at in At}
    return Terms(spent[At.INPUT], spent[At.OUTPUT], spent[At.IMAGE])


# A search meets the same few stages again and again: remembering them is what makes `cost` fast.
@lru_cache(maxsize=65_536)
def stage_terms(stage: Stage, in_channels: int) -> Terms:
    """The terms of a whole stage: the blocks after its first have its output map as input map."""
    # Activations change no cost, so that any will do here.
    first = _terms(layers(resolve(stage, in_channels, stage.stride, Activation.RELU)))
    if stage.repeats == 1:
        return first
    other = _terms(layers(resolve(stage, stage.channels, 1, Activation.RELU)))
    pixel, count = _plus(other.input_pixel, other.output_pixel), stage.repeats - 1
    return first._replace(
        output_pixel=_plus(first.output_pixel, pixel, count),
        image=_plus(first.image, other.image, count),
    )


def head_terms(architecture: Architecture) -> Terms:
    """The terms of the 1×1 convolution on the map it is given, and of the linear layers."""
    return _terms(head_layers(architecture))
