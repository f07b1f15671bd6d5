"""Published networks as architectures, each table row as its source prints it.

Numerics are those of the implementation whose weights people have: torchvision's where it has the
network, else timm's; both give the same computation for weights of either up to `Numerics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from space.architecture import (
    Activation,
    Architecture,
    Gate,
    Head,
    HeadScaling,
    Numerics,
    Operator,
    Padding,
    ScalingRule,
    Skip,
    SqueezeBase,
    SqueezeExcite,
    Stage,
    Stem,
)
from space.validation import one_of


class Factors(NamedTuple):
    """The published width, depth and resolution (pixels) by which a network grows from `base`."""

    base: str
    width: float
    depth: float
    resolution: int


class Member(NamedTuple):
    """One network of a family: what the table of its layout leaves open."""

    stem: int
    channels: tuple[int, ...]
    repeats: tuple[int, ...]
    head: int
    resolution: int
    dropout: float


_SE = SqueezeExcite(ratio=0.25)
_NO_SE = None

#: torch's own defaults for batch norm, which most torchvision and timm networks keep.
_TORCH_SILU = Numerics(Activation.SILU, bn_eps=1e-5, bn_momentum=0.1)
_TORCH_RELU = Numerics(Activation.RELU, bn_eps=1e-5, bn_momentum=0.1)
_TORCH_RELU6 = Numerics(Activation.RELU6, bn_eps=1e-5, bn_momentum=0.1)


def _family(
    layout: tuple[tuple[Operator, int, int, int, SqueezeExcite | None], ...],
    members: Mapping[str, Member],
    numerics: Numerics,
    scaling: ScalingRule,
) -> dict[str, Architecture]:
    """The EfficientNets of one layout; stochastic depth is 0.2 in all of them, as published."""
    return {
        f"efficientnet_{name}": Architecture(
            stem=Stem(member.stem),
            stages=tuple(
                Stage(operator, channels, repeats, kernel, stride, expansion, se)
                for (operator, expansion, kernel, stride, se), channels, repeats in zip(
                    layout, member.channels, member.repeats, strict=True
                )
            ),
            head=Head(member.head),
            resolution=member.resolution,
            numerics=numerics,
            dropout=member.dropout,
            stochastic_depth=0.2,
            scaling=scaling,
        )
        for name, member in members.items()
    }


# EfficientNet (Tan & Le 2019, table 1), its members by the official code's
# `efficientnet_params`; B8 is of Xie et al. 2019 (AdvProp).
# operator, expansion, kernel, stride, SE
_EFFICIENTNET = (
    (Operator.INVERTED, 1, 3, 1, _SE),
    (Operator.INVERTED, 6, 3, 2, _SE),
    (Operator.INVERTED, 6, 5, 2, _SE),
    (Operator.INVERTED, 6, 3, 2, _SE),
    (Operator.INVERTED, 6, 5, 1, _SE),
    (Operator.INVERTED, 6, 5, 2, _SE),
    (Operator.INVERTED, 6, 3, 1, _SE),
)
# stem, channels, repeats, head, resolution, dropout
_EFFICIENTNET_MEMBERS = {
    "b0": Member(32, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1), 1280, 224, 0.2),
    "b1": Member(32, (16, 24, 40, 80, 112, 192, 320), (2, 3, 3, 4, 4, 5, 2), 1280, 240, 0.2),
    "b2": Member(32, (16, 24, 48, 88, 120, 208, 352), (2, 3, 3, 4, 4, 5, 2), 1408, 260, 0.3),
    "b3": Member(40, (24, 32, 48, 96, 136, 232, 384), (2, 3, 3, 5, 5, 6, 2), 1536, 300, 0.3),
    "b4": Member(48, (24, 32, 56, 112, 160, 272, 448), (2, 4, 4, 6, 6, 8, 2), 1792, 380, 0.4),
    "b5": Member(48, (24, 40, 64, 128, 176, 304, 512), (3, 5, 5, 7, 7, 9, 3), 2048, 456, 0.4),
    "b6": Member(56, (32, 40, 72, 144, 200, 344, 576), (3, 6, 6, 8, 8, 11, 3), 2304, 528, 0.5),
    "b7": Member(64, (32, 48, 80, 160, 224, 384, 640), (4, 7, 7, 10, 10, 13, 4), 2560, 600, 0.5),
    "b8": Member(72, (32, 56, 88, 176, 248, 424, 704), (4, 8, 8, 11, 11, 15, 4), 2816, 672, 0.5),
}
# EfficientNet-Lite (its README): no SE, ReLU6; stem, head, first and last repeats stay.
_LITE_MEMBERS = {
    "lite0": Member(32, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1), 1280, 224, 0.2),
    "lite1": Member(32, (16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1), 1280, 240, 0.2),
    "lite2": Member(32, (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1), 1280, 260, 0.3),
    "lite3": Member(32, (24, 32, 48, 96, 136, 232, 384), (1, 3, 3, 5, 5, 6, 1), 1280, 280, 0.3),
    "lite4": Member(32, (24, 32, 56, 112, 160, 272, 448), (1, 4, 4, 6, 6, 8, 1), 1280, 300, 0.3),
}
# EfficientNetV2-B0…B3 (Tan & Le 2021, official code), at their evaluation resolution.
_V2_BASE_MEMBERS = {
    "v2_b0": Member(32, (16, 32, 48, 96, 112, 192), (1, 2, 2, 3, 5, 8), 1280, 224, 0.2),
    "v2_b1": Member(32, (16, 32, 48, 96, 112, 192), (2, 3, 3, 4, 6, 9), 1280, 240, 0.2),
    "v2_b2": Member(32, (16, 32, 56, 104, 120, 208), (2, 3, 3, 4, 6, 10), 1408, 260, 0.3),
    "v2_b3": Member(40, (16, 40, 56, 112, 136, 232), (2, 3, 3, 5, 7, 12), 1536, 300, 0.3),
}
# EfficientNetV2-S/M/L (the same, table 4), at their evaluation resolution; tables, no rule.
_V2_S = {
    "v2_s": Member(24, (24, 48, 64, 128, 160, 256), (2, 4, 4, 6, 9, 15), 1280, 384, 0.2),
}
_V2_M_L = {
    "v2_m": Member(24, (24, 48, 80, 160, 176, 304, 512), (3, 5, 5, 7, 14, 18, 5), 1280, 480, 0.3),
    "v2_l": Member(32, (32, 64, 96, 192, 224, 384, 640), (4, 7, 7, 10, 19, 25, 7), 1280, 480, 0.4),
}
_V2 = (
    (Operator.FUSED, 1, 3, 1, _NO_SE),
    (Operator.FUSED, 4, 3, 2, _NO_SE),
    (Operator.FUSED, 4, 3, 2, _NO_SE),
    (Operator.INVERTED, 4, 3, 2, _SE),
    (Operator.INVERTED, 6, 3, 1, _SE),
    (Operator.INVERTED, 6, 3, 2, _SE),
)
_V2_LONG = (*_V2, (Operator.INVERTED, 6, 3, 1, _SE))

#: What each scaled member was published with, for `scaling.compound.scale` to reproduce.
PUBLISHED: Mapping[str, Factors] = MappingProxyType(
    {
        # EfficientNet official code, `efficientnet_params`: width, depth, resolution.
        "efficientnet_b0": Factors("efficientnet_b0", 1.0, 1.0, 224),
        "efficientnet_b1": Factors("efficientnet_b0", 1.0, 1.1, 240),
        "efficientnet_b2": Factors("efficientnet_b0", 1.1, 1.2, 260),
        "efficientnet_b3": Factors("efficientnet_b0", 1.2, 1.4, 300),
        "efficientnet_b4": Factors("efficientnet_b0", 1.4, 1.8, 380),
        "efficientnet_b5": Factors("efficientnet_b0", 1.6, 2.2, 456),
        "efficientnet_b6": Factors("efficientnet_b0", 1.8, 2.6, 528),
        "efficientnet_b7": Factors("efficientnet_b0", 2.0, 3.1, 600),
        "efficientnet_b8": Factors("efficientnet_b0", 2.2, 3.6, 672),
        # EfficientNet-Lite official code, `efficientnet_lite_params`.
        "efficientnet_lite0": Factors("efficientnet_lite0", 1.0, 1.0, 224),
        "efficientnet_lite1": Factors("efficientnet_lite0", 1.0, 1.1, 240),
        "efficientnet_lite2": Factors("efficientnet_lite0", 1.1, 1.2, 260),
        "efficientnet_lite3": Factors("efficientnet_lite0", 1.2, 1.4, 280),
        "efficientnet_lite4": Factors("efficientnet_lite0", 1.4, 1.8, 300),
        # EfficientNetV2 official code, `efficientnetv2_params` (evaluation size).
        "efficientnet_v2_b0": Factors("efficientnet_v2_b0", 1.0, 1.0, 224),
        "efficientnet_v2_b1": Factors("efficientnet_v2_b0", 1.0, 1.1, 240),
        "efficientnet_v2_b2": Factors("efficientnet_v2_b0", 1.1, 1.2, 260),
        "efficientnet_v2_b3": Factors("efficientnet_v2_b0", 1.2, 1.4, 300),
        # MnasNet-B1's width multipliers, as torchvision ships them.
        "mnasnet_b1_050": Factors("mnasnet_b1_100", 0.5, 1.0, 224),
        "mnasnet_b1_075": Factors("mnasnet_b1_100", 0.75, 1.0, 224),
        "mnasnet_b1_100": Factors("mnasnet_b1_100", 1.0, 1.0, 224),
        "mnasnet_b1_130": Factors("mnasnet_b1_100", 1.3, 1.0, 224),
    }
)


def _efficientnets() -> dict[str, Architecture]:
    members = _family(_EFFICIENTNET, _EFFICIENTNET_MEMBERS, _TORCH_SILU, ScalingRule())
    for name in ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7"):
        # torchvision's are ported from TensorFlow, with its batch norm.
        members[name] = replace(members[name], numerics=Numerics())
    without_se = tuple((*row[:4], _NO_SE) for row in _EFFICIENTNET)
    rule = ScalingRule(stem=False, head=HeadScaling.FIXED, ends=False)
    return members | _family(without_se, _LITE_MEMBERS, _TORCH_RELU6, rule)


def _efficientnets_v2() -> dict[str, Architecture]:
    torch = Numerics(bn_eps=1e-3, bn_momentum=0.1)
    tensorflow = replace(torch, padding=Padding.SAME)
    return (
        _family(_V2, _V2_S, torch, ScalingRule())
        | _family(_V2_LONG, _V2_M_L, torch, ScalingRule())
        | _family(_V2, _V2_BASE_MEMBERS, tensorflow, ScalingRule(round_limit=0.0))
    )


def _mnasnet_b1(stem: int, channels: tuple[int, ...]) -> Architecture:
    """MnasNet-B1 (Tan et al. 2019), its numerics as torchvision's."""
    # operator, expansion, kernel, stride, repeats, skip
    rows = (
        (Operator.SEPARABLE, 1, 3, 1, 1, Skip.NONE),
        (Operator.INVERTED, 3, 3, 2, 3, Skip.IDENTITY),
        (Operator.INVERTED, 3, 5, 2, 3, Skip.IDENTITY),
        (Operator.INVERTED, 6, 5, 2, 3, Skip.IDENTITY),
        (Operator.INVERTED, 6, 3, 1, 2, Skip.IDENTITY),
        (Operator.INVERTED, 6, 5, 2, 4, Skip.IDENTITY),
        (Operator.INVERTED, 6, 3, 1, 1, Skip.IDENTITY),
    )
    return Architecture(
        stem=Stem(stem),
        stages=tuple(
            Stage(operator, width, repeats, kernel, stride, expansion, skip=skip)
            for width, (operator, expansion, kernel, stride, repeats, skip) in zip(
                channels, rows, strict=True
            )
        ),
        head=Head(1280),
        numerics=Numerics(Activation.RELU, bn_eps=1e-5, bn_momentum=3e-4),
        dropout=0.2,
        scaling=ScalingRule(head=HeadScaling.FIXED),
    )


