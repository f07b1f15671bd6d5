"""The classes of blocks in a standalone `model.py`, and what they have of their shortcuts.

A block is the row of its layers; the shortcut is in the class where it is the only one, else in
`Residual`, which all of them extend.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from scaling.formats.layout import call, indented, init
from scaling.formats.needs import EXPANDING, Kind, Needs, Parameter
from space.architecture import Operator, Skip

#: What their classes are called.
NAMES = {
    Operator.CONV: "Conv",
    Operator.SEPARABLE: "Separable",
    Operator.INVERTED: "Inverted",
    Operator.FUSED: "Fused",
    Operator.BASIC: "Basic",
    Operator.BOTTLENECK: "Bottleneck",
}


# ------------------------------------------------------------------------------------- shortcuts


_SHORTCUTS = {
    Skip.POOL: "PoolShortcut(inputs, outputs, stride)",
    Skip.PROJECTION: "conv_norm(inputs, outputs, 1, stride, {linear})",
}


def residual(found: Needs) -> str:
    """The base of several kinds of blocks."""
    told = found.joining.told
    parameters = ["inputs: int", "outputs: int", "stride: int"]
    parameters += [f"{told.name}: {told.type}"] if told else []
    return f'''
class Residual(nn.Sequential):
    """Layers in a row; {_ADDED[told.name if told else found.joining.always]}."""

{init(parameters)}
        super().__init__()
{indented(_shortcut(found), 8)}

    def forward(self, x: Tensor) -> Tensor:
{indented(_joined(found), 8)}
'''


_ADDED = {
    False: "the input is added where it has the shape of the output",
    True: "the input is added, reshaped where the output has another shape",
    "adds": "the input is added where it is to be and has the shape of the output",
    "skip": "the input is added as `skip` says: itself where it fits, or reshaped",
}


def _shortcut(found: Needs) -> Iterator[str]:
    """What a block does to know its shortcut."""
    joining = found.joining
    linear = "activation=nn.Identity" if found.activations else "linear=True"
    reshaping = {
        skip: made.format(linear=linear)
        for skip, made in _SHORTCUTS.items()
        if skip in joining.skips
    }
    if not reshaping:
        before = "adds and " if joining.told else ""
        yield f"self.adds = {before}stride == 1 and inputs == outputs"
    elif joining.always:
        (made,) = reshaping.values()
        yield "self.shortcut: nn.Module = nn.Identity()"
        yield "if stride > 1 or inputs != outputs:"
        yield f"    self.shortcut = {made}"
    else:
        yield "self.shortcut: nn.Module | None = None"
        yield 'if skip != "none" and stride == 1 and inputs == outputs:'
        yield "    self.shortcut = nn.Identity()"
        for skip, made in reshaping.items():
            yield f'elif skip == "{skip.value}":'
            yield f"    self.shortcut = {made}"
    if found.stochastic_depth:
        yield "self.drop_rate = 0.0  # of stochastic depth; the model sets it"


def _joined(found: Needs) -> Iterator[str]:
    """The body of a block's `forward`, where there are shortcuts."""
    drops = "out = out * F.dropout(out.new_ones(len(out), 1, 1, 1), self.drop_rate)"
    why = "  # stochastic depth (Huang et al. 2016)"
    yield "out = x"
    yield "for layer in self:"
    if found.joining.skips == {Skip.IDENTITY}:
        yield "    out = layer(out)"
        if found.stochastic_depth:
            yield f"if self.adds and self.training:{why}"
            yield f"    {drops}"
        yield "return out + x if self.adds else out"
        return
    yield "    if layer is not self.shortcut:"
    yield "        out = layer(out)"
    if not found.joining.always:
        yield "if self.shortcut is None:"
        yield "    return out"
    if found.stochastic_depth:
        yield f"if self.training:{why}"
        yield f"    {drops}"
    yield "added: Tensor = self.shortcut(x)"
    yield "return out + added"


# ---------------------------------------------------------------------------------------- blocks


_DOCSTRINGS = {
    Operator.CONV: "k×k convolution; the shortcut is added after its activation",
    Operator.SEPARABLE: "k×k depthwise{squeeze} → 1×1 project",
    Operator.INVERTED: "1×1 expand → k×k depthwise{squeeze} → 1×1 project",
    Operator.FUSED: "k×k expand{squeeze} → 1×1 project",
    Operator.BASIC: "k×k convolution → k×k convolution; the activation follows the addition",
    Operator.BOTTLENECK: "1×1 reduce → k×k → 1×1 expand; the activation follows the addition",
}

#: The layers of each kind of block: their names, and what `conv_norm` is given.
_LAYERS = {
    Operator.CONV: (("conv", "inputs, outputs, {kernel}, stride"),),
    Operator.SEPARABLE: (
        ("depthwise", "inputs, inputs, {kernel}, stride, groups=inputs"),
        ("project", "inputs, outputs, 1"),
    ),
    Operator.INVERTED: (
        ("expand", "inputs, inner, 1"),
        ("depthwise", "inner, inner, {kernel}, stride, groups=inner"),
        ("project", "inner, outputs, 1"),
    ),
    Operator.FUSED: (
        ("expand", "inputs, inner, {kernel}, stride"),
        ("project", "inner, outputs, 1"),
    ),
    Operator.BASIC: (
        ("first", "inputs, outputs, {kernel}, stride"),
        ("second", "outputs, outputs, {kernel}"),
    ),
    Operator.BOTTLENECK: (
        ("reduce", "inputs, inner, 1"),
        ("conv", "inner, inner, {kernel}, stride"),
        ("expand", "inner, outputs, 1"),
    ),
}
#: Those whose activation follows the addition of the shortcut.
ADDS_FIRST = (Operator.BASIC, Operator.BOTTLENECK)


