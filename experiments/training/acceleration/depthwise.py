"""Depthwise 5×5 convolutions with a weight gradient that is several times as fast on a CPU.

oneDNN's kernel for the weight gradient of a depthwise convolution takes at most 3 columns. Wider
ones are computed as grouped convolutions of 16 × 16 channels, which is 16 times the work: at 5×5,
4 to 24 times as long as the forward pass (measured: oneDNN in torch 2.13, AVX-512).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KERNEL = 5


def accelerate(network: nn.Module) -> int:
    """Changes the depthwise 5×5 convolutions of `network` on a CPU; returns how many."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    found = [module for module in network.modules() if _is_slow(module)]
    for module in found:
        module.__class__ = _Depthwise
    return len(found)


def _is_slow(module: nn.Module) -> bool:
    """Whether the module is a depthwise convolution, 5×5 and padded by 2, at stride 1 or 2."""
    return (
        type(module) is nn.Conv2d
        and module.groups == module.in_channels == module.out_channels
        and module.kernel_size == (_KERNEL, _KERNEL)
        and module.padding == (_KERNEL // 2, _KERNEL // 2)
        and module.stride in ((1, 1), (2, 2))
        and module.dilation == (1, 1)
        and module.bias is None
    )


class _Depthwise(nn.Conv2d):
    """A depthwise 5×5 convolution, N × C × H × W to N × C × ⌈H/stride⌉ × ⌈W/stride⌉."""

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
            of_input = _torch_gradient(gradient, x, weight, ctx.stride, of_weight=False)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(gradient, x, ctx.stride)
        return of_input, of_weight, None


def _weight_gradient(gradient: Tensor, x: Tensor, stride: int) -> Tensor:
    """The gradient of the weights (C × 1 × 5 × 5), from kernels of at most 3 columns.

    Column j of the weights multiplies the input at column stride · w + j − 2. A kernel of 3
    columns, padded by 1, gives columns 1 to 3. The middle column of a kernel becomes column 0 or 4
    if the gradient is moved by 2 columns of the input.
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
        _kernel_gradient(F.pad(gradient, (left, -left)), x, width, stride)
        for left in (-moved, moved)
    )
    centre = _kernel_gradient(gradient, x, 3, stride)
    middle = width // 2
    return torch.cat([first[..., middle, None], centre, last[..., middle, None]], dim=3)


def _kernel_gradient(gradient: Tensor, x: Tensor, width: int, stride: int) -> Tensor:
    """The gradient of a kernel of 5 rows and `width` columns, padded by half of them."""
    kernel = x.new_empty(x.shape[1], 1, _KERNEL, width)
    return _torch_gradient(gradient, x, kernel, stride, of_weight=True)


def _torch_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, *, of_weight: bool
) -> Tensor:
    """torch's own gradient of the weights, or of the input."""
    padding = [weight.shape[2] // 2, weight.shape[3] // 2]
    geometry = ([stride, stride], padding, [1, 1], False, [0, 0], len(weight))
    wanted = [not of_weight, of_weight, False]
    of_x, of_kernel, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, *geometry, wanted
    )
    found: Tensor = of_kernel if of_weight else of_x
    return found
