"""Batch norm with its activation, and depthwise convolutions, by Triton's kernels on a GPU.

torch launches the norm and the activation one after the other, both ways; here they are one kernel
each way, which reads a map once less. Its depthwise convolutions are far from the speed of memory
for some shapes (not measured on a GPU). Layers compute by torch outside training, and
wherever `triton_calls` finds torch's own better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.training.acceleration import triton_calls
from experiments.training.acceleration.norms import UncountedNorm
from experiments.training.acceleration.triton_calls import Compute
from space.blocks import ConvNorm

_ACTIVATIONS = (nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish)
#: Where activations have kinks. The gradient there depends on the last digit.
_KINKS = (-3.0, 0.0, 3.0, 6.0)

#: Tiles of pixels × channels (assumed): of norms, whose programs have all pixels of their channels,
#: and of convolutions.
_NORM_TILE = {"rows": 256, "columns": 16, "num_warps": 8}
_TILE = {"rows": 64, "columns": 32, "num_warps": 4}
#: A gradient of weights is summed in so many parts at most, of so many pixels at least (assumed).
_PARTS, _PART_PIXELS = 64, 1024


def join_norms(network: nn.Module) -> int:
    """Joins uncounted batch norms of `network` with their activations; returns how many."""
    found = [
        layer
        for layer in network.modules()
        if type(layer) is ConvNorm
        and type(layer.norm) is UncountedNorm
        and type(layer.activation) in _ACTIVATIONS
    ]
    for layer in found:
        layer.__class__ = _JoinedNorm
    return len(found)


def accelerate(network: nn.Module) -> int:
    """Changes the depthwise convolutions of `network`; returns how many."""
    found = [module for module in network.modules() if _is_depthwise(module)]
    for module in found:
        module.__class__ = _Depthwise
    return len(found)


def _is_depthwise(module: nn.Module) -> bool:
    """Whether the module is a depthwise convolution with square kernels and no bias."""
    return (
        type(module) is nn.Conv2d
        and module.groups == module.in_channels == module.out_channels > 1
        and len({*module.kernel_size}) == len({*module.stride}) == len({*module.padding}) == 1
        and not isinstance(module.padding, str)
        and module.padding_mode == "zeros"
        and module.dilation == (1, 1)
        and module.bias is None
    )


class _JoinedNorm(ConvNorm):
    """k×k convolution → batch norm and activation as one kernel each way."""

    def forward(self, x: Tensor) -> Tensor:
        """As `ConvNorm`."""
        norm, activation = self.norm, self.activation
        for layer in self:
            if layer is norm:
                break
            x = layer(x)
        if norm.training and triton_calls.fits(x) and x.numel() > x.shape[1]:
            name = type(activation).__name__
            if triton_calls.are_better(name, x, partial(_norm_trial, x, activation)):
                assert isinstance(norm, UncountedNorm)
                how = (*norm.statistics(), norm.eps, norm.momentum, name)
                out: Tensor = _Normalise.apply(x, norm.weight, norm.bias, *how)  # type: ignore[no-untyped-call]
                return out
        activated: Tensor = activation(norm(x))
        return activated


class _Normalise(torch.autograd.Function):
    """A batch of N × C × H × W, normalised and activated; updates the running statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_variance: Tensor,
        eps: float,
        momentum: float,
        activation: str,
    ) -> Tensor:
        out, mean, inverse = map(torch.empty_like, (x, weight, weight))
        tensors = (x, weight, bias, running_mean, running_variance, mean, inverse, out)
        _launch_norm("normalise", *tensors, *_size(x), eps, momentum, activation)
        ctx.save_for_backward(x, mean, inverse, weight, bias)
        ctx.activation = activation
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, _, _, weight, bias = saved = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        found = tuple(map(torch.empty_like, (x, weight, bias)))
        tensors = (gradient, *saved, *found)
        _launch_norm("differentiate_norm", *tensors, *_size(x), ctx.activation)
        return *found, None, None, None, None, None


def _launch_norm(name: str, x: Tensor, *arguments: Any) -> None:
    grid = (math.ceil(x.shape[1] / _NORM_TILE["columns"]),)
    triton_calls.launch(name, grid, x, *arguments, **_NORM_TILE)


def _size(x: Tensor) -> tuple[int, int]:
    """Pixels and channels."""
    return x.numel() // x.shape[1], x.shape[1]


