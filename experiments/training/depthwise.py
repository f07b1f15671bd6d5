"""Depthwise 5×5 convolutions whose gradient a CPU computes several times as fast.

oneDNN has a kernel for the weights' gradient of a depthwise convolution that is at most 3 columns
wide. Wider ones it computes as grouped convolutions of 16 × 16 channels, 16 times the work: at 5×5,
4 to 24 times as long as the forward pass (measured: oneDNN in torch 2.13, AVX-512).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KERNEL = 5


def with_fast_depthwise(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` with the same parameters, names and functions, its gradients computed faster.

    Other devices than a CPU, and a torch without oneDNN, have kernels of their own: nothing is
    changed for them.
    """
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        for module in list(network.modules()):
            for name, child in module.named_children():
                if type(child) is nn.Conv2d and _is_slow(child):
                    setattr(module, name, _Depthwise.like(child))
    return network


def _is_slow(conv: nn.Conv2d) -> bool:
    """Whether the convolution is depthwise, 5×5 and padded by 2, at stride 1 or 2."""
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size == (_KERNEL, _KERNEL)
        and conv.padding == (_KERNEL // 2, _KERNEL // 2)
        and conv.stride in ((1, 1), (2, 2))
        and conv.dilation == (1, 1)
        and conv.bias is None
    )


class _Depthwise(nn.Conv2d):
    """A depthwise 5×5 convolution, N × C × H × W to N × C × ⌈H/stride⌉ × ⌈W/stride⌉."""

    @classmethod
    def like(cls, conv: nn.Conv2d) -> _Depthwise:
        """A convolution with the settings and the very weights of `conv`."""
        channels, stride = conv.in_channels, conv.stride[0]
        with torch.device("meta"):
            made = cls(
                channels, channels, _KERNEL, stride, _KERNEL // 2, groups=channels, bias=False
            )
        made._parameters = conv._parameters
        return made.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        convolved: Tensor = _Convolve.apply(x, self.weight, self.stride[0])  # type: ignore[no-untyped-call]
        return convolved


class _Convolve(torch.autograd.Function):
    """torch's convolution, with `_weight_gradient` instead of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, _KERNEL // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            of_input = _gradients(gradient, x, weight, ctx.stride)[0]
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(gradient, x, ctx.stride)
        return of_input, of_weight, None


def _weight_gradient(gradient: Tensor, x: Tensor, stride: int) -> Tensor:
    """The gradient of the weights (C × 1 × 5 × 5), of kernels that are at most 3 columns wide.

    Column j of the weights multiplies the input at column stride · w + j − 2. A kernel of 3
    columns, padded by 1, gives columns 1 to 3. What is the middle column of a kernel becomes column
    0 or 4 where the gradient is moved by 2 columns of the input.
    """
    # oneDNN's kernel needs 5 rows, and moving by 2 columns as many.
    rows, columns = (
        max(0, -((size - least) // stride)) for size, least in zip(x.shape[2:], (5, 2), strict=True)
    )
    if rows or columns:
        x = F.pad(x, (0, stride * columns, 0, stride * rows))
        gradient = F.pad(gradient, (0, columns, 0, rows))
    width, moved = (1, 2) if stride == 1 else (3, 1)  # oneDNN has no kernel of a column at stride 2
    first, last = (
        _gradients(F.pad(gradient, (left, -left)), x, _kernel(x, width), stride, of_weight=True)[1]
        for left in (-moved, moved)
    )
    centre = _gradients(gradient, x, _kernel(x, 3), stride, of_weight=True)[1]
    middle = width // 2
    return torch.cat([first[..., middle, None], centre, last[..., middle, None]], dim=3)


def _kernel(x: Tensor, width: int) -> Tensor:
    return x.new_empty(x.shape[1], 1, _KERNEL, width)


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, *, of_weight: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """torch's own gradient of the input, or of the weights."""
    rows, columns = weight.shape[2:]
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        gradient,
        x,
        weight,
        None,
        [stride, stride],
        [rows // 2, columns // 2],
        [1, 1],
        False,
        [0, 0],
        len(weight),
        [not of_weight, of_weight, False],
    )
