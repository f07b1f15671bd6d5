"""Squeeze-and-excite in fewer and smaller operations, for a CPU.

torch writes the gradient of a mean to every pixel, channels first whatever the map, and adding that
to gradients that are channels last reads memory in strides; here it is a view. The gates, which
torch computes as convolutions of one pixel, are matrix products. Both gradients of the product of
map and gate come from one reading.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.training import compiled
from space.blocks import SqueezeExcite


def with_fast_squeeze(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` with the same parameters, names and functions, its gates computed faster.

    Other devices than a CPU are left as they are.
    """
    if device.type == "cpu":
        for layer in network.modules():
            if type(layer) is SqueezeExcite:
                layer.__class__ = _Squeeze
    return network


class _Squeeze(SqueezeExcite):
    def forward(self, x: Tensor) -> Tensor:
        """As `SqueezeExcite`."""
        mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
        hidden: Tensor = self.activation(_product(self.reduce, mean))
        gates: Tensor = self.gate(_product(self.expand, hidden))
        if compiled.available(x.device) and compiled.fits(x):
            scaled: Tensor = _ScaleByGates.apply(x, gates)  # type: ignore[no-untyped-call]
            return scaled
        return x * gates[:, :, None, None]


def _product(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of one pixel, N × C → N × C'."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)


class _Mean(torch.autograd.Function):
    """N × C × H × W → N × C."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = tuple(x.shape)
        return x.mean((2, 3))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        _, _, height, width = shape = ctx.shape
        of_pixel: Tensor = (gradient / (height * width))[:, :, None, None]
        return of_pixel.expand(*shape)


class _ScaleByGates(torch.autograd.Function):
    """N × C × H × W, times N × C."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor) -> Tensor:
        ctx.save_for_backward(x, gates)
        return x * gates[:, :, None, None]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, gates = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x, of_gates = torch.empty_like(x), torch.empty_like(gates)
        compiled.call("differentiate_gates", (gradient, x, gates, of_x, of_gates))
        return of_x, of_gates