def _norm_trial(x: Tensor, activation: nn.Module) -> tuple[Compute, Compute]:
    """Both ways to compute a norm of a map like `x`, forward and backward (see `Trial`)."""
    eps, momentum = 1e-3, 0.1
    x, gradient = _random(x, x)
    weight, bias = (torch.full(x.shape[1:2], value, device=x.device) for value in (3.0, 1.0))
    normed = F.batch_norm(x.float(), None, None, weight, bias, training=True)
    for kink in _KINKS:
        gradient[(normed - kink).abs() < 0.05] = 0

    def by_kernels(x: Tensor, weight: Tensor, bias: Tensor, *running: Tensor) -> Tensor:
        how = (eps, momentum, type(activation).__name__)
        out: Tensor = _Normalise.apply(x, weight, bias, *running, *how)  # type: ignore[no-untyped-call]
        return out

    def by_torch(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        norm = F.batch_norm(x, mean, variance, weight, bias, True, momentum, eps)
        out: Tensor = activation(norm)
        return out

    def both_passes(compute: Callable[..., Tensor], running: list[Tensor]) -> list[Tensor]:
        inputs = [each.detach().requires_grad_() for each in (x, weight, bias)]
        with torch.enable_grad():
            out = compute(*inputs, *running)
        return [out, *running, *torch.autograd.grad(out, inputs, gradient)]

    own, torchs = (
        partial(both_passes, way, _random(weight, weight)) for way in (by_kernels, by_torch)
    )
    return own, torchs


class _Depthwise(nn.Conv2d):
    """A depthwise convolution, of which each pass is computed in the better way."""

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        if not self.training:
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):  # the kernels' inputs are not cast by torch
            half = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(half), weight.to(half)
        how = (self.stride[0], int(self.padding[0]))
        own: frozenset[str] = frozenset()
        if triton_calls.fits(x) and weight.dtype == x.dtype:
            layer = (self.kernel_size, *how)
            own = frozenset(
                name
                for name in _PASSES
                if triton_calls.are_better(
                    (name, layer), x, partial(_depthwise_trial, name, x, weight, *how)
                )
            )
        if not own:
            return _torch_output(x, x, weight, *how)
        out: Tensor = _Convolve.apply(x, weight, *how, own)  # type: ignore[no-untyped-call]
        return out


class _Convolve(torch.autograd.Function):
    """A depthwise convolution whose passes `own` are by kernels, and the others by torch."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, own: frozenset[str]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.own = (stride, padding), own
        return _passed("output", own, x, x, weight, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        names = ("gradient of the input", "gradient of the weights")
        found = (
            _passed(name, ctx.own, gradient, *ctx.saved_tensors, *ctx.how) if needed else None
            for name, needed in zip(names, ctx.needs_input_grad[:2], strict=True)
        )
        return *found, None, None, None


def _passed(name: str, own: frozenset[str], *arguments: Any) -> Tensor:
    by_kernels, by_torch = _PASSES[name]
    return (by_kernels if name in own else by_torch)(*arguments)


def _own_output(_: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    images, channels, *sides = x.shape
    height, width = ((side + 2 * padding - weight.shape[2]) // stride + 1 for side in sides)
    out = x.new_empty(images, height, width, channels).permute(0, 3, 1, 2)
    return _convolved(x, weight, out, stride, padding, transposed=False)


def _own_of_input(g: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return _convolved(g, weight, torch.empty_like(x), stride, padding, transposed=True)


def _convolved(
    x: Tensor, weight: Tensor, out: Tensor, stride: int, padding: int, *, transposed: bool
) -> Tensor:
    pixels, channels = _size(out)
    grid = (math.ceil(pixels / _TILE["rows"]), math.ceil(channels / _TILE["columns"]))
    sides = (len(x), *x.shape[2:], *out.shape[2:], channels, padding)
    taps = (weight.shape[2], stride, transposed)
    triton_calls.launch("convolve", grid, x, weight.contiguous(), out, *sides, *taps, **_TILE)
    return out


def _own_of_weight(g: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    (pixels, channels), kernel = _size(g), weight.shape[2]
    rows = max(_PART_PIXELS, math.ceil(pixels / _TILE["rows"] / _PARTS) * _TILE["rows"])
    count = math.ceil(pixels / rows)
    found = torch.empty_like(weight)
    parts = found if count == 1 else x.new_empty(count, *weight.shape, dtype=torch.float32)
    grid = (math.ceil(channels / _TILE["columns"]), kernel**2, count)
    sides = (pixels, *x.shape[2:], *g.shape[2:], channels, padding, rows)
    triton_calls.launch("differentiate_weight", grid, g, x, parts, *sides, kernel, stride, **_TILE)
    return found if count == 1 else found.copy_(parts.sum(0))


def _torch_output(_: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding, groups=len(weight))


def _torch_gradient(
    of_weight: bool, g: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int
) -> Tensor:
    how = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight))
    wanted = [not of_weight, of_weight, False]
    found = torch.ops.aten.convolution_backward(g, x, weight, None, *how, wanted)
    gradient: Tensor = found[of_weight]
    return gradient


#: A pass: from the gradient `g` of the output (or any tensor), input, weights, stride and padding.
_Pass = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]
#: Each pass by the kernels, and by torch.
_PASSES: dict[str, tuple[_Pass, _Pass]] = {
    "output": (_own_output, _torch_output),
    "gradient of the input": (_own_of_input, partial(_torch_gradient, False)),
    "gradient of the weights": (_own_of_weight, partial(_torch_gradient, True)),
}


def _depthwise_trial(
    name: str, x: Tensor, weight: Tensor, stride: int, padding: int
) -> tuple[Compute, Compute]:
    """Both ways to compute a pass of a convolution of a map like `x` (see `Trial`)."""
    x, weight = _random(x, weight)
    (gradient,) = _random(_torch_output(x, x, weight, stride, padding))
    arguments = (gradient, x, weight, stride, padding)
    by_kernels, by_torch = _PASSES[name]
    return lambda: (by_kernels(*arguments),), lambda: (by_torch(*arguments),)


def _random(*like: Tensor) -> list[Tensor]:
    """Random tensors of the shapes, types and memory of others; the same ones at every call."""
    generator = torch.Generator(like[0].device).manual_seed(0)
    return [torch.empty_like(each).normal_(generator=generator) for each in like]
