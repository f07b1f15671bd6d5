"""What a network costs, in closed form: no torch, no forward pass, exact integers.

The convolutions of each operator are listed here in the order in which `space.blocks` runs them.
Their multiply–adds are proportional to the pixels of the map they write, so a stage's cost is a
few coefficients (`Terms`), whatever the resolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from space.architecture import (
    Activation,
    Architecture,
    Block,
    Operator,
    Skip,
    Stage,
    resolve,
)


class Cost(NamedTuple):
    """MACs (multiply–adds), parameters, and activations (elements of convolution outputs).

    MACs are of convolution and linear layers for one image, without biases and normalisation;
    parameters are all that a training learns. The EfficientNet paper calls these MACs "FLOPS".
    """

    macs: int
    params: int
    activations: int


class Part(NamedTuple):
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
    """
    macs = params = activations = 0
    for terms, side, given in _walk(architecture, resolution):
        macs_in, macs_out, macs_image, more_params, act_in, act_out, act_image = terms
        inputs, outputs = given * given, side * side
        macs += macs_in * inputs + macs_out * outputs + macs_image
        params += more_params
        activations += act_in * inputs + act_out * outputs + act_image
    return Cost(macs, params, activations)


def parts(architecture: Architecture, resolution: int | None = None) -> list[Part]:
    """The cost of the stem, each stage, and the head, in this order; together `cost`."""
    stages = [(f"stage {n}", stage.channels) for n, stage in enumerate(architecture.stages, 1)]
    named = [("stem", architecture.stem.channels), *stages, ("head", architecture.num_classes)]
    found = [
        Part(name, channels, side, terms.at(given, side))
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
    yield _stem_terms(architecture), side, given
    given = -(-side // 2) if stem.pool else side
    channels = stem.channels
    for stage in architecture.stages:
        side = -(-given // stage.stride)
        yield stage_terms(stage, channels), side, given
        given, channels = side, stage.channels
    yield head_terms(architecture), 1, given


def input_side(architecture: Architecture, resolution: int | None) -> int:
    """The side in pixels of the image that is meant: the architecture's own where None is given."""
    side = architecture.resolution if resolution is None else resolution
    if side < 1:
        raise ValueError(f"`resolution >= 1` must hold, but got resolution={side}")
    return side


class At(StrEnum):
    """On which map a convolution's outputs lie: the block's input, its output, or one pixel."""

    INPUT = "input"
    OUTPUT = "output"
    IMAGE = "image"


class Convolution(NamedTuple):
    """One convolution; one with a bias (squeeze-and-excite's) has no batch norm behind it."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    groups: int = 1
    at: At = At.OUTPUT
    bias: bool = False

    @property
    def weights(self) -> int:
        """Weights alone: also the multiply–adds of one output pixel."""
        return self.kernel**2 * (self.in_channels // self.groups) * self.out_channels

    @property
    def params(self) -> int:
        """Weights, and a bias or batch norm's weight and bias."""
        return self.weights + self.out_channels * (1 if self.bias else 2)


def convolutions(block: Block) -> Iterator[Convolution]:
    """The convolutions of a block, in the order in which they run."""
    width, inner, out = block.in_channels, block.inner_channels, block.out_channels
    kernel = block.kernel
    match block.operator:
        case Operator.CONV:
            yield Convolution(width, out, kernel)
        case Operator.SEPARABLE:
            yield Convolution(inner, inner, kernel, groups=inner)
        case Operator.INVERTED:
            yield Convolution(width, inner, at=At.INPUT)
            yield Convolution(inner, inner, kernel, groups=inner)
        case Operator.FUSED:
            yield Convolution(width, inner, kernel)
        case Operator.BASIC:
            yield Convolution(width, inner, kernel)
            yield Convolution(inner, out, kernel)
        case Operator.BOTTLENECK:
            yield Convolution(width, inner, at=At.INPUT)
            yield Convolution(inner, inner, kernel)
            yield Convolution(inner, out)
    if block.squeeze_channels:
        yield Convolution(inner, block.squeeze_channels, at=At.IMAGE, bias=True)
        yield Convolution(block.squeeze_channels, inner, at=At.IMAGE, bias=True)
    if block.operator in (Operator.SEPARABLE, Operator.INVERTED, Operator.FUSED):
        yield Convolution(inner, out)
    if block.shortcut is Skip.PROJECTION:
        yield Convolution(width, out)


class Terms(NamedTuple):
    """A cost by where it is spent: per pixel of the input map, of the output map, and per image."""

    macs_input: int
    macs_output: int
    macs_image: int
    params: int
    activations_input: int
    activations_output: int
    activations_image: int

    def at(self, given: int, side: int) -> Cost:
        """The cost where the input map and the output map have these sides."""
        inputs, outputs = given * given, side * side
        return Cost(
            self.macs_input * inputs + self.macs_output * outputs + self.macs_image,
            self.params,
            self.activations_input * inputs
            + self.activations_output * outputs
            + self.activations_image,
        )


def _block_terms(block: Block) -> Terms:
    macs = {At.INPUT: 0, At.OUTPUT: 0, At.IMAGE: 0}
    activations = macs.copy()
    params = 0
    for layer in convolutions(block):
        macs[layer.at] += layer.weights
        activations[layer.at] += layer.out_channels
        params += layer.params
    return Terms(
        macs[At.INPUT],
        macs[At.OUTPUT],
        macs[At.IMAGE],
        params,
        activations[At.INPUT],
        activations[At.OUTPUT],
        activations[At.IMAGE],
    )


# A search meets the same few stages again and again: remembering them is what makes `cost` fast.
@lru_cache(maxsize=65_536)
def stage_terms(stage: Stage, in_channels: int) -> Terms:
    """The terms of a whole stage: the blocks after its first have its output map as input map."""
    # Activations change no cost, so that any will do here.
    first = _block_terms(resolve(stage, in_channels, stage.stride, Activation.RELU))
    if stage.repeats == 1:
        return first
    other = _block_terms(resolve(stage, stage.channels, 1, Activation.RELU))
    count = stage.repeats - 1
    return Terms(
        first.macs_input,
        first.macs_output + count * (other.macs_input + other.macs_output),
        first.macs_image + count * other.macs_image,
        first.params + count * other.params,
        first.activations_input,
        first.activations_output + count * (other.activations_input + other.activations_output),
        first.activations_image + count * other.activations_image,
    )


def _stem_terms(architecture: Architecture) -> Terms:
    stem = architecture.stem
    weights = stem.kernel**2 * architecture.in_channels * stem.channels
    return Terms(0, weights, 0, weights + 2 * stem.channels, 0, stem.channels, 0)


def head_terms(architecture: Architecture) -> Terms:
    """The terms of the 1×1 convolution on the map it is given, and of the linear layers."""
    head, width = architecture.head, architecture.stages[-1].channels
    convolution = params = linear = 0
    if head.channels:
        convolution = width * head.channels
        params = convolution + 2 * head.channels
        width = head.channels
    if head.hidden:
        linear = width * head.hidden
        params += (width + 1) * head.hidden
        width = head.hidden
    classes = architecture.num_classes
    params += (width + 1) * classes
    return Terms(convolution, 0, linear + width * classes, params, head.channels, 0, 0)
