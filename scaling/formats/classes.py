"""The classes of a standalone `model.py`: only what a network needs, each with as few choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from scaling.formats.layout import WIDTH, call, indented
from scaling.formats.needs import EXPANDING, Kind, Needs, Parameter, Row, needs
from space.architecture import Architecture, Operator, Skip

_NAMES = {
    Operator.CONV: "Conv",
    Operator.SEPARABLE: "Separable",
    Operator.INVERTED: "Inverted",
    Operator.FUSED: "Fused",
    Operator.BASIC: "Basic",
    Operator.BOTTLENECK: "Bottleneck",
}


def classes(network: Architecture) -> list[str]:
    """The source of all that the network's `Model` is made of, and of that."""
    found = needs(network)
    adds_first = any(kind.operator in _ADDS_FIRST for kind in found.kinds)
    shared = bool(found.joining.skips) and (adds_first or len(found.kinds) > 1)
    return [
        *([_PAD_SAME] if found.same_padding else []),
        _conv_norm(network, found),
        *([_ROUNDED] if (found.squeezed or "").startswith("rounded") else []),
        *([_squeeze_excite(found)] if found.squeeze_activations else []),
        *([_POOL_SHORTCUT] if Skip.POOL in found.joining.skips else []),
        *([_residual(found)] if shared else []),
        *(_block(kind, found, shared=shared) for kind in found.kinds),
        _STAGE,
        _model(network, found, "Residual" if shared else _NAMES[found.kinds[0].operator]),
    ]


# ---------------------------------------------------------------------------------------- layers


_PAD_SAME = '''
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
'''


def _conv_norm(network: Architecture, found: Needs) -> str:
    parameters = [
        "inputs: int",
        "outputs: int",
        "kernel: int",
        "stride: int = 1",
        "groups: int = 1",
    ]
    activation, but = f"{found.activation}()", ""
    if found.activations:
        parameters.append(f"activation: type[nn.Module] = {found.activation}")
        activation = "activation()"
    elif found.linear:
        parameters.append("linear: bool = False")
        activation, but = f"nn.Identity() if linear else {activation}", ", unless `linear`"
    padding, pad, first = "kernel // 2", "", ""
    if found.same_padding:
        padding, first = "0 if stride > 1 else kernel // 2", "pad=pad, "
        pad = "    pad = PadSame(kernel, stride) if stride > 1 else nn.Identity()\n"
    numerics = network.numerics
    conv = ["inputs", "outputs", "kernel", "stride", padding, "groups=groups", "bias=False"]
    norm = f"outputs, eps={_float(numerics.bn_eps)}, momentum={_float(numerics.bn_momentum)}"
    return f'''
{call("def conv_norm", parameters, " -> nn.Sequential:")}
    """k×k convolution → batch norm → activation{but}."""
{pad}{call("conv = nn.Conv2d", conv, "", 4)}
    norm = nn.BatchNorm2d({norm})
    activate = {activation}
    return nn.Sequential(OrderedDict({first}conv=conv, norm=norm, activation=activate))
'''


def _float(value: float) -> str:
    """1e-5, and not 1e-05."""
    return repr(value).replace("e-0", "e-")


_ROUNDED = '''
def rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that loses over a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
'''


def _squeeze_excite(found: Needs) -> str:
    parameters, given = ["channels: int", "squeezed: int"], ["activation", "gate"]
    for index, said in enumerate((found.squeeze_activations, found.gates)):
        if len(said) > 1:
            parameters.append(f"{given[index]}: type[nn.Module]")
        else:
            given[index] = said[0]
    return f'''
class SqueezeExcite(nn.Module):
    """Global mean → 1×1 reduce → activation → 1×1 expand → gate, times the input."""

{_init(parameters)}
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = {given[0]}()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = {given[1]}()

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.activation(self.reduce(x.mean((2, 3), keepdim=True)))
        out: Tensor = x * self.gate(self.expand(reduced))
        return out
'''


_POOL_SHORTCUT = '''
class PoolShortcut(nn.Module):
    """The input, average-pooled over stride × stride, its channels padded with zeros or cut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, 0, self.missing)) if self.missing else x
'''


def _init(parameters: Sequence[str]) -> str:
    return call("def __init__", ["self", *parameters], " -> None:", 4)


# ------------------------------------------------------------------------------------- shortcuts


_SHORTCUTS = {
    Skip.POOL: "PoolShortcut(inputs, outputs, stride)",
    Skip.PROJECTION: "conv_norm(inputs, outputs, 1, stride, {linear})",
}


