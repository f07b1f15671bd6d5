"""Compound scaling: a network made deeper, wider and finer by three factors."""

from __future__ import annotations

import math
from dataclasses import replace

from space.architecture import Architecture, Head, HeadScaling, ScalingRule, round_channels


def scale(
    architecture: Architecture,
    *,
    depth: float = 1.0,
    width: float = 1.0,
    resolution: float = 1.0,
    multiple: int = 1,
) -> Architecture:
    """A new architecture, `depth` times as deep, `width` as wide, `resolution` as fine.

    The input is never changed; factors of 1 give an equal one. Repeats are ⌈depth · repeats⌉,
    channels are rounded by `architecture.scaling` (which also says whether width touches stem and
    head, and depth the first and last stage), resolution to the nearest `multiple` pixels, halves
    upwards. Dropout and stochastic depth stay as they are. Source: EfficientNet, section 3.3, and
    its official code (`round_filters`, `round_repeats`).

    Raises ValueError for a factor that is not positive, or a result out of bounds.

    >>> from scaling.compound import scale
    >>> from space import presets
    >>> b0 = presets.load("efficientnet_b0")
    >>> larger = scale(b0, depth=1.2, width=1.1, resolution=1.15)
    >>> larger.resolution, larger.stages[1].repeats, larger.head.channels
    (258, 3, 1408)
    """
    for name, factor in (("depth", depth), ("width", width), ("resolution", resolution)):
        if not 0 < factor < math.inf:
            raise ValueError(f"`{name} > 0` must hold, but got {name}={factor}")
    if multiple < 1:
        raise ValueError(f"`multiple >= 1` must hold, but got multiple={multiple}")
    rule, stem, last = architecture.scaling, architecture.stem, len(architecture.stages) - 1
    if rule.stem:
        stem = replace(stem, channels=_wider(stem.channels, width, rule))
    return replace(
        architecture,
        stem=stem,
        stages=tuple(
            replace(
                stage,
                channels=_wider(stage.channels, width, rule),
                repeats=_ceil((depth if rule.ends or 0 < place < last else 1.0) * stage.repeats),
            )
            for place, stage in enumerate(architecture.stages)
        ),
        head=_scale_head(architecture.head, width, rule),
        resolution=_finer(architecture.resolution, resolution, multiple),
    )


def _scale_head(head: Head, width: float, rule: ScalingRule) -> Head:
    if rule.head is HeadScaling.FIXED or (rule.head is HeadScaling.GROW and width <= 1):
        return head
    return replace(
        head,
        channels=_wider(head.channels, width, rule) if head.channels else 0,
        hidden=_wider(head.hidden, width, rule) if head.hidden else 0,
    )


def _wider(channels: int, width: float, rule: ScalingRule) -> int:
    """Channels scaled and rounded; unchanged at width 1, even if they are not a multiple."""
    if width == 1:
        return channels
    return round_channels(channels * width, rule.divisor, rule.round_limit)


def _ceil(repeats: float) -> int:
    """⌈repeats⌉ without the error of binary fractions: √2 · √2 is 2.0000000000000004."""
    return math.ceil(round(repeats, 9))


def _finer(pixels: int, factor: float, multiple: int) -> int:
    if factor == 1 and multiple == 1:
        return pixels
    return max(multiple, math.floor(round(pixels * factor / multiple, 9) + 0.5) * multiple)
