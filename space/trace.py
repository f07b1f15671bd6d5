"""Every operation of a network's forward pass, in order, without torch.

It mirrors `space.network`, and is what explains other tools' counts (`space.explain`) and how much
memory a pass needs (`space.memory`, `space.device`). For the cost alone, `space.cost` is a thousand
times faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from space.architecture import Activation, Architecture, Block, Gate, Padding, Skip
from space.cost import input_side
from space.layers import Layer, Path, head_layers, layers, stem_layer


class Kind(StrEnum):
    """What an operation does; a gate counts as an activation. DROP is stochastic depth."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    NORM = "norm"
    ACTIVATION = "activation"
    MEAN = "mean"
    MAX_POOL = "max_pool"
    AVERAGE_POOL = "average_pool"
    PAD = "pad"
    MULTIPLY = "multiply"
    DROP = "drop"
    ADD = "add"


class Map(NamedTuple):
    """A tensor of one image: channels × side × side."""

    channels: int
    side: int

    @property
    def elements(self) -> int:
        """Its number of elements."""
        return self.channels * self.side**2


class Operation(NamedTuple):
    """One operation; tensors are numbered, 0 the image and i + 1 the output of operation i.

    `held` are tensors that it does not read and that live on: each module keeps what it was given
    until it returns. `macs` are multiply–adds, `bias` says that one is added to every output.
    """

    name: str
    kind: Kind
    inputs: tuple[int, ...]
    held: tuple[int, ...]
    output: Map
    macs: int = 0
    bias: bool = False
    function: Activation | Gate | None = None


class Trace(NamedTuple):
    """All operations, and all tensors by their number."""

    operations: tuple[Operation, ...]
    tensors: tuple[Map, ...]


def trace(architecture: Architecture, resolution: int | None = None) -> Trace:
    """The operations on one image of `resolution` pixels (the architecture's own where None)."""
    image = Map(architecture.in_channels, input_side(architecture, resolution))
    same = architecture.numerics.padding is Padding.SAME
    tape = _Tape(image, same=same, drops=architecture.stochastic_depth > 0)
    x = _stem(tape, architecture)
    for number, stage in enumerate(architecture.blocks()):
        with tape.inside(x):
            out = x
            for index, block in enumerate(stage):
                out = _block(tape, f"stages.{number}.{index}", out, block)
        x = out
    _head(tape, x, architecture)
    return tape.played()


def trace_stem(architecture: Architecture, side: int) -> Trace:
    """The stem in inference, on an image of `side` pixels; kernels pad as they read."""
    tape = _Tape(Map(architecture.in_channels, side))
    _stem(tape, architecture)
    return tape.played()


def trace_block(block: Block, side: int) -> Trace:
    """The same of a block given a map of `side` pixels; names begin with a dot."""
    tape = _Tape(Map(block.in_channels, side))
    _block(tape, "", 0, block)
    return tape.played()


def trace_head(architecture: Architecture, side: int) -> Trace:
    """The same of the head, given the last stage's map of `side` pixels."""
    tape = _Tape(Map(architecture.stages[-1].channels, side))
    _head(tape, 0, architecture)
    return tape.played()


def _stem(tape: _Tape, architecture: Architecture) -> int:
    x = tape.layer(0, stem_layer(architecture))
    return tape.max_pool("pool", x) if architecture.stem.pool else x


def _head(tape: _Tape, x: int, architecture: Architecture) -> None:
    after = list(head_layers(architecture))
    if architecture.head.channels:
        x = tape.layer(x, after.pop(0))
    x = tape.mean("mean", x)
    for layer in after:
        x = tape.layer(x, layer)


def _block(tape: _Tape, name: str, x: int, block: Block) -> int:
    """The operations of one block; returns its output."""
    named = [layer._replace(name=f"{name}.{layer.name}") for layer in layers(block)]
    gate = [layer for layer in named if layer.path is Path.GATE]
    *before, last = [layer for layer in named if layer.path is Path.MAIN]
    with tape.inside(x):
        out = x
        for layer in before:
            out = tape.layer(out, layer)
        if gate:
            out = _squeeze_excite(tape, f"{name}.squeeze", out, gate)
        out = tape.layer(out, last)
        if block.shortcut is not Skip.NONE:
            projection = named[-1] if named[-1].path is Path.SHORTCUT else None
            out = _join(tape, name, out, x, block, projection)
        if block.final_activation:
            out = tape.activate(f"{name}.activation", out, block.final_activation)
    return out


