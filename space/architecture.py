"""Architectures as data: a frozen, hashable, torch-free description of one network.

An `Architecture` is a stem, a table of stages, a head, and the few facts that make the network
exact: input, classes, numerics, and the rule by which it scales. `Architecture.blocks()` resolves
the table into the blocks that are really computed; the network, its cost and its `key` all follow
from those blocks, so they cannot disagree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import accumulate
from operator import mul
from typing import Any

# The vocabulary of a stage is an operator's, and is imported from here, too.
from space.layers import Activation as Activation
from space.layers import Block as Block
from space.layers import Gate as Gate
from space.layers import Inner
from space.layers import Operator as Operator
from space.layers import Skip as Skip
from space.validation import strict_keys, validate

#: Upper bounds on untrusted descriptions, so that no file asks for absurd memory
#: (assumed: an order of magnitude above the largest published network).
MAX_CHANNELS = 65_536
MAX_REPEATS = 1_000
MAX_STAGES = 1_000
MAX_KERNEL = 31
MAX_STRIDE = 8
MAX_RESOLUTION = 8_192
MAX_CLASSES = 1_000_000


class Padding(StrEnum):
    """`symmetric` pads k // 2 on every side (torch); `same` pads as TensorFlow does.

    Both give ceil(n / stride) pixels; they differ in what a strided convolution sees.
    """

    SYMMETRIC = "symmetric"
    SAME = "same"


class SqueezeBase(StrEnum):
    """Which channels a squeeze-and-excite ratio refers to."""

    INPUT = "input"
    EXPANDED = "expanded"


class HeadScaling(StrEnum):
    """What width does to the head: scale it, scale it only upwards (MobileNetV2), or nothing."""

    SCALE = "scale"
    GROW = "grow"
    FIXED = "fixed"


def _check(name: str, found: object, holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(f"`{rule}` must hold, but got {name}={found}")


def _check_count(name: str, found: int, most: int) -> None:
    _check(name, found, 1 <= found <= most, f"1 <= {name} <= {most}")


def _check_kernel(kernel: int) -> None:
    rule = f"kernel is odd and 1 <= kernel <= {MAX_KERNEL}"
    _check("kernel", kernel, kernel % 2 == 1 and 1 <= kernel <= MAX_KERNEL, rule)


def round_channels(channels: float, divisor: int = 8, round_limit: float = 0.9) -> int:
    """The nearest multiple of `divisor`, at least `divisor`, one up where that lost too much.

    "Too much" is a result below `round_limit` · channels. Source: the official EfficientNet and
    MobileNet code (`round_filters`, `_make_divisible`), where the limit is 0.9;
    EfficientNetV2-B0…B3 have 0.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * channels else rounded


@strict_keys
@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """Squeeze-and-excite: global mean → 1×1 to `squeezed(...)` → activation → 1×1 → gate → scale.

    `divisor` 1 squeezes to max(1, int(base · ratio)) (EfficientNet); 8 rounds as channels are
    rounded (MobileNetV3). `activation` None is the block's own.
    """

    ratio: float = 0.25
    base: SqueezeBase = SqueezeBase.INPUT
    divisor: int = 1
    gate: Gate = Gate.SIGMOID
    activation: Activation | None = None

    def __post_init__(self) -> None:
        _check("se.ratio", self.ratio, 0 < self.ratio <= 1, "0 < ratio <= 1")
        _check("se.divisor", self.divisor, 1 <= self.divisor <= 256, "1 <= divisor <= 256")

    def squeezed(self, in_channels: int, inner_channels: int) -> int:
        """Channels between the two 1×1 convolutions."""
        base = in_channels if self.base is SqueezeBase.INPUT else inner_channels
        if self.divisor == 1:
            return max(1, int(base * self.ratio))
        return round_channels(base * self.ratio, self.divisor)


