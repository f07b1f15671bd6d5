"""Published networks as architectures, each table row as its source prints it.

Numerics are those of the implementation whose weights people have: torchvision's where it has the
network, else timm's; both give the same computation for weights of either up to `Numerics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

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

_CONV, _SEPARABLE, _INVERTED = Operator.CONV, Operator.SEPARABLE, Operator.INVERTED
_FUSED, _UNIVERSAL = Operator.FUSED, Operator.UNIVERSAL
_SE = SqueezeExcite(ratio=0.25)

#: torch's own defaults for batch norm, which most torchvision and timm networks keep.
_TORCH_SILU = Numerics(Activation.SILU, bn_eps=1e-5, bn_momentum=0.1)
_TORCH_RELU = replace(_TORCH_SILU, activation=Activation.RELU)
_TORCH_RELU6 = replace(_TORCH_SILU, activation=Activation.RELU6)

#: stem, channels, repeats, head, resolution, dropout
_Member = tuple[int, tuple[int, ...], tuple[int, ...], int, int, float]


def _family(
    prefix: str, layout: Architecture, members: Mapping[str, _Member]
) -> dict[str, Architecture]:
    """Networks that share the operators, kernels, strides, expansions and numerics of a layout."""
    found = {}
    for name, (stem, channels, repeats, head, resolution, dropout) in members.items():
        table = zip(layout.stages, channels, repeats, strict=True)
        found[prefix + name] = replace(
            layout,
            stem=Stem(stem),
            stages=tuple(replace(stage, channels=c, repeats=r) for stage, c, r in table),
            head=Head(head),
            resolution=resolution,
            dropout=dropout,
        )
    return found


def _efficientnets() -> dict[str, Architecture]:
    """EfficientNet (Tan & Le 2019, table 1; members by the official code's `efficientnet_params`;
    B8 of Xie et al. 2019, AdvProp) and EfficientNet-Lite (its README).
    """
    b0 = Architecture(
        stem=Stem(32),
        stages=(  # operator, channels, repeats, kernel, stride, expansion, SE
            Stage(_INVERTED, 16, 1, 3, 1, 1, _SE),
            Stage(_INVERTED, 24, 2, 3, 2, 6, _SE),
            Stage(_INVERTED, 40, 2, 5, 2, 6, _SE),
            Stage(_INVERTED, 80, 3, 3, 2, 6, _SE),
            Stage(_INVERTED, 112, 3, 5, 1, 6, _SE),
            Stage(_INVERTED, 192, 4, 5, 2, 6, _SE),
            Stage(_INVERTED, 320, 1, 3, 1, 6, _SE),
        ),
        head=Head(1280),
        numerics=_TORCH_SILU,
        dropout=0.2,
        stochastic_depth=0.2,  # in all members, as published
    )
    # stem, channels, repeats, head, resolution, dropout
    members: dict[str, _Member] = {
        "b1": (32, (16, 24, 40, 80, 112, 192, 320), (2, 3, 3, 4, 4, 5, 2), 1280, 240, 0.2),
        "b2": (32, (16, 24, 48, 88, 120, 208, 352), (2, 3, 3, 4, 4, 5, 2), 1408, 260, 0.3),
        "b3": (40, (24, 32, 48, 96, 136, 232, 384), (2, 3, 3, 5, 5, 6, 2), 1536, 300, 0.3),
        "b4": (48, (24, 32, 56, 112, 160, 272, 448), (2, 4, 4, 6, 6, 8, 2), 1792, 380, 0.4),
        "b5": (48, (24, 40, 64, 128, 176, 304, 512), (3, 5, 5, 7, 7, 9, 3), 2048, 456, 0.4),
        "b6": (56, (32, 40, 72, 144, 200, 344, 576), (3, 6, 6, 8, 8, 11, 3), 2304, 528, 0.5),
        "b7": (64, (32, 48, 80, 160, 224, 384, 640), (4, 7, 7, 10, 10, 13, 4), 2560, 600, 0.5),
        "b8": (72, (32, 56, 88, 176, 248, 424, 704), (4, 8, 8, 11, 11, 15, 4), 2816, 672, 0.5),
    }
    found = {"efficientnet_b0": b0} | _family("efficientnet_", b0, members)
    for name in ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7"):
        # torchvision's are ported from TensorFlow, with its batch norm.
        found[name] = replace(found[name], numerics=Numerics())
    lite0 = replace(
        b0,
        stages=tuple(replace(stage, se=None) for stage in b0.stages),
        numerics=_TORCH_RELU6,
        scaling=ScalingRule(stem=False, head=HeadScaling.FIXED, ends=False),
    )
    members = {
        "1": (32, (16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1), 1280, 240, 0.2),
        "2": (32, (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1), 1280, 260, 0.3),
        "3": (32, (24, 32, 48, 96, 136, 232, 384), (1, 3, 3, 5, 5, 6, 1), 1280, 280, 0.3),
        "4": (32, (24, 32, 56, 112, 160, 272, 448), (1, 4, 4, 6, 6, 8, 1), 1280, 300, 0.3),
    }
    return found | {"efficientnet_lite0": lite0} | _family("efficientnet_lite", lite0, members)


def _efficientnets_v2() -> dict[str, Architecture]:
    """EfficientNetV2-S/M/L (Tan & Le 2021, table 4: tables, no rule) and B0…B3 (its official code),
    at their evaluation resolution.
    """
    s = Architecture(
        stem=Stem(24),
        stages=(  # operator, channels, repeats, kernel, stride, expansion, SE
            Stage(_FUSED, 24, 2, 3, 1, 1),
            Stage(_FUSED, 48, 4, 3, 2, 4),
            Stage(_FUSED, 64, 4, 3, 2, 4),
            Stage(_INVERTED, 128, 6, 3, 2, 4, _SE),
            Stage(_INVERTED, 160, 9, 3, 1, 6, _SE),
            Stage(_INVERTED, 256, 15, 3, 2, 6, _SE),
        ),
        head=Head(1280),
        resolution=384,
        numerics=Numerics(bn_eps=1e-3, bn_momentum=0.1),
        dropout=0.2,
        stochastic_depth=0.2,
    )
    longer = replace(s, stages=(*s.stages, Stage(_INVERTED, 512, 5, 3, 1, 6, _SE)))
    base = replace(
        s, numerics=replace(s.numerics, padding=Padding.SAME), scaling=ScalingRule(round_limit=0.0)
    )
    # stem, channels, repeats, head, resolution, dropout
    m_l: dict[str, _Member] = {
        "m": (24, (24, 48, 80, 160, 176, 304, 512), (3, 5, 5, 7, 14, 18, 5), 1280, 480, 0.3),
        "l": (32, (32, 64, 96, 192, 224, 384, 640), (4, 7, 7, 10, 19, 25, 7), 1280, 480, 0.4),
    }
    b: dict[str, _Member] = {
        "b0": (32, (16, 32, 48, 96, 112, 192), (1, 2, 2, 3, 5, 8), 1280, 224, 0.2),
        "b1": (32, (16, 32, 48, 96, 112, 192), (2, 3, 3, 4, 6, 9), 1280, 240, 0.2),
        "b2": (32, (16, 32, 56, 104, 120, 208), (2, 3, 3, 4, 6, 10), 1408, 260, 0.3),
        "b3": (40, (16, 40, 56, 112, 136, 232), (2, 3, 3, 5, 7, 12), 1536, 300, 0.3),
    }
    prefix = "efficientnet_v2_"
    return {"efficientnet_v2_s": s} | _family(prefix, longer, m_l) | _family(prefix, base, b)


def _mnasnets() -> dict[str, Architecture]:
    """MnasNet-A1 (Tan et al. 2019, figure 7), B1 at torchvision's widths, and Small."""
    a1 = Architecture(
        stem=Stem(32),
        stages=(  # operator, channels, repeats, kernel, stride, expansion, SE
            Stage(_SEPARABLE, 16, 1, 3, 1, skip=Skip.NONE),
            Stage(_INVERTED, 24, 2, 3, 2, 6),
            Stage(_INVERTED, 40, 3, 5, 2, 3, _SE),
            Stage(_INVERTED, 80, 4, 3, 2, 6),
            Stage(_INVERTED, 112, 2, 3, 1, 6, _SE),
            Stage(_INVERTED, 160, 3, 5, 2, 6, _SE),
            Stage(_INVERTED, 320, 1, 3, 1, 6),
        ),
        head=Head(1280),
        numerics=_TORCH_RELU,
        dropout=0.2,
        scaling=ScalingRule(head=HeadScaling.FIXED),
    )
    b1 = replace(
        a1,
        stages=(
            Stage(_SEPARABLE, 16, 1, 3, 1, 1, skip=Skip.NONE),
            Stage(_INVERTED, 24, 3, 3, 2, 3),
            Stage(_INVERTED, 40, 3, 5, 2, 3),
            Stage(_INVERTED, 80, 3, 5, 2, 6),
            Stage(_INVERTED, 96, 2, 3, 1, 6),
            Stage(_INVERTED, 192, 4, 5, 2, 6),
            Stage(_INVERTED, 320, 1, 3, 1, 6),
        ),
        numerics=replace(_TORCH_RELU, bn_momentum=3e-4),
    )
    small = replace(
        a1,
        stem=Stem(8),
        stages=(
            Stage(_SEPARABLE, 8, 1, 3, 1),
            Stage(_INVERTED, 16, 1, 3, 2, 3),
            Stage(_INVERTED, 16, 2, 3, 2, 6),
            Stage(_INVERTED, 32, 4, 5, 2, 6, _SE),
            Stage(_INVERTED, 32, 3, 3, 1, 6, _SE),
            Stage(_INVERTED, 88, 3, 5, 2, 6, _SE),
            Stage(_INVERTED, 144, 1, 3, 1, 6),
        ),
    )
    repeats = (1, 3, 3, 3, 2, 4, 1)
    widths: dict[str, _Member] = {
        "050": (16, (8, 16, 24, 40, 48, 96, 160), repeats, 1280, 224, 0.2),
        "075": (24, (16, 24, 32, 64, 72, 144, 240), repeats, 1280, 224, 0.2),
        "100": (32, (16, 24, 40, 80, 96, 192, 320), repeats, 1280, 224, 0.2),
        "130": (40, (24, 32, 56, 104, 128, 248, 416), repeats, 1280, 224, 0.2),
    }
    return {"mnasnet_a1": a1} | _family("mnasnet_b1_", b1, widths) | {"mnasnet_small": small}


