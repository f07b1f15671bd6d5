"""Batch norm and ReLU as one, on a CPU: four passes over memory instead of torch's seven.

Forward, torch passes over a map for its mean, its variance, the norm and ReLU. Here statistics take
one pass, and the norm and ReLU another. Backward, torch passes over it for ReLU, for sums and for
the result; here what ReLU let through is computed again from the input of the norm.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.training.acceleration import kernel_calls
from space.blocks import ConvNorm

#: The range to which an activation clamps. Other activations stay separate layers.
_CLAMPS: dict[type[nn.Module], tuple[float, float]] = {
    nn.ReLU: (0.0, math.inf),
    nn.ReLU6: (0.0, 6.0),
}


def stop_counting(network: nn.Module) -> int:
    """Stops the batch norms of `network` from counting batches; returns how many."""
    found = [module for module in network.modules() if type(module) is nn.BatchNorm2d]
    for module in found:
        module.__class__ = UncountedNorm
    return len(found)


def accelerate(network: nn.Module) -> int:
    """Joins the batch norms of `network` on a CPU with what clamps them; returns how many."""
    if not kernel_calls.available():
        return 0
    count = 0
    for layer in network.modules():
        if isinstance(layer, ConvNorm) and type(layer.norm) is nn.BatchNorm2d:
            clamp = _CLAMPS.get(type(layer.activation))
            layer.norm.__class__ = _ClampedNorm
            layer.norm.clamp = clamp or (-math.inf, math.inf)  # type: ignore[assignment]
            if clamp:
                layer.activation = nn.Identity()
            count += 1
    return count


class UncountedNorm(nn.BatchNorm2d):
    """Batch norm that does not count batches, which takes an operation per layer."""

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.BatchNorm2d`."""
        mean, variance = self.statistics()
        return F.batch_norm(
            x,
            mean,
            variance,
            self.weight,
            self.bias,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )

    def statistics(self) -> tuple[Tensor, Tensor]:
        """The running mean and variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean, self.running_var


class _ClampedNorm(UncountedNorm):
    """Batch norm whose output is clamped to the range `clamp`."""

    clamp: tuple[float, float]

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.BatchNorm2d`, clamped."""
        fits = kernel_calls.fits(x)
        if fits and self.training and x.numel() > self.num_features:
            out: Tensor = _Normalise.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
            return out
        if fits and not (self.training or torch.is_grad_enabled()):
            mean, variance = self.statistics()
            scale = self.weight / (variance + self.eps).sqrt()
            out = torch.empty_like(x)
            kernel_calls.call(
                "clamped_line", (x, scale, self.bias - mean * scale, out), *self.clamp
            )
            return out
        return F.hardtanh(super().forward(x), *self.clamp)


class _Normalise(torch.autograd.Function):
    """A batch of N × C × H × W, normalised and clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: _ClampedNorm) -> Tensor:
        out, mean, deviation = map(torch.empty_like, (x, bias, bias))
        tensors = (x, weight, bias, *norm.statistics(), mean, deviation, out)
        assert norm.momentum is not None
        kernel_calls.call("normalise", tensors, norm.eps, norm.momentum, *norm.clamp)
        ctx.save_for_backward(x, mean, deviation, weight, bias)
        ctx.clamp = norm.clamp
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, _, _, weight, bias = saved = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        found = tuple(map(torch.empty_like, (x, weight, bias)))
        kernel_calls.call("differentiate_norm", (gradient, *saved, *found), *ctx.clamp)
        of_x, of_weight, of_bias = found
        return of_x, of_weight, of_bias, None