@strict_keys
@dataclass(frozen=True, slots=True)
class Stage:
    """A run of `repeats` identical blocks, of which only the first has the stride.

    `expansion` is inner channels over the block's *input* channels (inverted, fused), or over its
    *output* channels (bottleneck, where it is below 1). `linear` leaves out the activation after
    the block's last convolution, as all but MobileNetV1 do. What an operator has no use for
    (expansion, SE or `start_kernel` of a plain convolution) has no effect, and does not enter the
    key. Where an operator has two kernels, 0 leaves out the convolution.
    """

    operator: Operator
    channels: int
    repeats: int = 1
    kernel: int = 3
    stride: int = 1
    expansion: float = 1.0
    se: SqueezeExcite | None = None
    skip: Skip = Skip.IDENTITY
    activation: Activation | None = None
    linear: bool = True
    start_kernel: int = 0

    def __post_init__(self) -> None:
        _check_count("channels", self.channels, MAX_CHANNELS)
        _check_count("repeats", self.repeats, MAX_REPEATS)
        if self.kernel or not self.operator.optional_kernels:
            _check_kernel(self.kernel)
        if self.start_kernel:
            _check_kernel(self.start_kernel)
        if not (self.kernel or self.start_kernel) and self.stride > 1:
            raise ValueError(
                f"a stage with a stride needs a kernel or a start_kernel, but got kernel=0, "
                f"start_kernel=0, stride={self.stride}"
            )
        _check_count("stride", self.stride, MAX_STRIDE)
        _check("expansion", self.expansion, 0 < self.expansion <= 64, "0 < expansion <= 64")

    def inner_channels(self, in_channels: int) -> int:
        """Channels inside a block of this stage that is given `in_channels`."""
        match self.operator.form.inner:
            case Inner.EXPANDED_INPUT:
                expanded = in_channels * self.expansion
                return in_channels if self.expansion == 1 else round_channels(expanded)
            case Inner.REDUCED_OUTPUT:
                return max(1, int(self.channels * self.expansion))
            case Inner.INPUT:
                return in_channels
            case Inner.OUTPUT:
                return self.channels


@strict_keys
@dataclass(frozen=True, slots=True)
class Stem:
    """k×k convolution → batch norm → activation, then ResNet's 3×3 max pooling where `pool`."""

    channels: int = 32
    kernel: int = 3
    stride: int = 2
    pool: bool = False

    def __post_init__(self) -> None:
        _check_count("stem.channels", self.channels, MAX_CHANNELS)
        _check_kernel(self.kernel)
        _check_count("stem.stride", self.stride, MAX_STRIDE)


@strict_keys
@dataclass(frozen=True, slots=True)
class Head:
    """1×1 convolution to `channels` (0: none) → global mean → linear to `hidden` with activation
    (0: none; MobileNetV3's) → dropout → classifier.

    `hidden_norm` makes the hidden layer a 1×1 convolution with batch norm (MobileNetV4's).
    """

    channels: int = 1280
    hidden: int = 0
    hidden_norm: bool = False

    def __post_init__(self) -> None:
        for name, value in (("head.channels", self.channels), ("head.hidden", self.hidden)):
            _check(name, value, 0 <= value <= MAX_CHANNELS, f"0 <= {name} <= {MAX_CHANNELS}")


@strict_keys
@dataclass(frozen=True, slots=True)
class Numerics:
    """What changes outputs and no cost. Batch norm momentum is torch's (1 − TensorFlow's).

    The defaults are the official EfficientNet code's.
    """

    activation: Activation = Activation.SILU
    bn_eps: float = 1e-3
    bn_momentum: float = 0.01
    padding: Padding = Padding.SYMMETRIC

    def __post_init__(self) -> None:
        _check("bn_eps", self.bn_eps, 0 < self.bn_eps < 1, "0 < bn_eps < 1")
        _check("bn_momentum", self.bn_momentum, 0 < self.bn_momentum <= 1, "0 < bn_momentum <= 1")


@strict_keys
@dataclass(frozen=True, slots=True)
class ScalingRule:
    """How an architecture scales: which parts a width factor and a depth factor touch.

    `stem`: width scales the stem. `head`: what width does to the head. `ends`: depth multiplies
    the repeats of the first and the last stage too (EfficientNet-Lite: no). `divisor` and
    `round_limit` are those of `round_channels`.
    """

    stem: bool = True
    head: HeadScaling = HeadScaling.SCALE
    ends: bool = True
    divisor: int = 8
    round_limit: float = 0.9

    def __post_init__(self) -> None:
        _check("divisor", self.divisor, 1 <= self.divisor <= 256, "1 <= divisor <= 256")
        _check("round_limit", self.round_limit, 0 <= self.round_limit < 1, "0 <= round_limit < 1")