def _mnasnets() -> dict[str, Architecture]:
    b1 = {
        "mnasnet_b1_050": _mnasnet_b1(16, (8, 16, 24, 40, 48, 96, 160)),
        "mnasnet_b1_075": _mnasnet_b1(24, (16, 24, 32, 64, 72, 144, 240)),
        "mnasnet_b1_100": _mnasnet_b1(32, (16, 24, 40, 80, 96, 192, 320)),
        "mnasnet_b1_130": _mnasnet_b1(40, (24, 32, 56, 104, 128, 248, 416)),
    }
    a1 = Architecture(  # MnasNet, figure 7
        stem=Stem(32),
        stages=(  # operator, channels, repeats, kernel, stride, expansion, SE
            Stage(Operator.SEPARABLE, 16, 1, 3, 1, skip=Skip.NONE),
            Stage(Operator.INVERTED, 24, 2, 3, 2, 6),
            Stage(Operator.INVERTED, 40, 3, 5, 2, 3, _SE),
            Stage(Operator.INVERTED, 80, 4, 3, 2, 6),
            Stage(Operator.INVERTED, 112, 2, 3, 1, 6, _SE),
            Stage(Operator.INVERTED, 160, 3, 5, 2, 6, _SE),
            Stage(Operator.INVERTED, 320, 1, 3, 1, 6),
        ),
        head=Head(1280),
        numerics=_TORCH_RELU,
        dropout=0.2,
        scaling=ScalingRule(head=HeadScaling.FIXED),
    )
    small = replace(
        a1,
        stem=Stem(8),
        stages=(
            Stage(Operator.SEPARABLE, 8, 1, 3, 1),
            Stage(Operator.INVERTED, 16, 1, 3, 2, 3),
            Stage(Operator.INVERTED, 16, 2, 3, 2, 6),
            Stage(Operator.INVERTED, 32, 4, 5, 2, 6, _SE),
            Stage(Operator.INVERTED, 32, 3, 3, 1, 6, _SE),
            Stage(Operator.INVERTED, 88, 3, 5, 2, 6, _SE),
            Stage(Operator.INVERTED, 144, 1, 3, 1, 6),
        ),
    )
    return {"mnasnet_a1": a1} | b1 | {"mnasnet_small": small}


