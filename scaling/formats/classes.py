"""The classes of a standalone `model.py`: only what a network needs, each with as few choices.

A choice that all blocks share is a constant in the code, and one in which they differ is a
parameter. The layout is ruff's, by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from space.architecture import Activation, Architecture, Block, Gate, Operator, Padding, Skip

WIDTH = 100
_ACTIVATIONS = {
    Activation.RELU: "nn.ReLU",
    Activation.RELU6: "nn.ReLU6",
    Activation.SILU: "nn.SiLU",
    Activation.HARD_SWISH: "nn.Hardswish",
}
_GATES = {Gate.SIGMOID: "nn.Sigmoid", Gate.HARD_SIGMOID: "nn.Hardsigmoid"}
_NAMES = {
    Operator.CONV: "Conv",
    Operator.SEPARABLE: "Separable",
    Operator.INVERTED: "Inverted",
    Operator.FUSED: "Fused",
    Operator.BASIC: "Basic",
    Operator.BOTTLENECK: "Bottleneck",
}
_PROJECTING = (Operator.SEPARABLE, Operator.INVERTED, Operator.FUSED)


def classes(network: Architecture) -> list[str]:
    """The source of every class that the network's `Model` is made of, and of that."""
    needs = _needs(network)
    return [
        *([_PAD_SAME] if needs.same_padding else []),
        _conv_norm(network, needs),
        *([_max_pool(needs)] if network.stem.pool else []),
        *([_squeeze_excite(needs)] if needs.squeezes else []),
        *([_POOL_SHORTCUT] if Skip.POOL in needs.shortcuts else []),
        *([_residual(needs)] if needs.joins else []),
        *(_operator(operator, needs) for operator in needs.operators),
        _model(network, needs),
    ]


# ------------------------------------------------------------------------------- what it needs


@dataclass(frozen=True)
class _Needs:
    """What a network's code must be able to say; a set of several values makes a parameter."""

    blocks: tuple[Block, ...]
    plain: Activation
    same_padding: bool
    stochastic_depth: bool

    @property
    def operators(self) -> list[Operator]:
        """Those that need a class of their own."""
        found = {self.operator(block) for block in self.blocks}
        return [operator for operator in _NAMES if operator in found]

    def operator(self, block: Block) -> Operator:
        """Beside inverted blocks, a separable one is an inverted one that expands nothing."""
        inverted = any(block.operator is Operator.INVERTED for block in self.blocks)
        separable = block.operator is Operator.SEPARABLE
        return Operator.INVERTED if separable and inverted else block.operator

    def of(self, operator: Operator) -> list[Block]:
        return [block for block in self.blocks if self.operator(block) is operator]

    @property
    def squeezing(self) -> list[Block]:
        return [block for block in self.blocks if block.squeeze_channels]

    @property
    def squeezes(self) -> bool:
        return bool(self.squeezing)

    @property
    def activations(self) -> bool:
        """Whether blocks must be told their activation."""
        return any(block.activation is not self.plain for block in self.blocks)

    @property
    def squeeze_activations(self) -> set[Activation | None]:
        return {block.squeeze_activation for block in self.squeezing}

    @property
    def squeezes_as_block(self) -> bool:
        """Whether each squeeze-and-excite has its block's activation, and they differ."""
        own = all(block.squeeze_activation is block.activation for block in self.squeezing)
        return own and len(self.squeeze_activations) > 1

    @property
    def gates(self) -> set[Gate | None]:
        return {block.gate for block in self.squeezing}

    @property
    def linear(self) -> set[bool]:
        return {block.linear for block in self.blocks if block.operator in _PROJECTING}

    @property
    def shortcuts(self) -> set[Skip]:
        return {block.shortcut for block in self.blocks}

    @property
    def joins(self) -> bool:
        """Whether any block has a shortcut."""
        return self.shortcuts != {Skip.NONE}

    @property
    def misfit(self) -> Skip | None:
        """The shortcut where input and output differ in shape, where all blocks add their input
        when they do not; None where blocks must be told."""
        unlike = {block.shortcut for block in self.blocks if not _fits(block)}
        alike = {block.shortcut for block in self.blocks if _fits(block)}
        if not alike <= {Skip.IDENTITY} or len(unlike) > 1:
            return None
        return next(iter(unlike), Skip.NONE)

    @property
    def told(self) -> tuple[str, str, str] | None:
        """What blocks must be told of their shortcut: a parameter's name, type and default."""
        if not self.joins or self.misfit is not None:
            return None
        if self.shortcuts <= {Skip.IDENTITY, Skip.NONE}:
            return "adds", "bool", "False"
        return "skip", "str", '"none"'


