"""The classes of a standalone `model.py`: only what a network needs, each with as few choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scaling.formats.blocks import ADDS_FIRST, NAMES, block, residual
from scaling.formats.layout import WIDTH, call, indented, init
from scaling.formats.needs import Needs, Row, needs
from space.architecture import Architecture, Skip


def classes(network: Architecture) -> list[str]:
    """The source of all that the network's `Model` is made of, and of that."""
    found = needs(network)
    adds_first = any(kind.operator in ADDS_FIRST for kind in found.kinds)
    shared = bool(found.joining.skips) and (adds_first or len(found.kinds) > 1)
    return [
        *([_PAD_SAME] if found.same_padding else []),
        _conv_norm(network, found),
        *([_ROUNDED] if (found.squeezed or "").startswith("rounded") else []),
        *([_squeeze_excite(found)] if found.squeeze_activations else []),
        *([_POOL_SHORTCUT] if Skip.POOL in found.joining.skips else []),
        *([residual(found)] if shared else []),
        *(block(kind, found, shared=shared) for kind in found.kinds),
        _STAGE,
        _model(network, found, "Residual" if shared else NAMES[found.kinds[0].operator]),
    ]


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

{init(parameters)}
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


def _model(network: Architecture, found: Needs, base: str) -> str:
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
            f"blocks = [each for each in self.modules() if isinstance(each, {base})]",
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
    yield from (NAMES[row.operator], str(row.repeats), str(row.inputs), str(row.outputs))
    if row.stride > 1:
        yield f"stride={row.stride}"
    yield from row.choices
