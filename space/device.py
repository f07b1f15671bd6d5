"""What a network needs on a device, in closed form: flash for its constants, SRAM to run.

The bytes of SRAM are those of the tensors that are alive at once, the least over all orders of
execution: a tensor lives from the operation that writes it to the last one that reads it, so a
block's input stays for its shortcut. Batch norm is folded into its convolution; an activation
works in place, as does an addition or a multiplication of which an operand is not needed again.
Kernels pad as they read. Their workspace and the runtime's own structures are not counted, and an
allocator, which gives each tensor an address, may need more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from space.architecture import Activation, Architecture, Block, Stage, resolve
from space.cost import input_side, parts
from space.layers import Layer, head_layers, layers, stem_layer
from space.trace import Kind, Operation, Trace, trace_block, trace_head, trace_stem

#: Bytes of an int8 network's biases (int32), scales (float32: one per output channel of a weight,
#: one per tensor) and zero points (one per tensor). Source: LiteRT's 8-bit quantisation
#: specification, in which weights are symmetric and a bias has the product of two other scales.
_BIAS = _SCALE = 4
_ZERO_POINT = 1

#: Activations that an operation applies as it clamps its result to 8 bits, without another tensor.
_CLAMPS = (Activation.RELU, Activation.RELU6)


class Precision(StrEnum):
    """The type of weights and tensors."""

    FLOAT32 = "float32"
    INT8 = "int8"

    @property
    def bytes(self) -> int:
        """Bytes of an element."""
        return 1 if self is Precision.INT8 else 4


class DeviceMemory(NamedTuple):
    """Bytes that one image's inference needs, and the layer or operation with the most SRAM.

    Example:
        >>> from space.device import Precision, device_memory
        >>> from space.presets import load
        >>> device_memory(load("mobilenet_v2"), Precision.FLOAT32).sram
        6021120
    """

    sram: int
    flash: int
    peak: str


class RuntimeMemory(NamedTuple):
    """Bytes that a runtime takes beyond a network's own."""

    sram: int
    flash: int


def over_bounds(
    needs: Mapping[str, int],
    bounds: Mapping[str, int | None],
    overhead: Mapping[str, int | None] | None = None,
) -> list[str]:
    """A clause on each of `sram` and `flash`, in bytes, that is above its bound; None is none.

    An `overhead` is taken off the bounds, and named.
    """
    found = []
    for name, title in (("sram", "SRAM"), ("flash", "flash")):
        most, taken = bounds.get(name), (overhead or {}).get(name) or 0
        if most is not None and needs[name] > most - taken:
            clause = f"{needs[name]:,} bytes of {title}, more than the {most - taken:,} that "
            beside = f" with an overhead of {taken:,}" if taken else ""
            found.append(f"{clause}objective.bounds allow{beside}")
    return found


class Footprint(NamedTuple):
    """What a network, or a part of it, holds: `elements` of tensors at its `peak`, and constants.

    `tensors` are those with a scale of their own once quantised.
    """

    elements: int
    peak: str
    weights: int
    biases: int
    tensors: int

    def at(self, precision: Precision) -> DeviceMemory:
        """The bytes in this precision."""
        if precision is Precision.INT8:
            constants = self.weights + (_BIAS + _SCALE) * self.biases
            flash = constants + (_SCALE + _ZERO_POINT) * self.tensors
        else:
            flash = precision.bytes * (self.weights + self.biases)
        return DeviceMemory(precision.bytes * self.elements, flash, self.peak)


class Step(NamedTuple):
    """An operation of a schedule: it reads tensors and writes one of `elements`.

    Tensor 0 is given, and step i writes tensor i + 1: over an operand of equal size that no later
    step reads, where it works `in_place`.
    """

    name: str
    inputs: tuple[int, ...]
    elements: int
    in_place: bool = False


def device_memory(
    architecture: Architecture, precision: Precision, resolution: int | None = None
) -> DeviceMemory:
    """The SRAM and flash at `resolution` pixels (the architecture's own where None), exact.

    Example:
        >>> from space.device import Precision, device_memory
        >>> from space.presets import load
        >>> device_memory(load("mobilenet_v2"), Precision.INT8)
        DeviceMemory(sram=1505280, flash=3614533, peak='stages.1.0.depthwise')
    """
    return joined(_parts(architecture, resolution)).at(precision)


def litert_micro(architecture: Architecture) -> RuntimeMemory:
    """What LiteRT for Microcontrollers takes beyond the exact int8 bytes, estimated.

    Its structures in RAM, and the description of the graph in the file, by tensors and output
    channels. Measured: least squares over the 34 networks of `efficientnet_lite_small` in
    `experiments/results/arena.json`, off by at most 0.4 % (RAM) and 2 % (file). Squeeze-and-excite
    and SiLU are several operations there, and need more.
    """
    found = joined(_parts(architecture, None))
    return RuntimeMemory(
        round(678 + 222.2 * found.tensors + 8.02 * found.biases),
        round(846.3 * found.tensors + 20.3 * found.biases - 295),
    )


