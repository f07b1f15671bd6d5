"""The blocks that networks are made of, in torch: one class for each `space.architecture.Operator`.

Each takes a resolved `Block`; what a block costs is in `space.cost`, in the same vocabulary. All
are maps N × C × H × W → N × C' × ⌈H/stride⌉ × ⌈W/stride⌉, and keep channels-last memory as it is.
"""

# ruff: noqa: D102 (what `forward` gives is the first line of each class)

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.architecture import Activation, Block, Gate, Numerics, Operator, Padding, Skip

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    Activation.RELU: nn.ReLU,
    Activation.RELU6: nn.ReLU6,
    Activation.SILU: nn.SiLU,
    Activation.HARD_SWISH: nn.Hardswish,
}
GATES: dict[Gate, type[nn.Module]] = {Gate.SIGMOID: nn.Sigmoid, Gate.HARD_SIGMOID: nn.Hardsigmoid}


class PadSame(nn.Module):
    """Pads as TensorFlow's "same" does: to ⌈n/stride⌉ windows, an odd pixel at the end."""

    def __init__(self, kernel: int, stride: int, value: float = 0.0) -> None:
        super().__init__()
        self.kernel, self.stride, self.value = kernel, stride, value

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads, value=self.value)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}"


class MaxPool(nn.Sequential):
    """ResNet's 3×3 max pooling with stride 2."""

    def __init__(self, numerics: Numerics) -> None:
        super().__init__()
        same = numerics.padding is Padding.SAME
        if same:
            self.pad = PadSame(3, 2, -math.inf)
        self.pool = nn.MaxPool2d(3, 2, padding=0 if same else 1)


class ConvNorm(nn.Sequential):
    """k×k convolution → batch norm → activation, where there is one."""

    def __init__(
        self,
        numerics: Numerics,
        inputs: int,
        outputs: int,
        activation: type[nn.Module] = nn.Identity,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        # At stride 1 both styles of padding are the same one.
        same = stride > 1 if numerics.padding is Padding.SAME else False
        if same:
            self.pad = PadSame(kernel, stride)
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, 0 if same else kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs, numerics.bn_eps, numerics.bn_momentum)
        self.activation = activation()


class SqueezeExcitation(nn.Module):
    """Global mean → 1×1 reduce → activation → 1×1 expand → gate, times the input (with biases)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        assert block.squeeze_activation  # a block that squeezes has both
        assert block.gate
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(block.inner_channels, block.squeeze_channels, 1)
        self.activation = ACTIVATIONS[block.squeeze_activation]()
        self.expand = nn.Conv2d(block.squeeze_channels, block.inner_channels, 1)
        self.gate = GATES[block.gate]()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(self.expand(self.activation(self.reduce(self.mean(x)))))
        return out


class Dropout(nn.Dropout):
    """torch's dropout with the random numbers of `generator`; torch's own where it is None."""

    generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = 1 - self.p
        mask = torch.empty_like(x).bernoulli_(kept, generator=self.generator)
        dropped: Tensor = x * mask.div_(kept)
        return dropped


class PoolShortcut(nn.Module):
    """The input, average-pooled over stride × stride, its channels padded with zeros or cut."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.stride = block.stride
        self.missing = block.out_channels - block.in_channels

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:  # windows at the border that are not full average what they hold
            x = F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        # A negative count of missing channels cuts.
        return F.pad(x, (0, 0, 0, 0, 0, self.missing)) if self.missing else x

    def extra_repr(self) -> str:
        return f"stride={self.stride}, missing={self.missing}"


class Residual(nn.Module):
    """The frame of every block: `join` adds the shortcut, where there is one, to its branch.

    In training, stochastic depth (Huang et al. 2016) drops the branch of whole images; `Network`
    sets its probability, `drop.p`.
    """

    def __init__(self, block: Block, numerics: Numerics) -> None:
        super().__init__()
        self.shortcut: nn.Module | None = nn.Identity() if block.shortcut is Skip.IDENTITY else None
        if block.shortcut is Skip.POOL:
            self.shortcut = PoolShortcut(block)
        elif block.shortcut is Skip.PROJECTION:
            self.shortcut = ConvNorm(
                numerics, block.in_channels, block.out_channels, stride=block.stride
            )
        self.drop = Dropout(0.0)

    def join(self, out: Tensor, x: Tensor) -> Tensor:
        if self.shortcut is not None:
            if self.drop.p > 0 and self.training:
                out = out * self.drop(out.new_ones(len(out), 1, 1, 1))
            out = out + self.shortcut(x)
        return out


class Conv(Residual):
    """k×k convolution with batch norm and activation; the shortcut is added after those."""

    def __init__(self, block: Block, numerics: Numerics) -> None:
        super().__init__(block, numerics)
        inputs, outputs = block.in_channels, block.out_channels
        activation, kernel, stride = ACTIVATIONS[block.activation], block.kernel, block.stride
        self.conv = ConvNorm(numerics, inputs, outputs, activation, kernel=kernel, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.conv(x), x)