def _residual(found: Needs) -> str:
    """The base of several kinds of blocks."""
    told = found.joining.told
    parameters = ["inputs: int", "outputs: int", "stride: int"]
    parameters += [f"{told.name}: {told.type}"] if told else []
    return f'''
class Residual(nn.Sequential):
    """Layers in a row; {_ADDED[told.name if told else found.joining.always]}."""

{_init(parameters)}
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
_ADDS_FIRST = (Operator.BASIC, Operator.BOTTLENECK)


def _block(kind: Kind, found: Needs, *, shared: bool) -> str:
    """A class of blocks: with the shortcut in itself, or in the base that it has."""
    told = found.joining.told
    parameters = ["inputs: int", "outputs: int", "stride: int = 1"]
    parameters += [f"{name}: {type_} = {default}" for name, type_, default in kind.parameters]
    if shared:
        given = ["inputs", "outputs", "stride", *([kind.said(told.name)] if told else [])]
        lines = [f"super().__init__({', '.join(given)})", *_layers(kind, found)]
        forward = list(_activated(kind)) if kind.operator in _ADDS_FIRST else []
        if forward and kind.said("activation") == "activation":
            lines.append("self.last = activation")
    elif found.joining.skips:
        lines = ["super().__init__()", *_layers(kind, found), *_shortcut(found)]
        forward = list(_joined(found))
    else:
        lines, forward = ["super().__init__()", *_layers(kind, found)], []
        if kind.operator in _ADDS_FIRST:
            lines.append(f"self.activation = {kind.said('activation')}()")
    added = ""
    if found.joining.skips and not shared:
        fits = found.joining.skips == {Skip.IDENTITY}
        added = ", plus the input if it fits" if fits else ", plus its shortcut"
    squeeze = " → squeeze-and-excite" if kind.squeezes is not False else ""
    body = f"""
    def forward(self, x: Tensor) -> Tensor:
{indented(forward, 8)}
"""
    return f'''
class {_NAMES[kind.operator]}({"Residual" if shared else "nn.Sequential"}):
    """{_DOCSTRINGS[kind.operator].format(squeeze=squeeze)}{added}."""

{_init(parameters)}
{indented(lines, 8)}
{body if forward else ""}'''


def _activated(kind: Kind) -> Iterator[str]:
    """The body of `forward` where the activation follows the addition"""
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


# ----------------------------------------------------------------------------------------- model


_STAGE = '''
def stage(
    block: Callable[..., nn.Module], repeats: int, inputs: int, outputs: int, **choices: Any
) -> nn.Sequential:
    """Blocks of one kind, of which the first alone has the stride."""
    first = block(inputs, outputs, **choices)
    rest = (block(outputs, outputs, **choices | {"stride": 1}) for _ in range(repeats - 1))
    return nn.Sequential(first, *rest)
'''


def _model(network: Architecture, found: Needs, block: str) -> str:
    stem, head, last = network.stem, network.head, network.stages[-1].channels
    stride = [f"stride={stem.stride}"] if stem.stride > 1 else []
    arguments = [str(network.in_channels), str(stem.channels), str(stem.kernel), *stride]
    lines = [f"self.stem = conv_norm({', '.join(arguments)})"]
    if stem.pool and found.same_padding:
        pad = 'PadSame(3, 2, float("-inf"))'
        lines.append(f"self.pool = nn.Sequential({pad}, nn.MaxPool2d(3, 2))")
    elif stem.pool:
        lines.append("self.pool = nn.MaxPool2d(3, 2, 1)")
    rows = "\n".join(_rows(rows) for rows in found.rows)
    lines.append(f"self.stages = nn.Sequential(\n{rows}\n        )")
    if head.channels:
        lines.append(f"self.head = conv_norm({last}, {head.channels}, 1)")
    lines += ["self.mean = nn.AdaptiveAvgPool2d(1)", "self.flatten = nn.Flatten()"]
    features = head.channels or last
    if head.hidden:
        linear = f"linear = nn.Linear({features}, {head.hidden})"
        hidden = f"OrderedDict(linear=linear, activation={found.activation}())"
        lines += [linear, f"self.hidden = nn.Sequential({hidden})"]
        features = head.hidden
    if network.dropout:
        lines.append(f"self.dropout = nn.Dropout({network.dropout})")
    lines.append(f"self.classifier = nn.Linear({features}, {network.num_classes})")
    if found.stochastic_depth:
        lines += [
            f"blocks = [each for each in self.modules() if isinstance(each, {block})]",
            "for index, each in enumerate(blocks):",
            f"    each.drop_rate = {network.stochastic_depth} * index / len(blocks)",
        ]
    shape = f"N × {network.in_channels} × {network.resolution} × {network.resolution}"
    return f'''
class Model(nn.Sequential):
    """{shape}, as `preprocess` gives it, to N × {network.num_classes} logits."""

    def __init__(self) -> None:
        super().__init__()
{indented(lines, 8)}
'''


def _rows(rows: Sequence[Row]) -> str:
    """A stage: a call, or several one after the other."""
    made = [list(_arguments(row)) for row in rows]
    if len(made) == 1:
        return call("stage", made[0], ",", 12)
    line = call("nn.Sequential", [f"*stage({', '.join(row)})" for row in made], ",", 12)
    if max(map(len, line.splitlines())) <= WIDTH:
        return line
    inside = "\n".join(call("*stage", row, ",", 16) for row in made)
    return f"            nn.Sequential(\n{inside}\n            ),"


def _arguments(row: Row) -> Iterator[str]:
    yield from (_NAMES[row.operator], str(row.repeats), str(row.inputs), str(row.outputs))
    if row.stride > 1:
        yield f"stride={row.stride}"
    yield from row.choices
