"""Flash and SRAM against exhaustive schedules, and against torch's own tensors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from space import choices, presets
from space.architecture import (
    Activation,
    Architecture,
    Head,
    Numerics,
    Operator,
    Padding,
    Skip,
    SqueezeExcite,
    Stage,
    Stem,
)
from space.cost_table import tabulate
from space.device import Precision, Step, device_memory, least_peak
from space.network import build
from space.trace import Kind, trace
from space.within import Within
from tests.space.strategies import ARCHITECTURES, STAGES

UNARY = (Kind.NORM, Kind.ACTIVATION)


def exhaustive(sizes, steps):
    """The least peak over every order: `steps` are (inputs, in place), tensor i + 1 is step i's."""
    best = sum(sizes)

    def go(done, alive, peak):
        nonlocal best
        if peak >= best:
            return
        if len(done) == len(steps):
            best = peak
        for number, (inputs, in_place) in enumerate(steps):
            if number in done or any(tensor and tensor - 1 not in done for tensor in inputs):
                continue
            later = [s for i, s in enumerate(steps) if i not in done and i != number]
            dead = {t for t in inputs if not any(t in reads for reads, _ in later)}
            size = sizes[number + 1]
            over = in_place and any(sizes[tensor] == size for tensor in dead)
            during = sum(sizes[tensor] for tensor in alive) + (0 if over else size)
            go(done | {number}, alive - dead | {number + 1}, max(peak, during))

    go(frozenset(), frozenset({0}), 0)
    return best


@st.composite
def graphs(draw):
    """Random graphs of up to seven operations: in which order they may run is not a chain."""
    steps = []
    for number in range(draw(st.integers(1, 7))):
        read = draw(st.lists(st.integers(0, number), min_size=1, max_size=3, unique=True))
        steps.append(
            Step(f"step {number}", tuple(read), draw(st.integers(1, 4)), draw(st.booleans()))
        )
    return draw(st.integers(1, 4)), steps


@given(graphs())
@settings(max_examples=300)
def test_the_least_peak_of_a_graph_is_that_of_the_best_order(graph):
    first, steps = graph
    sizes = [first, *(step.elements for step in steps)]
    found, where = least_peak(first, steps)
    assert found == exhaustive(sizes, [(set(step.inputs), step.in_place) for step in steps])
    assert where in {step.name for step in steps}


@given(ARCHITECTURES, STAGES, st.sampled_from(Precision))
@settings(max_examples=100, deadline=None)
def test_sram_is_the_least_over_all_orders_of_the_whole_network(architecture, stage, precision):
    architecture = replace(architecture, stages=(stage,))
    numerics = replace(architecture.numerics, padding=Padding.SYMMETRIC)  # as kernels read it
    traced = trace(replace(architecture, numerics=numerics, stochastic_depth=0.0))
    in_place = (*UNARY, Kind.ADD, Kind.MULTIPLY)
    steps = [(set(each.inputs), each.kind in in_place) for each in traced.operations]
    expected = exhaustive([tensor.elements for tensor in traced.tensors], steps)
    assert device_memory(architecture, precision).sram == precision.bytes * expected


def test_a_shortcuts_input_is_kept_and_the_addition_is_in_place():
    stage = Stage(Operator.INVERTED, 8, expansion=6)
    network = Architecture(Stem(8, stride=1), (stage,), Head(0), resolution=10)
    found = device_memory(network, Precision.INT8)
    # The block's input beside what the depthwise convolution reads and writes.
    assert (found.sram, found.peak) == ((8 + 48 + 48) * 100, "stages.0.0.depthwise")
    alone = replace(network, stages=(replace(stage, skip=Skip.NONE),))
    assert device_memory(alone, Precision.INT8).sram == (48 + 48) * 100


def test_the_peak_grows_with_the_pixels_of_an_image():
    network = presets.load("mobilenet_v2")
    one, two = (device_memory(network, Precision.INT8, side) for side in (96, 192))
    assert two == one._replace(sram=4 * one.sram)


@given(ARCHITECTURES)
@settings(max_examples=50, deadline=None)
def test_flash_in_float32_holds_the_network_with_its_batch_norms_folded(architecture):
    layers = [m for m in build(architecture).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    elements = sum(layer.weight.numel() + layer.weight.shape[0] for layer in layers)
    assert device_memory(architecture, Precision.FLOAT32).flash == 4 * elements


@pytest.mark.parametrize(("activation", "more"), [(Activation.RELU6, 0), (Activation.SILU, 3)])
def test_flash_in_int8_holds_scales_of_channels_and_tensors(activation, more):
    stage = Stage(Operator.SEPARABLE, 16, se=SqueezeExcite(activation=Activation.RELU))
    network = Architecture(Stem(8), (stage,), Head(32), num_classes=10)
    network = replace(network, numerics=Numerics(activation=activation))
    # Stem, depthwise, reduce, expand, project, head, classifier.
    weights = 3 * 9 * 8 + 9 * 8 + 8 * 2 + 2 * 8 + 8 * 16 + 16 * 32 + 32 * 10
    channels = 8 + 8 + 2 + 8 + 16 + 32 + 10
    # The image, what the seven write, both means, the gate's sigmoid, the scaled map.
    tensors = 1 + 7 + 2 + 1 + 1 + more
    expected = weights + (4 + 4) * channels + (4 + 1) * tensors
    assert device_memory(network, Precision.INT8).flash == expected


@pytest.mark.parametrize("name", ["mnasnet_small", "accel_nasbench", "mobilenet_v4"])
def test_a_table_knows_the_device_memory_of_each_network(name):
    space = choices.load(name).adapted(num_classes=7, resolution=33)
    table = tabulate(space, precision=Precision.INT8)
    rows = np.random.default_rng(0).integers(0, table.sizes, (50, len(table.names)))
    for row, (sram, flash) in zip(rows, table.device(rows).tolist(), strict=True):
        chosen = zip(space.choices.items(), row, strict=True)
        network = space.decode({key: values[index] for (key, values), index in chosen})
        found = device_memory(network, Precision.INT8)
        assert (found.sram, found.flash) == (sram, flash)


def test_every_combination_that_fits_the_device_is_listed_once():
    offered = choices.load("mnasnet_small").adapted(num_classes=7, resolution=24)
    few = {name: values for name, values in offered.choices.items() if name[5] in "35"}
    few = {name: values[:2] for name, values in few.items()}
    table = tabulate(replace(offered, choices=few), precision=Precision.INT8)
    every = np.indices(table.sizes).reshape(len(table.sizes), -1).T
    sram, flash = table.device(every).T
    most, largest = int(np.median(sram)), int(np.median(flash))
    expected = every[(sram <= most) & (flash <= largest)]
    listed = np.array(list(Within(table, {"flash": (1, largest)}, sram=most).every()))
    assert 0 < len(expected) < len(every)
    assert sorted(listed.tolist()) == sorted(expected.tolist())