def _mobilenet_v1() -> Architecture:
    """MobileNetV1 (Howard et al. 2017, table 1): activation after both convolutions, no skip."""
    # channels, repeats, stride
    rows = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
    return Architecture(
        stem=Stem(32),
        stages=tuple(
            Stage(Operator.SEPARABLE, width, repeats, 3, stride, skip=Skip.NONE, linear=False)
            for width, repeats, stride in rows
        ),
        head=Head(0),
        numerics=_TORCH_RELU6,
    )


def _mobilenet_v2() -> Architecture:
    """MobileNetV2 (Sandler et al. 2018, table 2)."""
    return Architecture(
        stem=Stem(32),
        stages=(  # operator, channels, repeats, kernel, stride, expansion
            Stage(Operator.INVERTED, 16, 1, 3, 1, 1),
            Stage(Operator.INVERTED, 24, 2, 3, 2, 6),
            Stage(Operator.INVERTED, 32, 3, 3, 2, 6),
            Stage(Operator.INVERTED, 64, 4, 3, 2, 6),
            Stage(Operator.INVERTED, 96, 3, 3, 1, 6),
            Stage(Operator.INVERTED, 160, 3, 3, 2, 6),
            Stage(Operator.INVERTED, 320, 1, 3, 1, 6),
        ),
        head=Head(1280),
        numerics=_TORCH_RELU6,
        dropout=0.2,
        scaling=ScalingRule(head=HeadScaling.GROW),
    )