def _parts(architecture: Architecture, resolution: int | None) -> Iterator[Footprint]:
    yield stem_footprint(architecture, resolution)
    stem, *outputs, _ = parts(architecture, resolution)
    given = stem.resolution
    for number, blocks in enumerate(architecture.blocks()):
        for index, block in enumerate(blocks):
            found = _of_block(block, given)
            yield found._replace(peak=f"stages.{number}.{index}{found.peak}")
            given = outputs[number].resolution
    yield head_footprint(architecture, given)


def joined(parts: Iterable[Footprint]) -> Footprint:
    """The footprint of parts that run one after another, handing over a single tensor."""
    found = list(parts)
    largest = max(found, key=lambda part: part.elements)
    sums = [sum(column) for column in zip(*(part[2:] for part in found), strict=True)]
    return Footprint(largest.elements, largest.peak, *sums)


def stem_footprint(architecture: Architecture, resolution: int | None = None) -> Footprint:
    """The stem's, on an image of `resolution` pixels; the image is one of the tensors."""
    traced = trace_stem(architecture, input_side(architecture, resolution))
    found = _footprint([stem_layer(architecture)], traced)
    return found._replace(tensors=found.tensors + 1)


def stage_footprint(
    stage: Stage, in_channels: int, activation: Activation, given: int, side: int
) -> Footprint:
    """A whole stage's, from a map of `given` pixels to one of `side` pixels.

    `activation` is the one of the whole network.
    """
    first = _of_block(resolve(stage, in_channels, stage.stride, activation), given)
    other = _of_block(resolve(stage, stage.channels, 1, activation), side)
    return joined([first] + [other] * (stage.repeats - 1))


def head_footprint(architecture: Architecture, side: int) -> Footprint:
    """The head's, given the last stage's map of `side` pixels."""
    return _footprint(head_layers(architecture), trace_head(architecture, side))


@lru_cache(maxsize=65_536)
def _of_block(block: Block, side: int) -> Footprint:
    return _footprint(layers(block), trace_block(block, side))


def _footprint(constants: Iterable[Layer], traced: Trace) -> Footprint:
    found = list(constants)
    elements, name = least_peak(traced.tensors[0].elements, list(_steps(traced)))
    return Footprint(
        elements,
        name.removesuffix(".conv"),
        weights=sum(layer.weights for layer in found),
        biases=sum(layer.out_channels for layer in found),
        tensors=sum(map(_quantised, traced.operations)),
    )


def _quantised(operation: Operation) -> bool:
    """Whether an operation writes a tensor with a scale of its own."""
    return operation.kind is not Kind.NORM and operation.function not in _CLAMPS


def _steps(traced: Trace) -> Iterator[Step]:
    """The operations that need memory of their own: all but those in place on a single operand."""
    number = [0]  # of the tensor in which each tensor of the trace lies
    count = 0
    for operation in traced.operations:
        inputs = tuple(number[tensor] for tensor in operation.inputs)
        if operation.kind in (Kind.NORM, Kind.ACTIVATION):
            number.append(inputs[0])
            continue
        count += 1
        number.append(count)
        in_place = operation.kind in (Kind.MULTIPLY, Kind.ADD)
        yield Step(operation.name, inputs, operation.output.elements, in_place)


def least_peak(given: int, steps: Sequence[Step]) -> tuple[int, str]:
    """The least number of elements alive at once, over all orders of `steps`, and the step there.

    The first tensor has `given` elements; one that no step reads is kept. Sets of executed steps
    are visited by their size, each with the best way to it, so no order is enumerated twice.
    """
    sizes = [given, *(step.elements for step in steps)]
    readers = [0] * len(sizes)  # a bit for each step
    for index, step in enumerate(steps):
        for tensor in step.inputs:
            readers[tensor] |= 1 << index
    readers = [bits or -1 for bits in readers]
    best = {0: (0, "")}
    for _ in steps:
        following: dict[int, tuple[int, str]] = {}
        for done, reached in best.items():
            made = [0, *(i + 1 for i in range(len(steps)) if done >> i & 1)]
            alive = sum(sizes[tensor] for tensor in made if readers[tensor] & ~done)
            for index, step in enumerate(steps):
                if done >> index & 1 or not all(tensor in made for tensor in step.inputs):
                    continue
                after = done | 1 << index
                written = 0 if _reuses(step, sizes, readers, after) else step.elements
                now = max(reached, (alive + written, step.name), key=lambda pair: pair[0])
                if after not in following or now[0] < following[after][0]:
                    following[after] = now
        best = following
    return best[(1 << len(steps)) - 1]


def _reuses(step: Step, sizes: Sequence[int], readers: Sequence[int], after: int) -> bool:
    return step.in_place and any(
        sizes[tensor] == step.elements and not readers[tensor] & ~after for tensor in step.inputs
    )