def _squeeze_excite(tape: _Tape, name: str, x: int, gate: list[Layer]) -> int:
    with tape.inside(x):
        out = tape.mean(f"{name}.mean", x)
        for layer in gate:
            out = tape.layer(out, layer)
        return tape.run(f"{name}.scale", Kind.MULTIPLY, x, out, output=tape.tensors[x])


def _join(tape: _Tape, name: str, out: int, x: int, block: Block, projection: Layer | None) -> int:
    """The branch, dropped for some images in training, plus the shortcut."""
    output = tape.tensors[out]
    with tape.inside(out):
        if tape.drops:
            out = tape.run(f"{name}.drop", Kind.DROP, out, output=output)
        with tape.inside(out):
            if projection is not None:
                x = tape.layer(x, projection)
            elif block.shortcut is Skip.POOL:
                x = _pool_shortcut(tape, f"{name}.shortcut", x, block, output)
        return tape.run(f"{name}.add", Kind.ADD, out, x, output=output)


def _pool_shortcut(tape: _Tape, name: str, x: int, block: Block, output: Map) -> int:
    with tape.inside(x):
        if block.stride > 1:
            pooled = Map(block.in_channels, output.side)
            x = tape.run(f"{name}.pool", Kind.AVERAGE_POOL, x, output=pooled)
        if block.in_channels != block.out_channels:
            x = tape.run(f"{name}.pad", Kind.PAD, x, output=output)
        return x


class _Tape:
    """Records operations; each method returns the number of the tensor that it made."""

    def __init__(self, given: Map, *, same: bool = False, drops: bool = False) -> None:
        self.same, self.drops = same, drops
        self.operations: list[Operation] = []
        self.tensors = [given]
        self._held: list[int] = [0]

    def played(self) -> Trace:
        """What was recorded."""
        return Trace(tuple(self.operations), tuple(self.tensors))

    @contextmanager
    def inside(self, given: int) -> Iterator[None]:
        """A module that was given this tensor, and keeps it until it returns."""
        self._held.append(given)
        yield
        self._held.pop()

    def run(
        self,
        name: str,
        kind: Kind,
        *inputs: int,
        output: Map,
        macs: int = 0,
        bias: bool = False,
        function: Activation | Gate | None = None,
    ) -> int:
        held = tuple(self._held)
        self.operations.append(Operation(name, kind, inputs, held, output, macs, bias, function))
        self.tensors.append(output)
        return len(self.operations)

    def layer(self, x: int, layer: Layer) -> int:
        """The layer, and the batch norm and the activation that follow it."""
        if not layer.norm:
            out = self._weighted(x, layer)
            return self.activate(f"{layer.name}.activation", out, layer.activation)
        with self.inside(x):
            out = self._weighted(x, layer)
            out = self.run(layer.norm_module, Kind.NORM, out, output=self.tensors[out])
            return self.activate(f"{layer.name}.activation", out, layer.activation)

    def _weighted(self, x: int, layer: Layer) -> int:
        side = -(-self.tensors[x].side // layer.stride)
        if self.same and layer.stride > 1 and layer.kernel > 1:
            x = self._pad(f"{layer.name}.pad", x, layer.kernel, layer.stride)
        output = Map(layer.out_channels, side)
        macs = layer.weights * side**2
        return self.run(
            layer.module, Kind(layer.kind), x, output=output, macs=macs, bias=layer.bias
        )

    def activate(self, name: str, x: int, function: Activation | Gate | None) -> int:
        if function is None:
            return x
        return self.run(name, Kind.ACTIVATION, x, output=self.tensors[x], function=function)

    def mean(self, name: str, x: int) -> int:
        return self.run(name, Kind.MEAN, x, output=Map(self.tensors[x].channels, 1))

    def max_pool(self, name: str, x: int) -> int:
        given = self.tensors[x]
        output = Map(given.channels, -(-given.side // 2))
        with self.inside(x):
            x = self._pad(f"{name}.pad", x, 3, 2) if self.same else x
            return self.run(name, Kind.MAX_POOL, x, output=output)

    def _pad(self, name: str, x: int, kernel: int, stride: int) -> int:
        channels, side = self.tensors[x]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        return self.run(name, Kind.PAD, x, output=Map(channels, side + total))