def _mobilenets_v3() -> dict[str, Architecture]:
    """MobileNetV3 (Howard et al. 2019, tables 1 and 2)."""
    se = SqueezeExcite(0.25, SqueezeBase.EXPANDED, 8, Gate.HARD_SIGMOID, Activation.RELU)
    relu = Activation.RELU
    # operator, channels, repeats, kernel, stride, expansion, SE
    large = Architecture(
        stem=Stem(16),
        stages=(
            Stage(Operator.INVERTED, 16, 1, 3, 1, 1, activation=relu),
            Stage(Operator.INVERTED, 24, 1, 3, 2, 4, activation=relu),
            Stage(Operator.INVERTED, 24, 1, 3, 1, 3, activation=relu),
            Stage(Operator.INVERTED, 40, 3, 5, 2, 3, se, activation=relu),
            Stage(Operator.INVERTED, 80, 1, 3, 2, 6),
            Stage(Operator.INVERTED, 80, 1, 3, 1, 2.5),
            Stage(Operator.INVERTED, 80, 2, 3, 1, 2.3),
            Stage(Operator.INVERTED, 112, 2, 3, 1, 6, se),
            Stage(Operator.INVERTED, 160, 3, 5, 2, 6, se),
        ),
        head=Head(960, hidden=1280),
        numerics=Numerics(Activation.HARD_SWISH),
        dropout=0.2,
    )
    small = replace(
        large,
        stages=(
            Stage(Operator.INVERTED, 16, 1, 3, 2, 1, se, activation=relu),
            Stage(Operator.INVERTED, 24, 1, 3, 2, 72 / 16, activation=relu),
            Stage(Operator.INVERTED, 24, 1, 3, 1, 88 / 24, activation=relu),
            Stage(Operator.INVERTED, 40, 1, 5, 2, 4, se),
            Stage(Operator.INVERTED, 40, 2, 5, 1, 6, se),
            Stage(Operator.INVERTED, 48, 2, 5, 1, 3, se),
            Stage(Operator.INVERTED, 96, 3, 5, 2, 6, se),
        ),
        head=Head(576, hidden=1024),
    )
    return {"mobilenet_v3_large": large, "mobilenet_v3_small": small}