def _fits(block: Block) -> bool:
    return block.stride == 1 and block.in_channels == block.out_channels


def _needs(architecture: Architecture) -> _Needs:
    blocks = tuple(block for stage in architecture.blocks() for block in stage)
    strides = [architecture.stem.stride, *(block.stride for block in blocks)]
    same = architecture.numerics.padding is Padding.SAME
    return _Needs(
        blocks=blocks,
        plain=architecture.numerics.activation,
        same_padding=same and (architecture.stem.pool or max(strides) > 1),
        stochastic_depth=architecture.stochastic_depth > 0
        and any(block.shortcut is not Skip.NONE for block in blocks[1:]),
    )


# --------------------------------------------------------------------------------------- layout


def _call(before: str, items: Sequence[str], after: str, indent: int) -> str:
    """`before(items)after` in ruff's layout: on a line, on three, or an item a line."""
    pad = " " * indent
    line = f"{pad}{before}({', '.join(items)}){after}"
    if len(line) <= WIDTH:
        return line
    inner = f"{pad}    {', '.join(items)}"
    if len(inner) <= WIDTH:
        return f"{pad}{before}(\n{inner}\n{pad}){after}"
    lines = "".join(f"{pad}    {item},\n" for item in items)
    return f"{pad}{before}(\n{lines}{pad}){after}"


def _init(parameters: Iterable[str]) -> str:
    return _call("def __init__", ["self", *parameters], " -> None:", 4)


# -------------------------------------------------------------------------------------- classes


_PAD_SAME = '''
def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pads as TensorFlow's "same" does: to ⌈n/stride⌉ windows, an odd pixel at the end."""
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)
'''


def _conv_norm(network: Architecture, needs: _Needs) -> str:
    activation = _ACTIVATIONS[needs.plain]
    padding = "0 if stride > 1 else kernel // 2" if needs.same_padding else "kernel // 2"
    numerics = network.numerics
    norm = f"nn.BatchNorm2d(outputs, eps={numerics.bn_eps!r}, momentum={numerics.bn_momentum})"
    pads = """\
        if self.conv.stride[0] > 1:
            x = pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
"""
    return f'''
class ConvNorm(nn.Module):
    """k×k convolution → batch norm → activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] = {activation},
    ) -> None:
        super().__init__()
        padding = {padding}
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = {norm}
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
{pads if needs.same_padding else ""}\
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out
'''


def _max_pool(needs: _Needs) -> str:
    same, plain = 'F.max_pool2d(pad_same(x, 3, 2, float("-inf")), 3, 2)', "F.max_pool2d(x, 3, 2, 1)"
    return f'''
class MaxPool(nn.Module):
    """3×3 max pooling with stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        return {same if needs.same_padding else plain}
'''


def _squeeze_excite(needs: _Needs) -> str:
    parameters = ["channels: int", "squeezed: int"]
    activation, gate = "activation", "gate"
    if len(needs.squeeze_activations) > 1:
        parameters.append("activation: type[nn.Module]")
    else:
        activation = _activation(next(iter(needs.squeeze_activations)))
    if len(needs.gates) > 1:
        parameters.append("gate: type[nn.Module]")
    else:
        gate = _gate(next(iter(needs.gates)))
    return f'''
class SqueezeExcite(nn.Module):
    """Global mean → 1×1 reduce → activation → 1×1 expand → gate, times the input."""

{_init(parameters)}
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = {activation}()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = {gate}()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        out: Tensor = x * self.gate(self.expand(self.activation(self.reduce(mean))))
        return out
'''


