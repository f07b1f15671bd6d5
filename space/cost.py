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
    """The exact cost of `architecture` at `resolution` pixels (its own where None is given)."""
    macs = params = activations = 0
    for part in parts(architecture, resolution):
        part_macs, part_params, part_activations = part.cost
        macs += part_macs
        params += part_params
        activations += part_activations
    return Cost(macs, params, activations)


def parts(architecture: Architecture, resolution: int | None = None) -> list[Part]:
    """The exact cost of the stem, each stage, and the head, in this order.

    Raises ValueError for a resolution below 1.
    """
    stem = architecture.stem
    channels = stem.channels
    size = -(-input_side(architecture, resolution) // stem.stride)
    weights = stem.kernel**2 * architecture.in_channels * channels
    pixels = size * size
    spent = Cost(weights * pixels, weights + 2 * channels, channels * pixels)
    if stem.pool:
        size = -(-size // 2)
    found = [Part("stem", channels, size, spent)]
    for number, stage in enumerate(architecture.stages, start=1):
        terms = stage_terms(stage, channels)
        finer = size * size
        size = -(-size // stage.stride)
        channels = stage.channels
        found.append(Part(f"stage {number}", channels, size, terms.at(finer, size * size)))
    found.append(Part("head", architecture.num_classes, 1, head_cost(architecture, size * size)))
    return found


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

    def at(self, input_pixels: int, output_pixels: int) -> Cost:
        """The cost where the maps have these numbers of pixels."""
        macs_in, macs_out, macs_image, params, act_in, act_out, act_image = self
        return Cost(
            macs_in * input_pixels + macs_out * output_pixels + macs_image,
            params,
            act_in * input_pixels + act_out * output_pixels + act_image,
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


def head_cost(architecture: Architecture, pixels: int) -> Cost:
    """The cost of the 1×1 convolution over `pixels`, and on one pixel of the linear layers."""
    head, width = architecture.head, architecture.stages[-1].channels
    macs = params = activations = 0
    if head.channels:
        macs = width * head.channels * pixels
        params = width * head.channels + 2 * head.channels
        activations = head.channels * pixels
        width = head.channels
    if head.hidden:
        macs += width * head.hidden
        params += (width + 1) * head.hidden
        width = head.hidden
    classes = architecture.num_classes
    return Cost(macs + width * classes, params + (width + 1) * classes, activations)
