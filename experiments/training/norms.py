"""Batch norm and ReLU as one, on a CPU: four passes over memory instead of torch's seven.

Forward, torch goes over a map for its mean, its variance, the norm and ReLU. Here statistics are
one pass, and ReLU comes with the norm. Backward, torch goes over it for ReLU, for sums and for the
result; here what ReLU passed is computed again from the input of the norm.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.training import compiled
from space.blocks import ConvNorm

#: Between what an activation clamps. Others than these follow the norm as they are.
_CLAMPS: dict[type[nn.Module], tuple[float, float]] = {
    nn.ReLU: (0.0, math.inf),
    nn.ReLU6: (0.0, 6.0),
}


def with_fused_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` with the same parameters and names, its norms joined with what clamps them.

    For training by one thread of a CPU: the kernels have no more, and other devices have their own.
    """
    if compiled.available(device):
        for layer in network.modules():
            if isinstance(layer, ConvNorm) and type(layer.norm) is nn.BatchNorm2d:
                clamp = _CLAMPS.get(type(layer.activation))
                layer.norm = _ClampedNorm.like(layer.norm, clamp or (-math.inf, math.inf))
                if clamp:
                    layer.activation = nn.Identity()
    return network


class _ClampedNorm(nn.BatchNorm2d):
    """Batch norm, and its output between the two numbers of `clamp`."""

    clamp: tuple[float, float]

    @classmethod
    def like(cls, norm: nn.BatchNorm2d, clamp: tuple[float, float]) -> _ClampedNorm:
        """A norm with the settings, weights and statistics of `norm`."""
        with torch.device("meta"):
            made = cls(norm.num_features, norm.eps, norm.momentum)
        made._parameters, made._buffers = norm._parameters, norm._buffers
        made.clamp = clamp
        return made.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.BatchNorm2d`, clamped."""
        fits = compiled.fits(x)
        if fits and self.training and x.numel() > self.num_features:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            out: Tensor = _Normalise.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
            return out
        if fits and not (self.training or torch.is_grad_enabled()):
            mean, variance = self.statistics()
            scale = self.weight / (variance + self.eps).sqrt()
            out = torch.empty_like(x)
            compiled.call("clamped_line", (x, scale, self.bias - mean * scale, out), *self.clamp)
            return out
        return F.hardtanh(super().forward(x), *self.clamp)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """The running mean and variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean, self.running_var


class _Normalise(torch.autograd.Function):
    """A batch of N × C × H × W, normalised and clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: _ClampedNorm) -> Tensor:
        out, mean, deviation = map(torch.empty_like, (x, bias, bias))
        tensors = (x, weight, bias, *norm.statistics(), mean, deviation, out)
        assert norm.momentum is not None
        compiled.call("normalise", tensors, norm.eps, norm.momentum, *norm.clamp)
        ctx.save_for_backward(x, mean, deviation, weight, bias)
        ctx.clamp = norm.clamp
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, _, _, weight, bias = saved = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        found = tuple(map(torch.empty_like, (x, weight, bias)))
        compiled.call("differentiate_norm", (gradient, *saved, *found), *ctx.clamp)
        of_x, of_weight, of_bias = found
        return of_x, of_weight, of_bias, None