def _mobilenets_v4() -> dict[str, Architecture]:
    """MobileNetV4 (Qin et al. 2024, tables 11 and 12), as timm has them: without dropout."""
    # channels, repeats, start kernel, kernel, stride, expansion
    small = (
        (96, 1, 5, 5, 2, 3),
        (96, 4, 0, 3, 1, 2),
        (96, 1, 3, 0, 1, 4),
        (128, 1, 3, 3, 2, 6),
        (128, 1, 5, 5, 1, 4),
        (128, 1, 0, 5, 1, 4),
        (128, 1, 0, 5, 1, 3),
        (128, 2, 0, 3, 1, 4),
    )
    medium = (
        (80, 1, 3, 5, 2, 4),
        (80, 1, 3, 3, 1, 2),
        (160, 1, 3, 5, 2, 6),
        (160, 2, 3, 3, 1, 4),
        (160, 1, 3, 5, 1, 4),
        (160, 1, 3, 3, 1, 4),
        (160, 1, 3, 0, 1, 4),
        (160, 1, 0, 0, 1, 2),
        (160, 1, 3, 0, 1, 4),
        (256, 1, 5, 5, 2, 6),
        (256, 1, 5, 5, 1, 4),
        (256, 2, 3, 5, 1, 4),
        (256, 1, 0, 0, 1, 4),
        (256, 1, 3, 0, 1, 4),
        (256, 1, 3, 5, 1, 2),
        (256, 1, 5, 5, 1, 4),
        (256, 2, 0, 0, 1, 4),
        (256, 1, 5, 0, 1, 2),
    )
    # channels, kernel, stride
    convolutions = ((32, 3, 2), (32, 1, 1), (96, 3, 2), (64, 1, 1))
    first = {
        "small": [
            Stage(Operator.CONV, width, 1, kernel, stride, skip=Skip.NONE)
            for width, kernel, stride in convolutions
        ],
        "medium": [Stage(Operator.FUSED, 48, 1, 3, 2, 4)],
    }
    return {
        f"mobilenet_v4_conv_{name}": Architecture(
            stem=Stem(32),
            stages=(
                *first[name],
                *(
                    Stage(
                        Operator.UNIVERSAL,
                        width,
                        repeats,
                        kernel,
                        stride,
                        expansion,
                        start_kernel=start,
                    )
                    for width, repeats, start, kernel, stride, expansion in rows
                ),
            ),
            head=Head(960, hidden=1280, hidden_norm=True),
            resolution=resolution,
            numerics=_TORCH_RELU,
        )
        for name, rows, resolution in (("small", small, 224), ("medium", medium, 256))
    }


