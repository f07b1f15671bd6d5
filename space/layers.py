"""What an operator is: the layers of its block, in the order in which they run, without torch.

`layers(block)` and `layers(architecture)` list every convolution and linear layer with its name in
the state dict, its shape, the channels that it reads and writes, and what follows it. Cost
(`space.cost`), memory (`space.trace`), names of other libraries' weights (`space.convert`), timm's
arguments and inherited weights (`space.inherit`) walk this list. A new operator is one entry in
`_FORMS` and one class in `space.blocks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from space.architecture import Architecture


class Operator(StrEnum):
    """What a block computes; its layers are in `_FORMS`, its torch module in `space.blocks`."""

    CONV = "conv"
    SEPARABLE = "separable"
    INVERTED = "inverted"
    FUSED = "fused"
    BASIC = "basic"
    BOTTLENECK = "bottleneck"
    UNIVERSAL = "universal"

    @property
    def form(self) -> Form:
        """The layers of its block, and the rules that resolve a stage into one."""
        return _FORMS[self]

    @property
    def expands(self) -> bool:
        """Whether an expansion changes it."""
        return self.form.inner in (Inner.EXPANDED_INPUT, Inner.REDUCED_OUTPUT)

    @property
    def optional_kernels(self) -> bool:
        """Whether it has a second kernel, and either may be left out (0)."""
        return any(part.kernel is Kernel.START for part in self.form.parts)

    @property
    def projects(self) -> bool:
        """Whether it ends in a 1×1 projection, before which squeeze-and-excite stands."""
        return self.form.parts[-1].name == "project"


class Skip(StrEnum):
    """How a block's input joins its output.

    `identity` adds the input where the shapes agree, and nothing elsewhere. `pool` also adds it
    where they do not: average-pooled over stride × stride windows, channels padded with zeros or
    cut (assumed: MnasNet, section 4.1, names the option and gives no formula). `projection` adds a
    strided 1×1 convolution with batch norm there (ResNet, section 3.3, option B).
    """

    IDENTITY = "identity"
    POOL = "pool"
    PROJECTION = "projection"
    NONE = "none"


class Activation(StrEnum):
    """The non-linearity of a block, a stem or a head."""

    RELU = "relu"
    RELU6 = "relu6"
    SILU = "silu"
    HARD_SWISH = "hard_swish"


class Gate(StrEnum):
    """The function that turns a squeeze-and-excite output into a weight per channel."""

    SIGMOID = "sigmoid"
    HARD_SIGMOID = "hard_sigmoid"


class Channels(StrEnum):
    """The groups of channels that a block's layers read and write."""

    INPUT = "input"
    INNER = "inner"
    SQUEEZED = "squeezed"
    OUTPUT = "output"


class LayerKind(StrEnum):
    """What a layer is; a 1×1 convolution of squeeze-and-excite is a convolution, as in torch."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"


class Path(StrEnum):
    """Where in a block a layer lies: its branch, its squeeze-and-excite, or its shortcut."""

    MAIN = "main"
    GATE = "gate"
    SHORTCUT = "shortcut"


class At(StrEnum):
    """On which map a layer's outputs lie: the block's input, its output, or a single pixel."""

    INPUT = "input"
    OUTPUT = "output"
    IMAGE = "image"


class Layer(NamedTuple):
    """One convolution or linear layer, and what follows it: batch norm or a bias, an activation.

    `name` is its module's name in the network: a `space.blocks.ConvNorm` where batch norm follows.
    Its tensors are `module.weight`, and `module.bias` or `norm_module.weight` and so on.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    reads: Channels = Channels.INPUT
    writes: Channels = Channels.OUTPUT
    path: Path = Path.MAIN
    at: At = At.OUTPUT
    norm: bool = True
    activation: Activation | Gate | None = None
    kind: LayerKind = LayerKind.CONVOLUTION

    @property
    def bias(self) -> bool:
        """Whether it adds a bias: where no batch norm follows."""
        return not self.norm

    @property
    def module(self) -> str:
        """The name of the convolution or linear layer in the state dict, as `stem.conv`."""
        return f"{self.name}.conv" if self.norm else self.name

    @property
    def norm_module(self) -> str:
        """The name of the batch norm behind it, as `stem.norm`; only where one follows."""
        return f"{self.name}.norm"

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel."""
        return self.groups > 1

    @property
    def weights(self) -> int:
        """Weights alone: also the multiply–adds of one output pixel."""
        return self.kernel**2 * (self.in_channels // self.groups) * self.out_channels

    @property
    def params(self) -> int:
        """Weights, and a bias or batch norm's weight and bias."""
        return self.weights + self.out_channels * (2 if self.norm else 1)


