"""Depthwise convolutions whose gradients are computed another way are the same functions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from experiments.training.acceleration import depthwise


def _accelerated(network: nn.Module) -> nn.Module:
    depthwise.accelerate(network)
    return network


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "size", [(32, 32), (8, 8), (15, 12), (5, 4), (4, 4), (3, 7), (2, 1), (1, 1)]
)
def test_outputs_and_gradients_are_those_of_torch(stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(24, 24, 5, stride, 2, groups=24, bias=False))
    fast = _accelerated(copy.deepcopy(plain))
    assert type(fast[0]) is not nn.Conv2d  # type: ignore[index]
    results = []
    for network in (plain, fast.to(memory_format=torch.channels_last)):  # type: ignore[call-overload]
        x = torch.randn(6, 24, *size, generator=torch.Generator().manual_seed(1))
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        y = network(x)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)))
        results.append((y, x.grad, network[0].weight.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_parameters_keep_their_names_and_memory() -> None:
    plain = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), nn.Conv2d(8, 4, 5))
    before = dict(plain.named_parameters())
    after = dict(_accelerated(plain).named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is parameter for name, parameter in before.items())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, padding=2, bias=False),
        nn.Conv2d(8, 8, 5, padding=0, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
    ],
    ids=["3x3", "not depthwise", "not padded", "with a bias"],
)
def test_other_convolutions_are_left_alone(conv: nn.Conv2d) -> None:
    network = _accelerated(nn.Sequential(conv))
    assert next(network.children()) is conv