@strict_keys
@dataclass(frozen=True, slots=True)
class Architecture:
    """One network: `resolution` is its square input in pixels; JSON round-trips.

    `dropout` (before the classifier) and `stochastic_depth` (of the last block; it rises linearly
    from 0) act in training only. Raises ValueError where a value is out of its range.

    Example:
        >>> from space.architecture import Architecture
        >>> from space.presets import load
        >>> network = load("mobilenet_v2")
        >>> Architecture.from_dict(network.to_dict()) == network
        True
    """

    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    resolution: int = 224
    num_classes: int = 1000
    in_channels: int = 3
    numerics: Numerics = Numerics()
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    scaling: ScalingRule = ScalingRule()

    def __post_init__(self) -> None:
        count = len(self.stages)
        _check("stages", count, 1 <= count <= MAX_STAGES, f"1 <= number of stages <= {MAX_STAGES}")
        _check_count("resolution", self.resolution, MAX_RESOLUTION)
        _check_count("num_classes", self.num_classes, MAX_CLASSES)
        _check_count("in_channels", self.in_channels, 1_024)
        _check("dropout", self.dropout, 0 <= self.dropout < 1, "0 <= dropout < 1")
        rate = self.stochastic_depth
        _check("stochastic_depth", rate, 0 <= rate < 1, "0 <= stochastic_depth < 1")

    def blocks(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks of each stage, resolved."""
        stages, in_channels = [], self.stem.channels
        for stage in self.stages:
            first = resolve(stage, in_channels, stage.stride, self.numerics.activation)
            rest = resolve(stage, stage.channels, 1, self.numerics.activation)
            stages.append((first,) + (rest,) * (stage.repeats - 1))
            in_channels = stage.channels
        return tuple(stages)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per pixel of the map behind the stem with its pooling, and each stage."""
        first = self.stem.stride * (2 if self.stem.pool else 1)
        return tuple(accumulate((stage.stride for stage in self.stages), mul, initial=first))

    @property
    def out_channels(self) -> int:
        """Channels that are averaged over space: the head's, or the last stage's."""
        return self.head.channels or self.stages[-1].channels

    @property
    def key(self) -> str:
        """128 bits in hexadecimal: equal if and only if two architectures compute the same.

        Where one run of blocks ends and the next begins is not part of a computation, nor is a
        choice without effect, nor the rule of scaling. What acts in training only is.
        """
        blocks = [block for stage in self.blocks() for block in stage]
        # Stochastic depth never drops the first block; 1×1 convolutions need no padding.
        residual = any(block.shortcut is not Skip.NONE for block in blocks[1:])
        windows = [(self.stem.kernel, self.stem.stride)] + [
            (b.kernel or b.start_kernel, b.stride) for b in blocks
        ]
        strided = any(kernel > 1 and stride > 1 for kernel, stride in windows)
        canonical = (
            asdict(self.stem),
            # Left out where they have no effect, so that they change no key of a network without.
            [_without(block._asdict(), "start_kernel") for block in blocks],
            _without(asdict(self.head), "hidden_norm", unless=self.head.hidden > 0),
            self.resolution,
            self.num_classes,
            self.in_channels,
            # The head's and the stem's activation; that of blocks stands in each of them.
            self.numerics.activation,
            float(self.numerics.bn_eps),
            float(self.numerics.bn_momentum),
            self.numerics.padding if strided or self.stem.pool else None,
            float(self.dropout),
            float(self.stochastic_depth) if residual else 0.0,
        )
        text = json.dumps(canonical, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` gives the same architecture back."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "architecture") -> Architecture:
        """The architecture that `to_dict` wrote; `source` (a file's name) is for the error.

        Raises `space.validation.InvalidInput`, naming source and key, where the data is not a
        valid architecture.
        """
        return validate(cls, data, source=source)


def _without(data: dict[str, Any], name: str, *, unless: bool = True) -> dict[str, Any]:
    """`data`, without the entry where it is 0 or False, or has no effect."""
    has_effect = data[name] and unless
    return data if has_effect else {key: value for key, value in data.items() if key != name}


def resolve(stage: Stage, in_channels: int, stride: int, activation: Activation) -> Block:
    """The block of `stage` given `in_channels`; `activation` is the one of the whole network."""
    operator = stage.operator
    inner = stage.inner_channels(in_channels)
    if operator.form.unexpanded and inner == in_channels:
        operator = operator.form.unexpanded
        inner = replace(stage, operator=operator).inner_channels(in_channels)
    se = stage.se if operator.projects else None
    shortcut = stage.skip
    if shortcut is not Skip.NONE and stride == 1 and in_channels == stage.channels:
        shortcut = Skip.IDENTITY
    elif shortcut is Skip.IDENTITY:
        shortcut = Skip.NONE
    activation = stage.activation or activation
    return Block(
        operator=operator,
        kernel=stage.kernel,
        stride=stride,
        in_channels=in_channels,
        inner_channels=inner,
        out_channels=stage.channels,
        squeeze_channels=se.squeezed(in_channels, inner) if se else 0,
        gate=se.gate if se else None,
        squeeze_activation=(se.activation or activation) if se else None,
        shortcut=shortcut,
        activation=activation,
        linear=stage.linear and operator.projects,
        start_kernel=stage.start_kernel if operator.optional_kernels else 0,
    )
