"""What a network costs, in closed form: no torch, no forward pass, exact integers.

The convolutions of each operator are listed here in the order in which `space.blocks` runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from space.architecture import Architecture, Block, Operator, Skip


class Cost(NamedTuple):
    """MACs (multiply–adds), parameters, and activations (elements of convolution outputs).

    MACs are of convolution and linear layers for one image, without biases and normalisation;
    parameters are all that a training learns. The EfficientNet paper calls these MACs "FLOPS".
    """

    macs: int
    params: int
    activations: int


class At(Enum):
    """On which map a convolution's outputs lie."""

    INPUT = "input"
    OUTPUT = "output"
    IMAGE = "image"


class Convolution(NamedTuple):
    """One convolution; one with a bias (squeeze-and-excite's) has no batch norm behind it."""

    in_channels: int
    out_channels: int
    kernel: int
    groups: int
    at: At
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
            yield Convolution(width, out, kernel, 1, At.OUTPUT)
        case Operator.SEPARABLE:
            yield Convolution(inner, inner, kernel, inner, At.OUTPUT)
        case Operator.INVERTED:
            yield Convolution(width, inner, 1, 1, At.INPUT)
            yield Convolution(inner, inner, kernel, inner, At.OUTPUT)
        case Operator.FUSED:
            yield Convolution(width, inner, kernel, 1, At.OUTPUT)
        case Operator.BASIC:
            yield Convolution(width, inner, kernel, 1, At.OUTPUT)
            yield Convolution(inner, out, kernel, 1, At.OUTPUT)
        case Operator.BOTTLENECK:
            yield Convolution(width, inner, 1, 1, At.INPUT)
            yield Convolution(inner, inner, kernel, 1, At.OUTPUT)
            yield Convolution(inner, out, 1, 1, At.OUTPUT)
    if block.squeeze_channels:
        yield Convolution(inner, block.squeeze_channels, 1, 1, At.IMAGE, bias=True)
        yield Convolution(block.squeeze_channels, inner, 1, 1, At.IMAGE, bias=True)
    if block.operator in (Operator.SEPARABLE, Operator.INVERTED, Operator.FUSED):
        yield Convolution(inner, out, 1, 1, At.OUTPUT)
    if block.shortcut is Skip.PROJECTION:
        yield Convolution(width, out, 1, 1, At.OUTPUT)


def cost(architecture: Architecture, resolution: int | None = None) -> Cost:
    """The exact cost of `architecture` at `resolution` pixels (its own where None is given)."""
    stem, head = architecture.stem, architecture.head
    size = -(-(resolution or architecture.resolution) // stem.stride)
    first = Convolution(architecture.in_channels, stem.channels, stem.kernel, 1, At.OUTPUT)
    layers = [(first, size * size)]
    size = -(-size // 2) if stem.pool else size
    for stage in architecture.blocks():
        for block in stage:
            out = -(-size // block.stride)
            pixels = {At.INPUT: size * size, At.OUTPUT: out * out, At.IMAGE: 1}
            layers += [(convolution, pixels[convolution.at]) for convolution in convolutions(block)]
            size = out
    if head.channels:
        last = architecture.stages[-1].channels
        layers.append((Convolution(last, head.channels, 1, 1, At.OUTPUT), size * size))
    widths = [architecture.out_channels, head.hidden, architecture.num_classes]
    widths = [width for width in widths if width]
    linear = list(pairwise(widths))
    return Cost(
        macs=sum(layer.weights * pixels for layer, pixels in layers)
        + sum(width * out for width, out in linear),
        params=sum(layer.params for layer, _ in layers)
        + sum((width + 1) * out for width, out in linear),
        activations=sum(layer.out_channels * pixels for layer, pixels in layers),
    )