def _activation(activation: Activation | None) -> str:
    assert activation  # a block that squeezes has one
    return _ACTIVATIONS[activation]


def _gate(gate: Gate | None) -> str:
    assert gate  # likewise
    return _GATES[gate]


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


def _residual(needs: _Needs) -> str:
    parameters = ["inputs: int", "outputs: int", "stride: int"]
    fits = "stride == 1 and inputs == outputs"
    added, absent = "self.shortcut(x)", None
    match needs.misfit:
        case None if needs.told and needs.told[0] == "adds":
            parameters = ["adds: bool"]
            docstring = "A block that may add its input."
            lines, added, absent = ["self.adds = adds"], "x", "not self.adds"
        case None:
            parameters.append("skip: str")
            docstring = "A block with a shortcut: none, the input itself, or the input reshaped."
            lines, absent = list(_shortcuts(needs)), "self.shortcut is None"
        case Skip.NONE:
            docstring = "A block that adds its input where the shapes agree."
            lines, added, absent = [f"self.adds = {fits}"], "x", "not self.adds"
        case skip:
            docstring = "A block that adds its input, reshaped where the shapes differ."
            lines = [
                "self.shortcut: nn.Module = nn.Identity()",
                f"if not ({fits}):",
                f"    self.shortcut = {_SHORTCUTS[skip]}",
            ]
    out = [f"if {absent}:", "    return out"] if absent else []
    if needs.stochastic_depth:
        lines.append("self.drop_rate = 0.0  # the model sets it")
        out += [
            "if self.training and self.drop_rate > 0:  # stochastic depth (Huang et al. 2016)",
            "    kept = 1 - self.drop_rate",
            "    out = out * out.new_empty((len(out), 1, 1, 1)).bernoulli_(kept).div_(kept)",
        ]
    if added == "x":
        out.append("return out + x")
    else:
        out += [f"added: Tensor = out + {added}", "return added"]
    return f'''
class Residual(nn.Module):
    """{docstring}"""

{_init(parameters)}
        super().__init__()
{_indented(lines)}

    def join(self, x: Tensor, out: Tensor) -> Tensor:
        """What the block made of `x`, with the shortcut."""
{_indented(out)}
'''


_SHORTCUTS = {
    Skip.IDENTITY: "nn.Identity()",
    Skip.POOL: "PoolShortcut(inputs, outputs, stride)",
    Skip.PROJECTION: "ConvNorm(inputs, outputs, 1, stride, activation=nn.Identity)",
}


def _shortcuts(needs: _Needs) -> Iterator[str]:
    """The shortcut that a block is told, out of those that occur."""
    yield "self.shortcut: nn.Module | None = None"
    word = "if"
    for skip, made in _SHORTCUTS.items():
        if skip in needs.shortcuts:
            yield f'{word} skip == "{skip.value}":'
            yield f"    self.shortcut = {made}"
            word = "elif"


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)


# ---------------------------------------------------------------------------------------- blocks


@dataclass(frozen=True)
class _Layer:
    """One attribute of a block's module: a `ConvNorm` given these arguments."""

    name: str
    arguments: tuple[str, ...]
    activates: bool = True