class Block(NamedTuple):
    """One block as it is really computed: all choices resolved, those without effect gone."""

    operator: Operator
    kernel: int
    stride: int
    in_channels: int
    inner_channels: int
    out_channels: int
    squeeze_channels: int
    gate: Gate | None
    squeeze_activation: Activation | None
    shortcut: Skip
    activation: Activation
    linear: bool
    start_kernel: int = 0

    @property
    def final_activation(self) -> Activation | None:
        """The activation after the addition of the shortcut, where there is one (ResNet)."""
        return self.activation if self.operator.form.activates_last else None


def layers(described: Block | Architecture) -> tuple[Layer, ...]:
    """Every layer in the order in which it runs; a shortcut's projection is its block's last.

    >>> from space.layers import layers
    >>> from space.presets import load
    >>> b0 = load("efficientnet_b0")
    >>> [layer.name for layer in layers(b0.blocks()[1][0])]
    ['expand', 'depthwise', 'squeeze.reduce', 'squeeze.expand', 'project']
    >>> layers(b0)[0].name, layers(b0)[-1].name
    ('stem', 'classifier')
    """
    return tuple(
        _of_block(described) if isinstance(described, Block) else _of_architecture(described)
    )


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the state dict of the network of `architecture`, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(architecture):
        kernel = (layer.kernel,) * 2 if layer.kind is LayerKind.CONVOLUTION else ()
        channels = layer.in_channels // layer.groups
        shapes[f"{layer.module}.weight"] = (layer.out_channels, channels, *kernel)
        if layer.bias:
            shapes[f"{layer.module}.bias"] = (layer.out_channels,)
        if layer.norm:
            for kind in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{layer.norm_module}.{kind}"] = (layer.out_channels,)
            shapes[f"{layer.norm_module}.num_batches_tracked"] = ()
    return shapes


def stem_layer(architecture: Architecture) -> Layer:
    """The first convolution."""
    stem = architecture.stem
    return Layer(
        "stem",
        architecture.in_channels,
        stem.channels,
        stem.kernel,
        stem.stride,
        activation=architecture.numerics.activation,
    )


def head_layers(architecture: Architecture) -> Iterator[Layer]:
    """The layers behind the last stage: convolution, hidden layer (where there are), classifier."""
    head, activation = architecture.head, architecture.numerics.activation
    width = architecture.stages[-1].channels
    if head.channels:
        yield Layer("head", width, head.channels, at=At.INPUT, activation=activation)
        width = head.channels
    classifier = Layer("classifier", width, architecture.num_classes, at=At.IMAGE, norm=False)
    classifier = classifier._replace(kind=LayerKind.LINEAR)
    if head.hidden:
        hidden = classifier._replace(out_channels=head.hidden, activation=activation)
        if head.hidden_norm:
            yield hidden._replace(name="hidden", norm=True, kind=LayerKind.CONVOLUTION)
        else:
            yield hidden._replace(name="hidden.linear")
        classifier = classifier._replace(in_channels=head.hidden)
    yield classifier


def _of_architecture(architecture: Architecture) -> Iterator[Layer]:
    yield stem_layer(architecture)
    for number, stage in enumerate(architecture.blocks()):
        for index, block in enumerate(stage):
            for layer in _of_block(block):
                yield layer._replace(name=f"stages.{number}.{index}.{layer.name}")
    yield from head_layers(architecture)


def _of_block(block: Block) -> Iterator[Layer]:
    form = block.operator.form
    channels = {
        Channels.INPUT: block.in_channels,
        Channels.INNER: block.inner_channels,
        Channels.SQUEEZED: block.squeeze_channels,
        Channels.OUTPUT: block.out_channels,
    }
    kernels = {Kernel.POINT: 1, Kernel.BLOCK: block.kernel, Kernel.START: block.start_kernel}
    parts = [part for part in form.parts if kernels[part.kernel]]
    # The first convolution with the block's kernel takes the stride, else the one with the start's;
    # what runs before it is on the input's map.
    ranked = [
        part for kind in (Kernel.BLOCK, Kernel.START) for part in parts if part.kernel is kind
    ]
    strided = ranked[0] if ranked else None
    at = At.INPUT if strided else At.OUTPUT
    for part in parts:
        last = part is parts[-1]
        if last and block.squeeze_channels:
            yield from _squeeze_excite(block, part.reads, channels)
        at = At.OUTPUT if part is strided else at
        width = channels[part.reads]
        activates = not (form.activates_last or block.linear) if last else part.activates
        yield Layer(
            part.name,
            width,
            channels[part.writes],
            kernel=kernels[part.kernel],
            stride=block.stride if part is strided else 1,
            groups=width if part.depthwise else 1,
            reads=part.reads,
            writes=part.writes,
            at=at,
            activation=block.activation if activates else None,
        )
    if block.shortcut is Skip.PROJECTION:
        inputs, outputs, stride = block.in_channels, block.out_channels, block.stride
        yield Layer("shortcut", inputs, outputs, stride=stride, path=Path.SHORTCUT)


