"""The elastic network: every part runs on the shared weights as it does when it is cut out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scaling.compound import scale
from space import choices, presets
from space.architecture import Operator, Skip
from space.cost import cost
from space.elastic import Elastic, ElasticNetwork, Part
from space.network import build
from space.validation import InvalidInput

DEVICE = torch.device("cpu")
SPACES = ("mnasnet_small", "efficientnet_v2_small", "mobilenet_v4", "accel_nasbench")


def narrow(name):
    """A shipped space whose networks are narrow, so that they are quick."""
    space = choices.load(name).adapted(num_classes=5, resolution=32)
    return replace(space, base=scale(space.base, width=0.25))


FORMS = {name: Elastic(narrow(name)) for name in SPACES}


def network_of(elastic, seed=0):
    """An elastic network whose weights all differ from those of a fresh one."""
    torch.manual_seed(seed)
    network = ElasticNetwork(elastic)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
    return network


def images(resolution=32):
    return torch.randn(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SPACES)
@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_a_part_computes_what_the_network_cut_out_does(name, seed):
    elastic = FORMS[name]
    architecture = elastic.draw(np.random.default_rng(seed))
    network = network_of(elastic)
    cut = elastic.cut(network.state_dict(), architecture)
    assert cut.share == 1.0
    alone = build(replace(architecture, dropout=0.0, stochastic_depth=0.0))
    alone.load_state_dict(cut.weights)
    part = Part(elastic, architecture, DEVICE)
    with torch.no_grad():
        expected = alone.train()(images())
        found = part(dict(network.named_parameters()), images())
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", SPACES)
def test_the_largest_part_is_the_network_itself(name):
    elastic = FORMS[name]
    network = network_of(elastic).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    part = Part(elastic, elastic.largest, DEVICE)
    with torch.no_grad():
        found, expected = part(dict(network.named_parameters()), images()), network(images())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SPACES)
def test_no_part_costs_less_than_the_smallest(name):
    elastic, rng = FORMS[name], np.random.default_rng(0)
    least = cost(elastic.smallest)
    for _ in range(20):
        found = cost(elastic.draw(rng))
        assert least.macs <= found.macs
    assert least.macs < cost(elastic.largest).macs


def test_gradients_reach_only_the_weights_of_the_part():
    elastic = FORMS["mnasnet_small"]
    network = network_of(elastic)
    Part(elastic, elastic.smallest, DEVICE)(
        dict(network.named_parameters()), images()
    ).sum().backward()
    stem = network.stem.conv.weight.grad
    assert stem is not None
    last = network.stages[-1][0]
    branch = elastic.branch_of(4, elastic.smallest.stages[4])
    assert branch > 0
    assert all(parameter.grad is None for parameter in last.parameters())
    narrower = elastic.smallest.stages[4].channels
    gradient = network.head.conv.weight.grad
    assert gradient[:, :narrower].abs().sum() > 0
    assert not gradient[:, narrower:].any()


def test_preparing_sorts_channels_and_keeps_the_function():
    network = network_of(FORMS["mnasnet_small"]).eval()
    with torch.no_grad():
        before = network(images())
        stem = network.stem.conv.weight.clone()
        network.prepare(inherited=False)
        assert torch.allclose(network(images()), before, rtol=1e-4, atol=1e-5)
    assert not torch.equal(network.stem.conv.weight, stem)


def test_branches_start_from_what_fits_of_an_inherited_trunk():
    """An expansion of the inverted trunk is of no use to a separable branch; its projection is."""
    space = narrow("mobilenet_v3")
    elastic = Elastic(space)
    network = network_of(elastic)
    network.prepare(inherited=True)
    number, place = next(
        (number, place)
        for number, kinds in enumerate(elastic.branches)
        for place, kind in enumerate(kinds[1:])
        if kind.operator is Operator.SEPARABLE
    )
    trunk, branch = network.stages[number][0], network.branches[number][place][0]
    kept, wanted = branch.depthwise.conv.weight, trunk.depthwise.conv.weight
    assert torch.equal(kept, wanted[: len(kept)])


def test_scaled_networks_have_an_elastic_form():
    base = scale(presets.load("mobilenet_v2", 5), width=0.25)
    parts = tuple(
        scale(replace(base, resolution=32), depth=d, width=w, resolution=r)
        for d, w, r in ((2.0, 1.0, 1.0), (1.0, 1.4, 1.0), (1.0, 1.0, 1.4))
    )
    elastic = Elastic(parts)
    assert elastic.largest.resolution == 45
    network = network_of(elastic)
    for architecture in (*parts, elastic.smallest):
        cut = elastic.cut(network.state_dict(), architecture)
        assert cut.share == 1.0


def test_projection_shortcuts_are_refused():
    space = choices.load("mnasnet_small")
    projecting = replace(space.base.stages[1], skip=Skip.PROJECTION)
    stages = (space.base.stages[0], projecting, *space.base.stages[2:])
    kinds = {name: v for name, v in space.choices.items() if not name.endswith("skip")}
    with pytest.raises(InvalidInput, match=r"stage 2 has skip: projection"):
        Elastic(replace(space, base=replace(space.base, stages=stages), choices=kinds))