class Inverted(Residual):
    """1×1 expand → k×k depthwise (→ squeeze-and-excite) → 1×1 project (MobileNetV2's block).

    A depthwise-separable block is one whose inner channels are its input's: it expands nothing.
    """

    def __init__(self, block: Block, numerics: Numerics) -> None:
        super().__init__(block, numerics)
        inner, outputs = block.inner_channels, block.out_channels
        activation, kernel, stride = ACTIVATIONS[block.activation], block.kernel, block.stride
        last = nn.Identity if block.linear else activation
        self.depthwise = ConvNorm(
            numerics, inner, inner, activation, kernel=kernel, stride=stride, groups=inner
        )
        self.squeeze = SqueezeExcitation(block) if block.squeeze_channels else nn.Identity()
        self.project = ConvNorm(numerics, inner, outputs, last)
        self.expand: nn.Module = nn.Identity()
        if inner != block.in_channels:
            self.expand = ConvNorm(numerics, block.in_channels, inner, activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.project(self.squeeze(self.depthwise(self.expand(x)))), x)


class Fused(Residual):
    """k×k expand (→ squeeze-and-excite) → 1×1 project (EfficientNetV2's fused bottleneck)."""

    def __init__(self, block: Block, numerics: Numerics) -> None:
        super().__init__(block, numerics)
        inputs, inner, outputs = block.in_channels, block.inner_channels, block.out_channels
        activation, kernel, stride = ACTIVATIONS[block.activation], block.kernel, block.stride
        last = nn.Identity if block.linear else activation
        self.expand = ConvNorm(numerics, inputs, inner, activation, kernel=kernel, stride=stride)
        self.squeeze = SqueezeExcitation(block) if block.squeeze_channels else nn.Identity()
        self.project = ConvNorm(numerics, inner, outputs, last)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.project(self.squeeze(self.expand(x))), x)


class Basic(Residual):
    """k×k convolution → k×k convolution; the activation follows the addition (ResNet-18, 34)."""

    def __init__(self, block: Block, numerics: Numerics) -> None:
        super().__init__(block, numerics)
        inputs, inner, outputs = block.in_channels, block.inner_channels, block.out_channels
        activation, kernel, stride = ACTIVATIONS[block.activation], block.kernel, block.stride
        self.first = ConvNorm(numerics, inputs, inner, activation, kernel=kernel, stride=stride)
        self.second = ConvNorm(numerics, inner, outputs, kernel=kernel)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.join(self.second(self.first(x)), x))
        return out


class Bottleneck(Residual):
    """1×1 reduce → k×k convolution, strided → 1×1 expand; activation after the addition."""

    def __init__(self, block: Block, numerics: Numerics) -> None:
        super().__init__(block, numerics)
        inputs, inner, outputs = block.in_channels, block.inner_channels, block.out_channels
        activation, kernel, stride = ACTIVATIONS[block.activation], block.kernel, block.stride
        self.reduce = ConvNorm(numerics, inputs, inner, activation)
        self.conv = ConvNorm(numerics, inner, inner, activation, kernel=kernel, stride=stride)
        self.expand = ConvNorm(numerics, inner, outputs)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.join(self.expand(self.conv(self.reduce(x))), x))
        return out


class Universal(Residual):
    """k×k depthwise → 1×1 expand → k×k depthwise (→ squeeze-and-excite) → 1×1 project.

    Either depthwise convolution may be left out: the second takes the stride where there is one,
    and the first has no activation (MobileNetV4, section 3.1; as timm has it).
    """

    def __init__(self, block: Block, numerics: Numerics) -> None:
        super().__init__(block, numerics)
        inputs, inner, outputs = block.in_channels, block.inner_channels, block.out_channels
        activation, kernel, stride = ACTIVATIONS[block.activation], block.kernel, block.stride
        last = nn.Identity if block.linear else activation
        self.start: nn.Module = nn.Identity()
        if block.start_kernel:
            first = 1 if kernel else stride
            self.start = ConvNorm(
                numerics, inputs, inputs, kernel=block.start_kernel, stride=first, groups=inputs
            )
        self.expand = ConvNorm(numerics, inputs, inner, activation)
        self.depthwise: nn.Module = nn.Identity()
        if kernel:
            self.depthwise = ConvNorm(
                numerics, inner, inner, activation, kernel=kernel, stride=stride, groups=inner
            )
        self.squeeze = SqueezeExcitation(block) if block.squeeze_channels else nn.Identity()
        self.project = ConvNorm(numerics, inner, outputs, last)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.project(self.squeeze(self.depthwise(self.expand(self.start(x))))), x)


#: The module of each operator; it is built from a block and the numerics.
BLOCKS: dict[Operator, type[Residual]] = {
    Operator.CONV: Conv,
    Operator.SEPARABLE: Inverted,
    Operator.INVERTED: Inverted,
    Operator.FUSED: Fused,
    Operator.BASIC: Basic,
    Operator.BOTTLENECK: Bottleneck,
    Operator.UNIVERSAL: Universal,
}
