"""Squeeze-and-excite in fewer and smaller operations, on any device.

torch writes the gradient of a mean to every pixel, channels first whatever the map, so that adding
it to gradients that are channels last reads memory in strides; here it is a view. Gates are matrix
products instead of convolutions of one pixel. On a CPU, one pass over memory gives both gradients
of the product of map and gates.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.training.acceleration import kernel_calls
from space.blocks import SqueezeExcitation


def accelerate(network: nn.Module) -> int:
    """Changes the squeeze-and-excite of `network`; returns how many."""
    found = [
        module
        for module in network.modules()
        if type(module) is SqueezeExcitation and module.reduce.groups == 1
    ]
    for module in found:
        module.__class__ = _Squeeze
    return len(found)


class _Squeeze(SqueezeExcitation):
    def forward(self, x: Tensor) -> Tensor:
        """As `SqueezeExcitation`."""
        mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
        hidden: Tensor = self.activation(_product(self.reduce, mean))
        gates: Tensor = self.gate(_product(self.expand, hidden))
        if x.device.type == "cpu" and kernel_calls.available() and kernel_calls.fits(x):
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
        kernel_calls.call("differentiate_gates", (gradient, x, gates, of_x, of_gates))
        return of_x, of_gates