_IN, _INNER, _OUT = "inputs", "inner", "outputs"
_WINDOW = ("kernel", "stride")
_DOCSTRINGS = {
    Operator.CONV: "k×k convolution; the shortcut is added after its activation.",
    Operator.SEPARABLE: "k×k depthwise{squeeze} → 1×1 project.",
    Operator.INVERTED: "1×1 expand → k×k depthwise{squeeze} → 1×1 project.",
    Operator.FUSED: "k×k expand{squeeze} → 1×1 project.",
    Operator.BASIC: "k×k convolution → k×k convolution; the activation follows the addition.",
    Operator.BOTTLENECK: "1×1 reduce → k×k → 1×1 expand; the activation follows the addition.",
}
_LAYERS: dict[Operator, tuple[_Layer, ...]] = {
    Operator.CONV: (_Layer("conv", (_IN, _OUT, *_WINDOW)),),
    Operator.SEPARABLE: (
        _Layer("depthwise", (_IN, _IN, *_WINDOW, f"groups={_IN}")),
        _Layer("project", (_IN, _OUT)),
    ),
    Operator.INVERTED: (
        _Layer("expand", (_IN, _INNER)),
        _Layer("depthwise", (_INNER, _INNER, *_WINDOW, f"groups={_INNER}")),
        _Layer("project", (_INNER, _OUT)),
    ),
    Operator.FUSED: (
        _Layer("expand", (_IN, _INNER, *_WINDOW)),
        _Layer("project", (_INNER, _OUT)),
    ),
    Operator.BASIC: (
        _Layer("first", (_IN, _OUT, *_WINDOW)),
        _Layer("second", (_OUT, _OUT, "kernel"), activates=False),
    ),
    Operator.BOTTLENECK: (
        _Layer("reduce", (_IN, _INNER)),
        _Layer("conv", (_INNER, _INNER, *_WINDOW)),
        _Layer("expand", (_INNER, _OUT), activates=False),
    ),
}
_HAS_INNER = (Operator.INVERTED, Operator.FUSED, Operator.BOTTLENECK)
_ADDS_FIRST = (Operator.BASIC, Operator.BOTTLENECK)


def _operator(operator: Operator, needs: _Needs) -> str:
    blocks, layers = needs.of(operator), _LAYERS[operator]
    squeezes = any(block.squeeze_channels for block in blocks)
    always = squeezes and all(block.squeeze_channels for block in blocks)
    parameters = [f"{_IN}: int", f"{_OUT}: int"]
    if operator in _HAS_INNER:
        parameters.insert(1, f"{_INNER}: int")
    parameters += ["squeeze: int"] if always else []
    parameters += ["kernel: int = 3", "stride: int = 1"]
    parameters += ["squeeze: int = 0"] if squeezes and not always else []
    for name, kind, default in _varied(operator, needs):
        parameters.append(f"{name}: {kind} = {default}")
    base, inherited = "Residual", [_IN, _OUT, "stride"]
    if not needs.joins:
        base, inherited = "nn.Module", []
    elif needs.told:
        inherited = ["adds"] if needs.told[0] == "adds" else [*inherited, "skip"]
    lines, out = [f"super().__init__({', '.join(inherited)})"], "x"
    for layer in layers:
        if layer.name == "project" and squeezes:
            lines.append(_squeeze_line(operator, needs))
            out = f"self.squeeze({out})"
        lines.append(_layer_line(operator, layer, needs))
        out = f"self.{layer.name}({out})"
    out = f"self.join(x, {out})" if needs.joins else out
    returned = [f"return {out}"] if needs.joins else [f"out: Tensor = {out}", "return out"]
    if operator in _ADDS_FIRST:
        activation = "activation" if needs.activations else _ACTIVATIONS[needs.plain]
        lines.append(f"self.activation = {activation}()")
        returned = [f"out: Tensor = self.activation({out})", "return out"]
    squeeze = " → squeeze-and-excite" if squeezes else ""
    return f'''
class {_NAMES[operator]}({base}):
    """{_DOCSTRINGS[operator].format(squeeze=squeeze)}"""

{_init(parameters)}
{_indented(lines)}

    def forward(self, x: Tensor) -> Tensor:
{_indented(returned)}
'''