def block(kind: Kind, found: Needs, *, shared: bool) -> str:
    """A class of blocks: with the shortcut in itself, or in the base that it has."""
    joining, operator = found.joining, kind.operator
    parameters = ["inputs: int", "outputs: int", "stride: int = 1"]
    parameters += [f"{name}: {type_} = {default}" for name, type_, default in kind.parameters]
    base, lines = "nn.Sequential", ["super().__init__()", *_layers(kind, found)]
    forward: list[str] = []
    does = _DOCSTRINGS[operator].format(squeeze=_SQUEEZE if kind.squeezes is not False else "")
    if shared:
        given = ["inputs", "outputs", "stride"]
        given += [kind.said(joining.told.name)] if joining.told else []
        base, lines[0] = "Residual", f"super().__init__({', '.join(given)})"
        if operator in ADDS_FIRST:
            lines += _last(kind)
            forward = list(_activated(kind))
    elif joining.skips:
        lines += _shortcut(found)
        forward = list(_joined(found))
        fits = joining.skips == {Skip.IDENTITY}
        does += ", plus the input if it fits" if fits else ", plus its shortcut"
    elif operator in ADDS_FIRST:
        lines.append(f"self.activation = {kind.said('activation')}()")
    body = f"""
    def forward(self, x: Tensor) -> Tensor:
{indented(forward, 8)}
"""
    return f'''
class {NAMES[operator]}({base}):
    """{does}."""

{init(parameters)}
{indented(lines, 8)}
{body if forward else ""}'''


_SQUEEZE = " → squeeze-and-excite"


def _last(kind: Kind) -> Iterator[str]:
    """Keeps an activation that differs between blocks; what is no module is no layer."""
    if kind.said("activation") not in _FUNCTIONS:
        yield "self.last = activation"


def _activated(kind: Kind) -> Iterator[str]:
    """The body of `forward` where the activation follows the addition."""
    activation = kind.said("activation")
    if activation in _FUNCTIONS:
        yield f"return {_FUNCTIONS[activation]}(super().forward(x))"
    else:
        yield "out: Tensor = self.last()(super().forward(x))"
        yield "return out"


_FUNCTIONS = {
    "nn.ReLU": "F.relu",
    "nn.ReLU6": "F.relu6",
    "nn.SiLU": "F.silu",
    "nn.Hardswish": "F.hardswish",
}


def _layers(kind: Kind, found: Needs) -> Iterator[str]:
    """The lines that make a block's layers."""
    operator = kind.operator
    if operator in EXPANDING:
        yield f"inner = {_inner(kind)}"
    layers = _LAYERS[operator]
    for name, template in layers:
        if name == "project" and kind.squeezes is not False:
            yield from _squeeze(kind, found)
        arguments = template.format(kernel=kind.said("kernel")).split(", ")
        last = operator is not Operator.CONV and name == layers[-1][0]
        arguments += _activation(kind, found, kind.said("linear") if last else "False")
        line = f"self.{name} = conv_norm"
        if name == "expand" and kind.expands_at_times:
            yield "if inner != inputs:"
            yield call(f"    {line}", arguments, "", 8).removeprefix(" " * 8)
        else:
            yield call(line, arguments, "", 8).removeprefix(" " * 8)


def _inner(kind: Kind) -> str:
    """How the inner channels are reckoned."""
    base = "outputs" if kind.operator is Operator.BOTTLENECK else "inputs"
    expansion = kind.said("expansion")
    if expansion == "expansion":
        whole = Parameter("expansion", "int", "1") in kind.parameters
        return f"{base} * expansion" if whole else f"round({base} * expansion)"
    ratio = Fraction(expansion.replace(" ", ""))
    if ratio.numerator == 1:
        return f"{base} // {ratio.denominator}" if ratio < 1 else base
    return f"{base} * {expansion}" if ratio.denominator == 1 else f"round({base} * {expansion})"


def _squeeze(kind: Kind, found: Needs) -> Iterator[str]:
    channels = "inputs" if kind.operator is Operator.SEPARABLE else "inner"
    squeezed = found.squeezed or kind.said("squeeze")
    if channels == "inputs":
        squeezed = squeezed.replace("inner", "inputs")
    arguments = [channels, squeezed]
    arguments += [kind.said("squeeze_activation")] if len(found.squeeze_activations) > 1 else []
    arguments += [kind.said("gate")] if len(found.gates) > 1 else []
    line = f"self.squeeze = SqueezeExcite({', '.join(arguments)})"
    if kind.squeezes:
        yield line
    else:
        yield "if squeeze:"
        yield f"    {line}"


def _activation(kind: Kind, found: Needs, linear: str) -> Iterator[str]:
    """What `conv_norm` is given beside its shape; `linear` is True, False, or a parameter."""
    if not found.activations:
        if linear != "False":
            yield f"linear={linear}"
        return
    activation = kind.said("activation")
    chosen = {"True": "nn.Identity", "False": activation}
    said = chosen.get(linear, f"nn.Identity if linear else {activation}")
    if said != found.activation:
        yield f"activation={said}"
