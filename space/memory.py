"""How much memory a pass through a network needs, from the lifetimes of its tensors.

A tensor lives from the operation that makes it to the last one that needs it: that reads it, runs
in a module that was given it, or, in training, reads it on the way back. Weights, what training
keeps for them, and the workspace of convolution kernels are not counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from space.architecture import Activation, Architecture, Gate
from space.trace import Kind, Operation, Trace, trace

#: Bytes of a float32, and the size of max pooling's int64 indices in units of it.
_FLOAT = 4
_INDEX = 2


class Memory(NamedTuple):
    """Peak bytes for one image in float32, the image included; a batch needs as many times more.

    `training` is one forward and backward pass.
    """

    inference: int
    training: int


def peak_memory(architecture: Architecture, resolution: int | None = None) -> Memory:
    """The peak of activation memory at `resolution` pixels (the architecture's own where None).

    Tolerance against torch's CPU allocator in eager mode, channels-last, batch 8 (measured in
    `tests/space/test_memory.py`): inference 1 %; training 5 % beside kernels' workspace, which
    was up to three times the largest weight.
    """
    evaluated = replace(architecture, stochastic_depth=0.0)  # nothing is dropped in evaluation
    inference = max(_forward(trace(evaluated, resolution), kept=set()))
    return Memory(_FLOAT * inference, _FLOAT * _training(trace(architecture, resolution)))


def _training(traced: Trace) -> int:
    kept = {
        number for i, operation in enumerate(traced.operations) for number in _saved(i, operation)
    }
    return max(*_forward(traced, kept), *_backward(traced))


def _forward(traced: Trace, kept: set[int]) -> list[int]:
    """Elements alive during each operation; the image and tensors in `kept` live on to the end."""
    operations = traced.operations
    sizes = [tensor.elements for tensor in traced.tensors]
    last_use = [len(operations), *range(len(operations))]
    for time, operation in enumerate(operations):
        for number in (*operation.inputs, *operation.held):
            if number not in kept and number > 0:
                last_use[number] = time
    for number in kept:
        last_use[number] = len(operations)
    dying = [0] * (len(operations) + 1)
    for number, time in enumerate(last_use):
        dying[time] += sizes[number]

    alive, found = sizes[0], []
    for time, operation in enumerate(operations):
        alive += sizes[time + 1] + _indices(operation)
        found.append(alive)
        alive -= dying[time] + (0 if kept else _indices(operation))
    return found


def _backward(traced: Trace) -> list[int]:
    """Elements alive during each operation's way back, the last operation's first."""
    operations = traced.operations
    sizes = [tensor.elements for tensor in traced.tensors]
    readers = [0] * len(sizes)  # of a saved tensor, that are still to come
    readers[0] = 1  # the image stays with who gave it
    for index, operation in enumerate(operations):
        for number in _saved(index, operation):
            readers[number] += 1
    alive = sum(size for size, count in zip(sizes, readers, strict=True) if count)
    alive += sum(map(_indices, operations))

    found = []
    gradients = {len(operations): sizes[-1]}
    for index, operation in reversed(list(enumerate(operations))):
        given = gradients.pop(index + 1)
        made = {number: sizes[number] for number in operation.inputs if number > 0}
        if operation.kind is Kind.ADD:  # both inputs are given the same gradient, not a copy each
            made = dict.fromkeys(operation.inputs, 0) | {operation.inputs[0]: given}
            given = 0
        # The gate's gradient is as large as the map until it is summed over the pixels.
        scratch = given if operation.kind is Kind.MULTIPLY else 0
        found.append(alive + given + sum(gradients.values()) + sum(made.values()) + scratch)
        for number, size in made.items():
            gradients[number] = max(gradients.get(number, 0), size)
        for number in _saved(index, operation):
            readers[number] -= 1
            alive -= 0 if readers[number] else sizes[number]
        alive -= _indices(operation)
    return found


def _indices(operation: Operation) -> int:
    return _INDEX * operation.output.elements if operation.kind is Kind.MAX_POOL else 0


def _saved(index: int, operation: Operation) -> tuple[int, ...]:
    """The tensors that torch's autograd keeps for an operation's way back."""
    match operation.kind:
        case Kind.MEAN | Kind.PAD | Kind.ADD | Kind.DROP:
            return ()
        case Kind.ACTIVATION if operation.function in (Activation.RELU, Gate.SIGMOID):
            return (index + 1,)
        case _:
            return operation.inputs