def _squeeze_excite(
    block: Block, scaled: Channels, channels: Mapping[Channels, int]
) -> Iterator[Layer]:
    """The two layers of the gate on the channels `scaled`, with biases."""
    for name, reads, writes, activation in (
        ("squeeze.reduce", scaled, Channels.SQUEEZED, block.squeeze_activation),
        ("squeeze.expand", Channels.SQUEEZED, scaled, block.gate),
    ):
        yield Layer(
            name,
            channels[reads],
            channels[writes],
            reads=reads,
            writes=writes,
            path=Path.GATE,
            at=At.IMAGE,
            norm=False,
            activation=activation,
        )


class Inner(StrEnum):
    """How many channels a block has inside: its input's or its output's, or a multiple of them."""

    INPUT = "input"
    OUTPUT = "output"
    EXPANDED_INPUT = "input · expansion"
    REDUCED_OUTPUT = "output · expansion"


class Kernel(StrEnum):
    """Which kernel a convolution has: 1×1, its block's, or its block's second one.

    A convolution whose kernel is 0 is left out.
    """

    POINT = "point"
    BLOCK = "kernel"
    START = "start_kernel"


class Part(NamedTuple):
    """One convolution with batch norm in an operator's branch.

    `timm` are the names of both in timm's block. `activates` is of all but the last part, whose
    activation is the block's choice.
    """

    name: str
    reads: Channels
    writes: Channels
    kernel: Kernel
    timm: tuple[str, str]
    depthwise: bool = False
    activates: bool = True


class Form(NamedTuple):
    """An operator in the terms that all code about operators uses.

    `unexpanded` is the operator that it becomes where its inner channels are its input's.
    `activates_last`: its activation follows the addition of the shortcut, not its last convolution.
    `timm` is its code in timm's block strings, empty where timm has none.
    """

    parts: tuple[Part, ...]
    inner: Inner
    unexpanded: Operator | None = None
    activates_last: bool = False
    timm: str = ""


_INPUT, _INNER, _OUTPUT = Channels.INPUT, Channels.INNER, Channels.OUTPUT
_POINT, _BLOCK, _START = Kernel.POINT, Kernel.BLOCK, Kernel.START

_FORMS: Mapping[Operator, Form] = {
    Operator.CONV: Form(
        (Part("conv", _INPUT, _OUTPUT, _BLOCK, ("conv", "bn1")),), Inner.OUTPUT, timm="cn"
    ),
    Operator.SEPARABLE: Form(
        (
            Part("depthwise", _INPUT, _INPUT, _BLOCK, ("conv_dw", "bn1"), True),
            Part("project", _INPUT, _OUTPUT, _POINT, ("conv_pw", "bn2")),
        ),
        Inner.INPUT,
        timm="ds",
    ),
    Operator.INVERTED: Form(
        (
            Part("expand", _INPUT, _INNER, _POINT, ("conv_pw", "bn1")),
            Part("depthwise", _INNER, _INNER, _BLOCK, ("conv_dw", "bn2"), True),
            Part("project", _INNER, _OUTPUT, _POINT, ("conv_pwl", "bn3")),
        ),
        Inner.EXPANDED_INPUT,
        unexpanded=Operator.SEPARABLE,
        timm="ir",
    ),
    Operator.FUSED: Form(
        (
            Part("expand", _INPUT, _INNER, _BLOCK, ("conv_exp", "bn1")),
            Part("project", _INNER, _OUTPUT, _POINT, ("conv_pwl", "bn2")),
        ),
        Inner.EXPANDED_INPUT,
        unexpanded=Operator.CONV,
        timm="er",
    ),
    Operator.BASIC: Form(
        (
            Part("first", _INPUT, _INNER, _BLOCK, ("conv1", "bn1")),
            Part("second", _INNER, _OUTPUT, _BLOCK, ("conv2", "bn2")),
        ),
        Inner.OUTPUT,
        activates_last=True,
    ),
    Operator.BOTTLENECK: Form(
        (
            Part("reduce", _INPUT, _INNER, _POINT, ("conv1", "bn1")),
            Part("conv", _INNER, _INNER, _BLOCK, ("conv2", "bn2")),
            Part("expand", _INNER, _OUTPUT, _POINT, ("conv3", "bn3")),
        ),
        Inner.REDUCED_OUTPUT,
        activates_last=True,
    ),
    Operator.UNIVERSAL: Form(
        (
            Part("start", _INPUT, _INPUT, _START, ("dw_start.conv", "dw_start.bn"), True, False),
            Part("expand", _INPUT, _INNER, _POINT, ("pw_exp.conv", "pw_exp.bn")),
            Part("depthwise", _INNER, _INNER, _BLOCK, ("dw_mid.conv", "dw_mid.bn"), True),
            Part("project", _INNER, _OUTPUT, _POINT, ("pw_proj.conv", "pw_proj.bn")),
        ),
        Inner.EXPANDED_INPUT,
        timm="uir",
    ),
}