def _varied(operator: Operator, needs: _Needs) -> Iterator[tuple[str, str, str]]:
    """The parameters of an operator's class that only some networks need: name, type, default."""
    kind = "type[nn.Module]"
    squeezing = [block for block in needs.of(operator) if block.squeeze_channels]
    if needs.told:
        yield needs.told
    if needs.activations:
        yield "activation", kind, _ACTIVATIONS[needs.plain]
    if squeezing and len(needs.squeeze_activations) > 1 and not needs.squeezes_as_block:
        yield "squeeze_activation", kind, _ACTIVATIONS[needs.plain]
    if squeezing and len(needs.gates) > 1:
        yield "gate", kind, _GATES[Gate.SIGMOID]
    if operator in _PROJECTING and len(needs.linear) > 1:
        yield "linear", "bool", "True"


def _layer_line(operator: Operator, layer: _Layer, needs: _Needs) -> str:
    arguments = list(layer.arguments)
    activation = "activation" if needs.activations else None
    if not layer.activates or (layer.name == "project" and needs.linear == {True}):
        arguments.append("activation=nn.Identity")
    elif layer.name == "project" and len(needs.linear) > 1:
        other = activation or _ACTIVATIONS[needs.plain]
        arguments.append(f"activation=nn.Identity if linear else {other}")
    elif activation:
        arguments.append("activation=activation")
    before = f"self.{layer.name} = "
    expands = layer.name == "expand" and operator is Operator.INVERTED
    if expands and any(block.operator is Operator.SEPARABLE for block in needs.blocks):
        before = f"self.{layer.name}: nn.Module = nn.Identity()\n        if inner != inputs:\n"
        return before + _call(f"self.{layer.name} = ConvNorm", arguments, "", 12)
    return _call(f"{before}ConvNorm", arguments, "", 8).lstrip()


def _squeeze_line(operator: Operator, needs: _Needs) -> str:
    arguments = [_IN if operator is Operator.SEPARABLE else _INNER, "squeeze"]
    if needs.squeezes_as_block:
        arguments.append("activation")
    elif len(needs.squeeze_activations) > 1:
        arguments.append("squeeze_activation")
    if len(needs.gates) > 1:
        arguments.append("gate")
    always = all(block.squeeze_channels for block in needs.of(operator))
    made = f"SqueezeExcite({', '.join(arguments)})"
    if always:
        return f"self.squeeze = {made}"
    made = f"{made} if squeeze else nn.Identity()"
    line = f"self.squeeze = {made}"
    inside = f"(\n            {made}\n        )"
    return line if len(line) + 8 <= WIDTH else f"self.squeeze = {inside}"


# ----------------------------------------------------------------------------------------- model


def _model(network: Architecture, needs: _Needs) -> str:
    stem, head = network.stem, network.head
    out = network.out_channels
    arguments = [str(network.in_channels), str(stem.channels), f"kernel={stem.kernel}"]
    if stem.stride > 1:
        arguments.append(f"stride={stem.stride}")
    chain = f"self.stem({_X})"
    lines = [f"        self.stem = ConvNorm({', '.join(arguments)})"]
    if stem.pool:
        lines.append("        self.pool = MaxPool()")
        chain = f"self.pool({chain})"
    lines += ["        self.stages = nn.Sequential(", *_stages(network, needs), "        )"]
    chain = f"self.stages({chain})"
    if head.channels:
        last = network.stages[-1].channels
        lines.append(f"        self.head = ConvNorm({last}, {head.channels})")
        chain = f"self.head({chain})"
    last_line = "x.mean((2, 3))"
    path = "stem → stages → head → mean over space" if head.channels else "stem → stages → mean"
    if head.hidden:
        activation = _ACTIVATIONS[needs.plain]
        hidden = [f"linear=nn.Linear({out}, {head.hidden})", f"activation={activation}()"]
        lines.append(f"        hidden = OrderedDict[str, nn.Module]({', '.join(hidden)})")
        lines.append("        self.hidden = nn.Sequential(hidden)")
        last_line, out, path = f"self.hidden({last_line})", head.hidden, f"{path} → hidden"
    if network.dropout:
        lines.append(f"        self.dropout = nn.Dropout({network.dropout})")
        last_line, path = f"self.dropout({last_line})", f"{path} → dropout"
    lines.append(f"        self.classifier = nn.Linear({out}, {network.num_classes})")
    if needs.stochastic_depth:
        lines += [
            "        blocks = [each for each in self.modules() if isinstance(each, Residual)]",
            "        for index, block in enumerate(blocks):",
            f"            block.drop_rate = {network.stochastic_depth} * index / len(blocks)",
        ]
    body = "\n".join(lines)
    shape = f"N × {network.in_channels} × H × W"
    return f'''
class Model(nn.Module):
    """{path} → classifier."""

    def __init__(self) -> None:
        super().__init__()
{body}

    def forward(self, x: Tensor) -> Tensor:
        """{shape}, as `preprocess` gives it, to N × {network.num_classes} logits."""
        x = {chain}
        logits: Tensor = self.classifier({last_line})
        return logits
'''


