"""Architectures as timm's arguments: block strings, and what timm's classes take beside them.

A block string such as `ir_r2_k3_s2_e6_c24_se0.25` says operator, repeats, kernel, stride,
expansion, channels and squeeze-and-excite ratio; then, where it is not the network's, the
activation (`nre`), and `skip` or `noskip`. Source: timm's `_efficientnet_builder.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from space.architecture import (
    Activation,
    Architecture,
    Block,
    Gate,
    Operator,
    Padding,
    Skip,
    SqueezeBase,
    SqueezeExcite,
    Stage,
    round_channels,
)
from space.validation import InvalidInput

_ACTIVATION_CODES = {
    Activation.RELU: "re",
    Activation.RELU6: "r6",
    Activation.HARD_SWISH: "hs",
    Activation.SILU: "sw",
}


def to_timm(architecture: Architecture) -> dict[str, Any]:
    """Plain JSON data with which timm builds the same network; names are timm's where it has one.

    Stage i, block j are timm's `blocks.i.j`, so that weights move by `space.convert.timm_layout`.
    `model` is the class in timm: EfficientNet, or MobileNetV3 where there is a hidden layer.
    `se_divisor` 1 rounds squeezed channels to the nearest integer, 8 as channels are rounded;
    `se_from_exp` lets the ratio in a block string be of the expanded channels. timm's stem always
    has stride 2; a `stem_stride` of 1 is set once it is built.

    Raises `InvalidInput` for what timm cannot build.
    """
    head, numerics = architecture.head, architecture.numerics
    _check_frame(architecture)
    blocks = architecture.blocks()
    squeeze = _squeeze(architecture)
    arch_def = [
        list(_block_strings(f"stage {number}", stage, stage_blocks, numerics.activation, squeeze))
        for number, (stage, stage_blocks) in enumerate(
            zip(architecture.stages, blocks, strict=True), start=1
        )
    ]
    total = sum(len(stage) for stage in blocks)
    drop_path = architecture.stochastic_depth
    if head.hidden and head.channels:
        # A block to timm, and so counted when stochastic depth is spread over the blocks.
        arch_def.append([f"cn_r1_k1_s1_c{head.channels}"])
        drop_path *= (total + 1) / total
    return {
        "model": "MobileNetV3" if head.hidden else "EfficientNet",
        "arch_def": arch_def,
        "stem_size": architecture.stem.channels,
        "num_features": head.hidden or head.channels,
        "input_size": architecture.resolution,
        "in_chans": architecture.in_channels,
        "num_classes": architecture.num_classes,
        "act_layer": numerics.activation.value,
        "pad_type": "same" if numerics.padding is Padding.SAME else "",
        "bn_eps": numerics.bn_eps,
        "bn_momentum": numerics.bn_momentum,
        "drop_rate": architecture.dropout,
        "drop_path_rate": drop_path,
        "se_gate": squeeze.gate.value,
        "se_act_layer": squeeze.activation and squeeze.activation.value,
        "se_divisor": squeeze.divisor,
        "se_from_exp": squeeze.base is SqueezeBase.EXPANDED,
        "stem_stride": architecture.stem.stride,
        "head_norm": head.hidden > 0 and head.hidden_norm,
    }


def _refuse(where: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{where}: timm cannot express this architecture: {reason}")


def _check_frame(architecture: Architecture) -> None:
    stem = architecture.stem
    if stem.kernel != 3 or stem.stride > 2 or stem.pool:
        raise _refuse("stem", "timm's stem is a 3×3 convolution of stride 1 or 2, without pooling")
    if any(stage.stride > 2 for stage in architecture.stages):
        raise _refuse("stages", "timm's strides are 1 and 2")
    stride = architecture.strides[-1] * 2 // stem.stride
    if stride > 32:
        reason = f"timm's strides multiply to 32 at most, with 2 for the stem, but here to {stride}"
        raise _refuse("stages", reason)


def _squeeze(architecture: Architecture) -> SqueezeExcite:
    """What timm says once for all squeeze-and-excites; its ratio says nothing.

    `activation` is None where each has its block's own.
    """
    squeezing = [b for stage in architecture.blocks() for b in stage if b.squeeze_channels]
    patterns = [stage.se for stage in architecture.stages if stage.se]
    gates = {block.gate for block in squeezing if block.gate}
    activations = {block.squeeze_activation for block in squeezing}
    own = all(block.squeeze_activation is block.activation for block in squeezing)
    if len(gates) > 1 or (len(activations) > 1 and not own):
        raise _refuse("stages", "timm has one gate and one activation for all squeeze-and-excites")
    expanded = all(se.base is SqueezeBase.EXPANDED for se in patterns)
    rounded = all(se.divisor == 8 for se in patterns)
    return SqueezeExcite(
        # timm's EfficientNet class knows no other base than the input.
        base=SqueezeBase.EXPANDED if expanded and architecture.head.hidden else SqueezeBase.INPUT,
        divisor=8 if rounded and patterns else 1,
        gate=next(iter(gates), Gate.SIGMOID),
        activation=None if own else next(iter(activations)),
    )


def _block_strings(
    where: str,
    stage: Stage,
    blocks: tuple[Block, ...],
    activation: Activation,
    squeeze: SqueezeExcite,
) -> Iterator[str]:
    """One string for the stage, or two where its first block differs in more than the stride."""
    first, *rest = [_template(where, stage, block, activation, squeeze) for block in blocks]
    if rest and rest[0] != first:
        yield first.format(repeats=1, stride=stage.stride)
        yield rest[0].format(repeats=len(rest), stride=1)
    else:
        yield first.format(repeats=len(blocks), stride=stage.stride)


def _template(
    where: str, stage: Stage, block: Block, activation: Activation, squeeze: SqueezeExcite
) -> str:
    """A block's string, with {repeats} and {stride} to be filled in."""
    code = block.operator.form.timm
    if not code:
        raise _refuse(where, f"timm's block strings have no operator {block.operator}")
    if block.shortcut not in (Skip.NONE, Skip.IDENTITY):
        raise _refuse(where, f"timm's shortcuts are identity or none, not {block.shortcut}")
    skips = stage.skip is not Skip.NONE
    start = [f"a{block.start_kernel}"] if block.operator.optional_kernels else []
    words = [code, "r{repeats}", *start, f"k{block.kernel}", "s{stride}"]
    if block.operator is Operator.CONV:
        skip = ["skip"] if skips else []
    elif block.linear:
        skip = [] if skips else ["noskip"]
    elif block.operator is Operator.SEPARABLE and block.shortcut is Skip.NONE:
        words[0], skip = "dsa", []
    else:
        raise _refuse(
            where, "timm has no shortcut or expansion with an activation after the projection"
        )
    if block.operator.expands:
        words.append(f"e{block.inner_channels / block.in_channels:.6g}")
    words.append(f"c{block.out_channels}")
    if block.squeeze_channels:
        words.append(f"se{_ratio(where, stage, block, squeeze)}")
    if block.activation is not activation:
        words.append(f"n{_ACTIVATION_CODES[block.activation]}")
    return "_".join(words + skip)


def _ratio(where: str, stage: Stage, block: Block, squeeze: SqueezeExcite) -> str:
    """The stage's own ratio where timm makes the same of it, else one that fits the block."""
    base = block.inner_channels if squeeze.base is SqueezeBase.EXPANDED else block.in_channels
    expansion = block.inner_channels / block.in_channels
    own = stage.se.ratio if stage.se and stage.se.base is squeeze.base else 0.0
    for ratio in (f"{own:.6g}", f"{block.squeeze_channels / base:.6g}"):
        found = _timm_squeezed(block.inner_channels, expansion, float(ratio), squeeze)
        if found == block.squeeze_channels:
            return ratio
    raise _refuse(where, f"no ratio squeezes to {block.squeeze_channels} channels as it rounds")


def _timm_squeezed(inner: int, expansion: float, ratio: float, squeeze: SqueezeExcite) -> int:
    """The channels that timm makes of a ratio in a block string."""
    ratio = ratio if squeeze.base is SqueezeBase.EXPANDED else ratio / expansion
    return round(inner * ratio) if squeeze.divisor == 1 else round_channels(inner * ratio)