def _mobilenet_v1() -> Architecture:
    """MobileNetV1 (Howard et al. 2017, table 1): activation after both convolutions, no skip."""
    # channels, repeats, stride
    rows = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
    return Architecture(
        stem=Stem(32),
        stages=tuple(
            Stage(_SEPARABLE, width, repeats, 3, stride, skip=Skip.NONE, linear=False)
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
            Stage(_INVERTED, 16, 1, 3, 1, 1),
            Stage(_INVERTED, 24, 2, 3, 2, 6),
            Stage(_INVERTED, 32, 3, 3, 2, 6),
            Stage(_INVERTED, 64, 4, 3, 2, 6),
            Stage(_INVERTED, 96, 3, 3, 1, 6),
            Stage(_INVERTED, 160, 3, 3, 2, 6),
            Stage(_INVERTED, 320, 1, 3, 1, 6),
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
            Stage(_INVERTED, 16, 1, 3, 1, 1, activation=relu),
            Stage(_INVERTED, 24, 1, 3, 2, 4, activation=relu),
            Stage(_INVERTED, 24, 1, 3, 1, 3, activation=relu),
            Stage(_INVERTED, 40, 3, 5, 2, 3, se, activation=relu),
            Stage(_INVERTED, 80, 1, 3, 2, 6),
            Stage(_INVERTED, 80, 1, 3, 1, 2.5),
            Stage(_INVERTED, 80, 2, 3, 1, 2.3),
            Stage(_INVERTED, 112, 2, 3, 1, 6, se),
            Stage(_INVERTED, 160, 3, 5, 2, 6, se),
        ),
        head=Head(960, hidden=1280),
        numerics=Numerics(Activation.HARD_SWISH),
        dropout=0.2,
    )
    small = replace(
        large,
        stages=(
            Stage(_INVERTED, 16, 1, 3, 2, 1, se, activation=relu),
            Stage(_INVERTED, 24, 1, 3, 2, 72 / 16, activation=relu),
            Stage(_INVERTED, 24, 1, 3, 1, 88 / 24, activation=relu),
            Stage(_INVERTED, 40, 1, 5, 2, 4, se),
            Stage(_INVERTED, 40, 2, 5, 1, 6, se),
            Stage(_INVERTED, 48, 2, 5, 1, 3, se),
            Stage(_INVERTED, 96, 3, 5, 2, 6, se),
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

    def network(
        resolution: int, first: list[Stage], rows: tuple[tuple[int, ...], ...]
    ) -> Architecture:
        universal = [
            Stage(_UNIVERSAL, channels, repeats, kernel, stride, expansion, start_kernel=start)
            for channels, repeats, start, kernel, stride, expansion in rows
        ]
        head = Head(960, hidden=1280, hidden_norm=True)
        return Architecture(Stem(32), (*first, *universal), head, resolution, numerics=_TORCH_RELU)

    # channels, kernel, stride
    plain = ((32, 3, 2), (32, 1, 1), (96, 3, 2), (64, 1, 1))
    convs = [Stage(_CONV, c, 1, kernel, stride, skip=Skip.NONE) for c, kernel, stride in plain]
    return {
        "mobilenet_v4_conv_small": network(224, convs, small),
        "mobilenet_v4_conv_medium": network(256, [Stage(_FUSED, 48, 1, 3, 2, 4)], medium),
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
