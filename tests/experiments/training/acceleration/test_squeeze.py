"""Squeeze-and-excite made faster: the same outputs, gradients and names as the network's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from experiments.training.acceleration import kernel_calls, squeeze
from space import presets
from space.blocks import SqueezeExcitation
from space.network import build


def _accelerated(network: nn.Module) -> nn.Module:
    squeeze.accelerate(network)
    return network


@pytest.fixture(autouse=True, params=["kernels", "torch"])
def _way(request, monkeypatch):
    """With one thread and numba's kernels, and without them."""
    monkeypatch.setattr(kernel_calls, "available", lambda: request.param == "kernels")


def _squeezes() -> list[SqueezeExcitation]:
    """Those of a network with ReLU and hard sigmoid, and of one with SiLU and sigmoid."""
    networks = [build(presets.load(name)) for name in ("mobilenet_v3_small", "efficientnet_b0")]
    found = [
        [module for module in network.modules() if isinstance(module, SqueezeExcitation)]
        for network in networks
    ]
    return [each for some in found for each in (some[0], some[-1])]


def _gradients(layer: nn.Module, x: Tensor, of_output: Tensor) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    out.backward(of_output.to(out.dtype))
    assert x.grad is not None
    weights = [each.grad for each in layer.parameters() if each.grad is not None]
    return [each.detach().double() for each in (out, x.grad, *weights)]


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (4, 6), (16, 16)])
def test_output_and_gradients_are_those_of_the_networks_own_in_double_precision(size):
    for layer in _squeezes():
        torch.manual_seed(0)
        channels = layer.reduce.in_channels
        x = torch.randn(3, channels, *size).to(memory_format=torch.channels_last)
        of_output = torch.randn_like(x)
        wanted = _gradients(copy.deepcopy(layer).double(), x.double(), of_output)
        found = _gradients(_accelerated(copy.deepcopy(layer)), x, of_output)
        assert len(found) == len(wanted) == 6
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_maps_that_are_channels_first_are_taken_too():
    layer = _squeezes()[0]
    x = torch.randn(2, layer.reduce.in_channels, 5, 3)
    of_output = torch.randn_like(x)
    wanted = _gradients(copy.deepcopy(layer), x, of_output)
    found = _gradients(_accelerated(copy.deepcopy(layer)), x, of_output)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_parameters_are_the_same_ones_under_the_same_names():
    network = build(presets.load("mobilenet_v3_small"))
    before = dict(network.named_parameters())
    after = dict(_accelerated(network).named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
