"""Why other tools give other totals for the same network: what each of them counts."""

from __future__ import annotations

from typing import NamedTuple

from space.architecture import Architecture
from space.trace import Kind, trace


class Operations(NamedTuple):
    """How much of each kind of work a forward pass of one image does.

    `convolution` and `linear` are multiply–adds; `bias` and `norm` are output elements that get a
    bias, and elements normalised; `activation` are elements of activations and gates; `mean` are
    elements read and `mean_outputs` written by means over space; `pooling` are elements read by max
    and average pooling; `add` and `multiply` are elements of shortcuts and of squeeze-and-excite.
    """

    convolution: int
    linear: int
    bias: int
    norm: int
    activation: int
    mean: int
    mean_outputs: int
    pooling: int
    add: int
    multiply: int


class Count(NamedTuple):
    """One tool's total for a network, and why it is that."""

    tool: str
    total: int
    formula: str
    because: str


def operations(architecture: Architecture, resolution: int | None = None) -> Operations:
    """The work of each kind at `resolution` pixels (the architecture's own where None)."""
    traced = trace(architecture, resolution)
    written = dict.fromkeys(Kind, 0)
    read = dict.fromkeys(Kind, 0)
    macs = dict.fromkeys(Kind, 0)
    bias = 0
    for operation in traced.operations:
        written[operation.kind] += operation.output.elements
        read[operation.kind] += traced.tensors[operation.inputs[0]].elements
        macs[operation.kind] += operation.macs
        bias += operation.output.elements if operation.bias else 0
    return Operations(
        convolution=macs[Kind.CONVOLUTION],
        linear=macs[Kind.LINEAR],
        bias=bias,
        norm=written[Kind.NORM],
        activation=written[Kind.ACTIVATION],
        mean=read[Kind.MEAN],
        mean_outputs=written[Kind.MEAN],
        pooling=read[Kind.MAX_POOL] + read[Kind.AVERAGE_POOL],
        add=written[Kind.ADD],
        multiply=written[Kind.MULTIPLY],
    )


def explain(architecture: Architecture, resolution: int | None = None) -> list[Count]:
    """What phiscale, fvcore, thop and torch's counter say of the network that `build` gives.

    Each total follows from `operations` by the tool's own rule, read from its source (fvcore
    0.1.5, thop 0.1.1, torch 2.13) and equal to what the tool itself says (the tests run
    those that are installed).
    """
    work = operations(architecture, resolution)
    macs = work.convolution + work.linear
    return [
        Count(
            "phiscale",
            macs,
            "convolution + linear",
            "one per multiply–add of convolution and linear layers, as in the EfficientNet paper",
        ),
        Count(
            "fvcore",
            macs + 2 * work.norm + work.mean,
            "convolution + linear + 2·norm + mean",
            "also 2 per element that batch norm writes and 1 per element averaged over space",
        ),
        Count(
            "thop",
            macs + 4 * work.norm + work.mean + work.mean_outputs,
            "convolution + linear + 4·norm + mean + mean outputs",
            "also 4 per element that batch norm writes and 1 per element that a mean over space "
            "reads or writes",
        ),
        Count(
            "torch FlopCounterMode",
            2 * macs,
            "2·(convolution + linear)",
            "counts a multiply–add as two, and nothing but convolution and linear layers",
        ),
    ]