_X = "x"


def _stages(network: Architecture, needs: _Needs) -> Iterator[str]:
    for stage in network.blocks():
        first, *rest = [_block(block, needs) for block in stage]
        if not rest:
            yield _stage([first])
        elif rest[0] == first:
            yield _stage([_repeated(first, len(stage))])
        elif len(rest) == 1:
            yield _stage([first, rest[0]])
        else:
            yield _stage([first, _repeated(rest[0], len(rest))])


def _stage(items: list[str]) -> str:
    line = f"            nn.Sequential({', '.join(items)}),"
    if len(line) <= WIDTH:
        return line
    joined = f"                {', '.join(items)}"
    if len(joined) <= WIDTH:
        return f"            nn.Sequential(\n{joined}\n            ),"
    lines = "\n".join(f"                {_fitted(item)}," for item in items)
    return f"            nn.Sequential(\n{lines}\n            ),"


def _repeated(block: str, count: int) -> str:
    return f"*({block} for _ in range({count}))"


def _fitted(item: str, indent: int = 16) -> str:
    """A block, or several, on lines of at most `WIDTH` after `indent` spaces, before a comma."""
    pad = " " * indent
    if len(item) + indent < WIDTH:
        return item
    if item.startswith("*("):
        block, _, loop = item[2:-1].rpartition(" for _ in ")
        return f"*(\n{pad}    {_fitted(block, indent + 4)}\n{pad}    for _ in {loop}\n{pad})"
    name, _, arguments = item[:-1].partition("(")
    return _call(name, arguments.split(", "), "", indent).lstrip()


def _block(block: Block, needs: _Needs) -> str:
    """A block as a call of its class."""
    operator = needs.operator(block)
    channels = [block.in_channels, block.inner_channels, block.out_channels]
    if operator not in _HAS_INNER:
        del channels[1]
    arguments: list[Any] = [*map(str, channels)]
    if block.kernel != 3:
        arguments.append(f"kernel={block.kernel}")
    if block.stride != 1:
        arguments.append(f"stride={block.stride}")
    if block.squeeze_channels:
        arguments.append(f"squeeze={block.squeeze_channels}")
    for name, _, default in _varied(operator, needs):
        value = _said(name, block)
        idle = name in ("squeeze_activation", "gate") and not block.squeeze_channels
        if value != default and not idle:
            arguments.append(f"{name}={value}")
    return f"{_NAMES[operator]}({', '.join(arguments)})"


def _said(name: str, block: Block) -> str:
    match name:
        case "adds":
            return str(block.shortcut is Skip.IDENTITY)
        case "skip":
            return f'"{block.shortcut.value}"'
        case "activation":
            return _ACTIVATIONS[block.activation]
        case "squeeze_activation":
            return _activation(block.squeeze_activation or block.activation)
        case "gate":
            return _GATES[block.gate or Gate.SIGMOID]
        case _:
            return str(block.linear)
