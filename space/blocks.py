"""The blocks that networks are made of, in torch: one class for each `space.architecture.Operator`.

Each takes a resolved `Block`; what a block costs is in `space.cost`, in the same vocabulary. All
are maps N × C × H × W → N × C' × ⌈H/stride⌉ × ⌈W/stride⌉, and keep channels-last memory as it is.
"""

# ruff: noqa: D102 (what `forward`, `branch` and `mask_shape` give is the first line of each class)

from __future__ import annotations

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
GATES: dict[Gate, type[nn.Module]] = {
    Gate.SIGMOID: nn.Sigmoid,
    Gate.HARD_SIGMOID: nn.Hardsigmoid,
}


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """`x` padded as TensorFlow's "same" does: to ⌈n/stride⌉ windows, an odd pixel at the end."""
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


class MaxPool(nn.Module):
    """ResNet's 3×3 max pooling with stride 2."""

    def __init__(self, padding: Padding) -> None:
        super().__init__()
        self.same = padding is Padding.SAME

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            return F.max_pool2d(pad_same(x, 3, 2, float("-inf")), 3, 2)
        return F.max_pool2d(x, 3, 2, padding=1)

    def extra_repr(self) -> str:
        return f"same={self.same}"


class ConvNorm(nn.Module):
    """k×k convolution → batch norm → activation, where there is one."""

    def __init__(
        self,
        numerics: Numerics,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        # At stride 1 both styles of padding are the same one.
        self.same = numerics.padding is Padding.SAME and stride > 1
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=0 if self.same else kernel // 2,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels, numerics.bn_eps, numerics.bn_momentum)
        self.activation = ACTIVATIONS[activation]() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            x = pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class SqueezeExcite(nn.Module):
    """Global mean → 1×1 reduce → activation → 1×1 expand → gate, times the input (with biases)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        assert block.squeeze_activation  # a block that squeezes has both
        assert block.gate
        channels = block.inner_channels
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, block.squeeze_channels, 1)
        self.activation = ACTIVATIONS[block.squeeze_activation]()
        self.expand = nn.Conv2d(block.squeeze_channels, channels, 1)
        self.gate = GATES[block.gate]()

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(self.expand(self.activation(self.reduce(self.mean(x)))))
        scaled: Tensor = x * weights
        return scaled


def squeeze_excite(block: Block) -> nn.Module:
    """The block's squeeze-and-excite, or nothing where it has none."""
    return SqueezeExcite(block) if block.squeeze_channels else nn.Identity()


class Dropped(nn.Module):
    """In training, zeros what a mask of random zeros and ones says, with probability `rate`.

    What stays is divided by 1 − rate, so that its expectation is what evaluation computes. Random
    numbers are those of `generator`, or torch's where it is None.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.generator: torch.Generator | None = None

    def mask_shape(self, x: Tensor) -> tuple[int, ...]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = 1 - self.rate
        mask = x.new_empty(self.mask_shape(x)).bernoulli_(kept, generator=self.generator)
        return x * mask.div_(kept)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class Dropout(Dropped):
    """Drops single values (Srivastava et al. 2014)."""

    def mask_shape(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape)


class StochasticDepth(Dropped):
    """Drops a branch for whole images (Huang et al. 2016)."""

    def mask_shape(self, x: Tensor) -> tuple[int, ...]:
        return (len(x), 1, 1, 1)


class PoolShortcut(nn.Module):
    """The input, average-pooled over stride × stride, its channels padded with zeros or cut."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.stride = block.stride
        self.missing = block.out_channels - block.in_channels

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:  # windows at the border that are not full average what they hold
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        # A negative count of missing channels cuts.
        return F.pad(x, (0, 0, 0, 0, 0, self.missing)) if self.missing else x

    def extra_repr(self) -> str:
        return f"stride={self.stride}, missing={self.missing}"


def shortcut(block: Block, numerics: Numerics) -> nn.Module | None:
    """What joins the block's input to its output; None where nothing does."""
    match block.shortcut:
        case Skip.NONE:
            return None
        case Skip.IDENTITY:
            return nn.Identity()
        case Skip.POOL:
            return PoolShortcut(block)
        case Skip.PROJECTION:
            return ConvNorm(numerics, block.in_channels, block.out_channels, stride=block.stride)


class Residual(nn.Module):
    """The frame of every block: branch, plus the shortcut where there is one."""

    def __init__(self, block: Block, numerics: Numerics, rate: float) -> None:
        super().__init__()
        self.shortcut = shortcut(block, numerics)
        self.drop = StochasticDepth(rate if self.shortcut is not None else 0.0)

    def branch(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        if self.shortcut is not None:
            out = self.drop(out) + self.shortcut(x)
        return out


class Conv(Residual):
    """k×k convolution with batch norm and activation; the shortcut is added after those."""

    def __init__(self, block: Block, numerics: Numerics, rate: float) -> None:
        super().__init__(block, numerics, rate)
        self.conv = ConvNorm(
            numerics,
            block.in_channels,
            block.out_channels,
            kernel=block.kernel,
            stride=block.stride,
            activation=block.activation,
        )

    def branch(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Separable(Residual):
    """k×k depthwise → squeeze-and-excite → 1×1 project."""

    def __init__(self, block: Block, numerics: Numerics, rate: float) -> None:
        super().__init__(block, numerics, rate)
        self.depthwise = ConvNorm(
            numerics,
            block.inner_channels,
            block.inner_channels,
            kernel=block.kernel,
            stride=block.stride,
            groups=block.inner_channels,
            activation=block.activation,
        )
        self.squeeze = squeeze_excite(block)
        self.project = ConvNorm(
            numerics,
            block.inner_channels,
            block.out_channels,
            activation=None if block.linear else block.activation,
        )

    def branch(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.squeeze(self.depthwise(x)))
        return out


class Inverted(Separable):
    """1×1 expand → k×k depthwise → squeeze-and-excite → 1×1 project (MobileNetV2's bottleneck)."""

    def __init__(self, block: Block, numerics: Numerics, rate: float) -> None:
        super().__init__(block, numerics, rate)
        self.expand = ConvNorm(
            numerics, block.in_channels, block.inner_channels, activation=block.activation
        )

    def branch(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return out


class Fused(Residual):
    """k×k expand → squeeze-and-excite → 1×1 project (EfficientNetV2's fused bottleneck)."""

    def __init__(self, block: Block, numerics: Numerics, rate: float) -> None:
        super().__init__(block, numerics, rate)
        self.expand = ConvNorm(
            numerics,
            block.in_channels,
            block.inner_channels,
            kernel=block.kernel,
            stride=block.stride,
            activation=block.activation,
        )
        self.squeeze = squeeze_excite(block)
        self.project = ConvNorm(
            numerics,
            block.inner_channels,
            block.out_channels,
            activation=None if block.linear else block.activation,
        )

    def branch(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.squeeze(self.expand(x)))
        return out


class Basic(Residual):
    """k×k convolution → k×k convolution; the activation follows the addition (ResNet-18, 34)."""

    def __init__(self, block: Block, numerics: Numerics, rate: float) -> None:
        super().__init__(block, numerics, rate)
        self.first = ConvNorm(
            numerics,
            block.in_channels,
            block.inner_channels,
            kernel=block.kernel,
            stride=block.stride,
            activation=block.activation,
        )
        self.second = ConvNorm(
            numerics, block.inner_channels, block.out_channels, kernel=block.kernel
        )
        self.activation = ACTIVATIONS[block.activation]()

    def branch(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(super().forward(x))
        return out


class Bottleneck(Residual):
    """1×1 reduce → k×k convolution, strided → 1×1 expand; activation after the addition."""

    def __init__(self, block: Block, numerics: Numerics, rate: float) -> None:
        super().__init__(block, numerics, rate)
        self.reduce = ConvNorm(
            numerics, block.in_channels, block.inner_channels, activation=block.activation
        )
        self.conv = ConvNorm(
            numerics,
            block.inner_channels,
            block.inner_channels,
            kernel=block.kernel,
            stride=block.stride,
            activation=block.activation,
        )
        self.expand = ConvNorm(numerics, block.inner_channels, block.out_channels)
        self.activation = ACTIVATIONS[block.activation]()

    def branch(self, x: Tensor) -> Tensor:
        out: Tensor = self.expand(self.conv(self.reduce(x)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(super().forward(x))
        return out


#: The module of each operator; it is built from a block, the numerics and a drop rate.
BLOCKS: dict[Operator, type[Residual]] = {
    Operator.CONV: Conv,
    Operator.SEPARABLE: Separable,
    Operator.INVERTED: Inverted,
    Operator.FUSED: Fused,
    Operator.BASIC: Basic,
    Operator.BOTTLENECK: Bottleneck,
}
