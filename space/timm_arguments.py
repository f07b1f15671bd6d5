"""Architectures as timm's arguments: block strings, and what timm's classes take beside them.

`to_timm` gives plain JSON data, with which timm builds the same network (`scaling.formats.timm`);
`from_timm` reads such data back, or timm's published tables of block strings.

A block string such as `ir_r2_k3_s2_e6_c24_se0.25` says operator, repeats, kernel, stride,
expansion, channels and squeeze-and-excite ratio; then, where it is not the network's, the
activation (`nre`), and `skip` or `noskip`. Source: timm's `_efficientnet_builder.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from space.architecture import (
    Activation,
    Architecture,
    Block,
    Gate,
    Head,
    Numerics,
    Operator,
    Padding,
    Skip,
    SqueezeBase,
    SqueezeExcite,
    Stage,
    Stem,
    round_channels,
)
from space.validation import InvalidInput, strict_keys, validate

_ACTIVATION_CODES = {
    Activation.RELU: "re",
    Activation.RELU6: "r6",
    Activation.HARD_SWISH: "hs",
    Activation.SILU: "sw",
}


@strict_keys
@dataclass(frozen=True, slots=True)
class TimmArguments:
    """What timm needs to build a network; names are timm's where it has one.

    `model` is the class in timm: EfficientNet, or MobileNetV3 where there is a hidden layer.
    `se_divisor` 1 rounds squeezed channels to the nearest integer, 8 as channels are rounded;
    `se_from_exp` lets the ratio in a block string be of the expanded channels. timm's stem always
    has stride 2; a `stem_stride` of 1 is set once it is built.
    """

    model: Literal["EfficientNet", "MobileNetV3"]
    arch_def: tuple[tuple[str, ...], ...]
    stem_size: int
    num_features: int
    input_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000
    act_layer: Activation = Activation.RELU
    pad_type: Literal["", "same"] = ""
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    se_gate: Gate = Gate.SIGMOID
    se_act_layer: Activation | None = None
    se_divisor: Literal[1, 8] = 1
    se_from_exp: bool = False
    stem_stride: Literal[1, 2] = 2
    head_norm: bool = False

    def __post_init__(self) -> None:
        if (self.se_from_exp or self.head_norm) and self.model == "EfficientNet":
            raise ValueError("se_from_exp and head_norm are MobileNetV3's alone")


def to_timm(architecture: Architecture) -> dict[str, Any]:
    """Plain JSON data with which timm builds the same network.

    Stage i, block j are timm's `blocks.i.j`, so that weights move by `space.convert.timm_layout`.
    Raises `InvalidInput` for what timm cannot build.
    """
    head, numerics = architecture.head, architecture.numerics
    _check_frame(architecture)
    blocks = architecture.blocks()
    squeeze = _squeeze(architecture)
    arch_def = [
        tuple(_block_strings(f"stage {number}", stage, stage_blocks, numerics.activation, squeeze))
        for number, (stage, stage_blocks) in enumerate(
            zip(architecture.stages, blocks, strict=True), start=1
        )
    ]
    total = sum(len(stage) for stage in blocks)
    drop_path = architecture.stochastic_depth
    if head.hidden and head.channels:
        # A block to timm, and so counted when stochastic depth is spread over the blocks.
        arch_def.append((f"cn_r1_k1_s1_c{head.channels}",))
        drop_path *= (total + 1) / total
    arguments = TimmArguments(
        model="MobileNetV3" if head.hidden else "EfficientNet",
        arch_def=tuple(arch_def),
        stem_size=architecture.stem.channels,
        num_features=head.hidden or head.channels,
        input_size=architecture.resolution,
        in_chans=architecture.in_channels,
        num_classes=architecture.num_classes,
        act_layer=numerics.activation,
        pad_type="same" if numerics.padding is Padding.SAME else "",
        bn_eps=numerics.bn_eps,
        bn_momentum=numerics.bn_momentum,
        drop_rate=architecture.dropout,
        drop_path_rate=drop_path,
        se_gate=squeeze.gate,
        se_act_layer=squeeze.activation,
        se_divisor=8 if squeeze.divisor == 8 else 1,
        se_from_exp=squeeze.base is SqueezeBase.EXPANDED,
        stem_stride=1 if architecture.stem.stride == 1 else 2,
        head_norm=head.hidden > 0 and head.hidden_norm,
    )
    data: dict[str, Any] = json.loads(json.dumps(asdict(arguments)))
    return data


def _refuse(where: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{where}: timm cannot express this architecture: {reason}")


def _check_frame(architecture: Architecture) -> None:
    stem = architecture.stem
    if stem.kernel != 3 or stem.stride > 2 or stem.pool:
        raise _refuse("stem", "its stem is a 3×3 convolution of stride 1 or 2, without pooling")
    if any(stage.stride > 2 for stage in architecture.stages):
        raise _refuse("stages", "its strides are 1 and 2")
    stride = architecture.strides[-1] * 2 // stem.stride
    if stride > 32:
        reason = f"its strides, with 2 for the stem, multiply to 32 at most, but here to {stride}"
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
        raise _refuse("stages", "its squeeze-and-excites have one gate and one activation for all")
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
        raise _refuse(where, f"its block strings have no operator {block.operator}")
    if block.shortcut not in (Skip.NONE, Skip.IDENTITY):
        raise _refuse(where, f"its shortcuts are the identity or none, but here {block.shortcut}")
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
        raise _refuse(where, "an activation after the projection has no shortcut, nor expansion")
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


def from_timm(data: Mapping[str, Any]) -> Architecture:
    """The architecture of a network that timm builds from `data` (fields of `TimmArguments`).

    Raises `InvalidInput`, naming the block string, for what phiscale has no operator for.
    """
    given = validate(TimmArguments, dict(data), source="timm arguments")
    strings = [string for group in given.arch_def for string in group]
    head = Head(given.num_features)
    drop_path = given.drop_path_rate
    if given.model == "MobileNetV3":
        match = re.fullmatch(r"cn_r1_k1_s1_c(\d+)", strings[-1])
        head = Head(int(match[1]) if match else 0, given.num_features, given.head_norm)
        strings = strings[:-1] if match else strings
    stages, channels = [], given.stem_size
    for string in strings:
        stages.append(_stage(string, channels, given))
        channels = stages[-1].channels
    total = sum(stage.repeats for stage in stages)
    if head.hidden and head.channels:
        drop_path *= total / (total + 1)
    return Architecture(
        stem=Stem(given.stem_size, stride=given.stem_stride),
        stages=tuple(stages),
        head=head,
        resolution=given.input_size,
        num_classes=given.num_classes,
        in_channels=given.in_chans,
        numerics=Numerics(
            given.act_layer,
            given.bn_eps,
            given.bn_momentum,
            Padding.SAME if given.pad_type == "same" else Padding.SYMMETRIC,
        ),
        dropout=given.drop_rate,
        stochastic_depth=drop_path,
    )


_OPERATORS = {operator.form.timm: operator for operator in Operator if operator.form.timm}
_OPERATORS["dsa"] = Operator.SEPARABLE
_STRING = re.compile(
    rf"(?P<operator>{'|'.join(_OPERATORS)})_r(?P<repeats>\d+)(_a(?P<start_kernel>\d+))?"
    r"_k(?P<kernel>\d+)_s(?P<stride>\d)"
    r"(_e(?P<expansion>[\d.]+))?_c(?P<channels>\d+)(_se(?P<se>[\d.]+))?"
    r"(_n(?P<activation>re|r6|hs|sw))?(_(?P<skip>skip|noskip))?"
)
_ACTIVATIONS = {code: activation for activation, code in _ACTIVATION_CODES.items()}


def _stage(string: str, in_channels: int, given: TimmArguments) -> Stage:
    match = _STRING.fullmatch(string)
    if match is None:
        raise InvalidInput(
            f"timm arguments: {string}: a block string is written "
            "ir_r2_k3_s2_e6_c24_se0.25_nre_noskip, beginning with "
            f"one of {', '.join(_OPERATORS)}"
        )
    code, operator = match["operator"], _OPERATORS[match["operator"]]
    expansion = float(match["expansion"] or 1) if operator.expands else 1.0
    if operator.form.unexpanded and expansion == 1:
        raise InvalidInput(
            f"timm arguments: {string}: timm builds an expand convolution at expansion 1, and "
            "phiscale does not; write ds or cn where none is meant"
        )
    identity = match["skip"] == "skip" if code == "cn" else match["skip"] != "noskip"
    stage = Stage(
        operator,
        channels=int(match["channels"]),
        repeats=int(match["repeats"]),
        kernel=int(match["kernel"]),
        stride=int(match["stride"]),
        expansion=expansion,
        skip=Skip.IDENTITY if identity and code != "dsa" else Skip.NONE,
        activation=_ACTIVATIONS.get(match["activation"] or ""),
        linear=code != "dsa",
        start_kernel=int(match["start_kernel"] or 0),
    )
    ratio = float(match["se"] or 0)
    return _with_squeeze(string, stage, ratio, in_channels, given) if ratio else stage


def _with_squeeze(
    string: str, stage: Stage, ratio: float, in_channels: int, given: TimmArguments
) -> Stage:
    """The stage with a ratio that squeezes to the channels that timm rounds to."""
    base = SqueezeBase.EXPANDED if given.se_from_exp else SqueezeBase.INPUT
    said = SqueezeExcite(0.25, base, given.se_divisor, given.se_gate, given.se_act_layer)
    widths = [in_channels, stage.channels][: stage.repeats]
    inner = [stage.inner_channels(width) for width in widths]
    wanted = [_timm_squeezed(channels, stage.expansion, ratio, said) for channels in inner]
    # timm rounds to the nearest integer, and we down: half a channel more bridges that. A ratio
    # above 1, of the input, is one of the expanded channels.
    of_expanded = [(count + 0.5) / channels for count, channels in zip(wanted, inner, strict=True)]
    for base, tried in [
        (said.base, ratio),
        *((said.base, ratio + 0.5 / width) for width in widths),
        (SqueezeBase.EXPANDED, wanted[0] / inner[0]),
        *((SqueezeBase.EXPANDED, tried) for tried in of_expanded),
    ]:
        se = replace(said, base=base, ratio=min(1.0, tried))
        if [se.squeezed(*pair) for pair in zip(widths, inner, strict=True)] == wanted:
            return replace(stage, se=se)
    raise InvalidInput(
        f"timm arguments: {string}: no single ratio gives the squeezed channels {wanted}; "
        "write a block string for each block"
    )