def _resnet(operator: Operator, repeats: tuple[int, ...], bottleneck: float = 1.0) -> Architecture:
    """ResNet (He et al. 2016, table 1), the stride in the k×k convolution as torchvision has it."""
    grows = 4 if operator is Operator.BOTTLENECK else 1
    return Architecture(
        stem=Stem(64, kernel=7, pool=True),
        stages=tuple(
            Stage(operator, width * grows, count, 3, stride, bottleneck, skip=Skip.PROJECTION)
            for width, count, stride in zip((64, 128, 256, 512), repeats, (1, 2, 2, 2), strict=True)
        ),
        head=Head(0),
        numerics=_TORCH_RELU,
        scaling=ScalingRule(stem=False),  # assumed: the stem stays, as in the wide forms
    )


def _resnets() -> dict[str, Architecture]:
    """Repeats and, for the wide forms (Zagoruyko & Komodakis 2016), twice the bottleneck."""
    return {
        "resnet18": _resnet(Operator.BASIC, (2, 2, 2, 2)),
        "resnet34": _resnet(Operator.BASIC, (3, 4, 6, 3)),
        "resnet50": _resnet(Operator.BOTTLENECK, (3, 4, 6, 3), 0.25),
        "resnet101": _resnet(Operator.BOTTLENECK, (3, 4, 23, 3), 0.25),
        "resnet152": _resnet(Operator.BOTTLENECK, (3, 8, 36, 3), 0.25),
        "resnet200": _resnet(Operator.BOTTLENECK, (3, 24, 36, 3), 0.25),
        "wide_resnet50_2": _resnet(Operator.BOTTLENECK, (3, 4, 6, 3), 0.5),
        "wide_resnet101_2": _resnet(Operator.BOTTLENECK, (3, 4, 23, 3), 0.5),
    }


_PRESETS: Mapping[str, Architecture] = MappingProxyType(
    _efficientnets()
    | _efficientnets_v2()
    | _mnasnets()
    | {"mobilenet_v1": _mobilenet_v1(), "mobilenet_v2": _mobilenet_v2()}
    | _mobilenets_v3()
    | _mobilenets_v4()
    | _resnets()
)


def names() -> list[str]:
    """All presets, families in order of age of their members.

    Example:
        >>> from space import presets
        >>> presets.names()[:2]
        ['efficientnet_b0', 'efficientnet_b1']
    """
    return list(_PRESETS)


def load(name: str, num_classes: int = 1000) -> Architecture:
    """The published network of that name; raises `InvalidInput` with the nearest name there is.

    Example:
        >>> from space.presets import load
        >>> network = load("efficientnet_b0", num_classes=10)
        >>> network.resolution, network.num_classes
        (224, 10)
    """
    if name not in _PRESETS:
        raise one_of("preset", name, _PRESETS)
    return replace(_PRESETS[name], num_classes=num_classes)
