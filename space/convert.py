"""Weights of torchvision, timm and EfficientNet-PyTorch, to the matching preset and back.

A source is the name of a network there, as in `torchvision/efficientnet_b0`. Its layout says how
each of our modules is called in its state dict; nothing but names changes on the way, and nothing
is left over on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from space import presets
from space.architecture import Architecture, Block, Numerics, Padding, Skip
from space.layers import LayerKind, Path, layers
from space.validation import InvalidInput, one_of

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]


class PixelStatistics(NamedTuple):
    """Mean and standard deviation, per channel, by which pixels from 0 to 1 are normalised."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def of(self, channels: int) -> PixelStatistics:
        """For images of so many channels: a grey one gets the means over the colours."""
        if channels == len(self.mean):
            return self
        mean, std = (sum(values) / len(values) for values in self)
        return PixelStatistics((mean,) * channels, (std,) * channels)


#: What published networks were trained with. Source: their repositories; timm's configurations.
IMAGENET = PixelStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_INCEPTION = PixelStatistics((0.5,) * 3, (0.5,) * 3)
_LITE = PixelStatistics((127 / 255,) * 3, (128 / 255,) * 3)
_PIXELS: Mapping[str, PixelStatistics] = {
    "efficientnet_pytorch/efficientnet-lite": _LITE,
    "timm/tf_efficientnet_lite": _INCEPTION,
    "timm/tf_efficientnetv2": _INCEPTION,
    "timm/tf_mobilenetv3": _INCEPTION,
    "timm/mobilenetv1": _INCEPTION,
}
Names = dict[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """A network of another library: the preset that it is, its names, and its own numerics.

    `names` maps our modules to theirs; `hidden_is_convolution` where their hidden layer's weight
    has two axes more (of length 1).
    """

    preset: str
    names: Callable[[Architecture], Names]
    numerics: Numerics
    hidden_is_convolution: bool = False

    def architecture(self, num_classes: int = 1000, in_channels: int = 3) -> Architecture:
        """The preset with the source's numerics."""
        preset = presets.load(self.preset, num_classes)
        return replace(preset, numerics=self.numerics, in_channels=in_channels)


def sources() -> tuple[str, ...]:
    """The networks whose weights can be converted."""
    return tuple(_SOURCES)


def source(name: str) -> Source:
    """The source of that name, with or without timm's tag of its weights (`….ra_in1k`).

    Raises `InvalidInput` with the nearest there is.
    """
    plain = name if name in _SOURCES else name.partition(".")[0]
    if plain not in _SOURCES:
        raise one_of("weights", name, _SOURCES)
    return _SOURCES[plain]


def pixel_statistics(name: str) -> PixelStatistics:
    """How the images of a source's network are normalised, in most of its published weights."""
    return next((p for prefix, p in _PIXELS.items() if name.startswith(prefix)), IMAGENET)


def recognised(state: State, hint: str = "") -> tuple[str, ...]:
    """The sources whose tensors are those of `state`, by names and shapes; empty where none is.

    Networks that differ in numerics alone (timm's `tf_` forms) have the same tensors: those whose
    name stands in `hint`, such as the name of a file, come first, and the longest before others.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    found = [name for name, given in _SOURCES.items() if _has_tensors_of(given, shapes)]
    plain = hint.lower().replace("-", "_")

    def rank(name: str) -> tuple[bool, int]:
        network = name.partition("/")[2].replace("-", "_")
        return network not in plain, -len(network) if network in plain else 0

    return tuple(sorted(found, key=rank))


def _has_tensors_of(given: Source, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a state dict has these names and shapes, whatever its classes and colours."""
    architecture = given.architecture()
    names = given.names(architecture)
    places = {theirs: ours for ours, theirs in names.items()}
    stem, classifier = names["stem.conv"], names["classifier"]
    first = shapes.get(f"{stem}.weight")
    if first is None or f"{classifier}.weight" not in shapes:
        return False
    adapted = replace(
        architecture, in_channels=first[1], num_classes=shapes[f"{classifier}.weight"][0]
    )
    expected = tensor_shapes(adapted)
    found = {}
    for name, shape in shapes.items():
        module, _, kind = name.rpartition(".")
        if module not in places:
            return False
        mine = f"{places[module]}.{kind}"
        found[mine] = shape[:2] if mine == "hidden.linear.weight" else shape
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    return found.keys() | counters == expected.keys() and all(
        shape == expected[name] for name, shape in found.items()
    )


def from_source(name: str, state: State) -> tuple[Architecture, dict[str, Tensor]]:
    """The architecture and our state dict for weights of a source.

    Classes and input channels are those of the weights. Raises `InvalidInput` for tensors that are
    missing, left over, or of another shape.
    """
    given = source(name)
    names = given.names(given.architecture())
    ours = {theirs: module for module, theirs in names.items()}
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        if module not in ours:
            raise InvalidInput(f"{name}: there is no place for the tensor {key}")
        mine = f"{ours[module]}.{kind}"
        is_hidden = given.hidden_is_convolution and mine == "hidden.linear.weight"
        found[mine] = tensor.flatten(1) if is_hidden else tensor
    return _checked(name, given, found), found


def to_source(name: str, state: State) -> dict[str, Tensor]:
    """A source's state dict for weights of the network of its preset.

    Raises `InvalidInput` for tensors that are missing, left over, or of another shape.
    """
    given = source(name)
    names, found = given.names(_checked(name, given, state)), {}
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        is_hidden = given.hidden_is_convolution and key == "hidden.linear.weight"
        found[f"{names[module]}.{kind}"] = tensor[:, :, None, None] if is_hidden else tensor
    return found


def _checked(name: str, given: Source, state: State) -> Architecture:
    """The architecture of a whole state dict of ours, which came from or goes to a source."""
    for key in ("classifier.weight", "stem.conv.weight"):
        if key not in state:
            raise InvalidInput(f"{name}: these are no weights of it: there is no {key}")
    classes, channels = len(state["classifier.weight"]), state["stem.conv.weight"].shape[1]
    architecture = given.architecture(classes, channels)
    expected = tensor_shapes(architecture)
    for key, tensor in state.items():
        needed, shape = expected.get(key), tuple(tensor.shape)
        if needed is None:
            raise InvalidInput(f"{name}: there is no place for the tensor {key}")
        if shape != needed:
            raise InvalidInput(f"{name}: {key}: shape {needed} is needed, but got {shape}")
    # Weights from before torch 0.4.1 lack this counter, and torch fills it in.
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise InvalidInput(f"{name}: {len(missing)} tensors are missing, the first is {missing[0]}")
    return architecture


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


def _branch(block: Block) -> list[str]:
    """The modules of a block's branch, in order: `squeeze` is one, whatever it consists of."""
    found = [
        layer.name.partition(".")[0] for layer in layers(block) if layer.path is not Path.SHORTCUT
    ]
    return list(dict.fromkeys(found))


def _blocks(architecture: Architecture) -> Iterator[tuple[int, int, Block]]:
    """Every block with the number of its stage, and its own in there."""
    for number, stage in enumerate(architecture.blocks()):
        for index, block in enumerate(stage):
            yield number, index, block


def _conv_norm(ours: str, conv: str, norm: str) -> Names:
    return {f"{ours}.conv": conv, f"{ours}.norm": norm}


def _squeeze(ours: str, reduce: str, expand: str) -> Names:
    return {f"{ours}.squeeze.reduce": reduce, f"{ours}.squeeze.expand": expand}


def _sequential(ours: str, theirs: str, block: Block) -> Names:
    """torchvision's blocks: part k is `theirs.k`, of a convolution (0) and its batch norm (1)."""
    names: Names = {}
    for place, part in enumerate(_branch(block)):
        unit = f"{theirs}.{place}"
        if part == "squeeze":
            names |= _squeeze(ours, f"{unit}.fc1", f"{unit}.fc2")
        else:
            names |= _conv_norm(f"{ours}.{part}", f"{unit}.0", f"{unit}.1")
    return names


def torchvision_efficientnet(architecture: Architecture) -> Names:
    """EfficientNet and EfficientNetV2: a Sequential of stages."""
    last = f"features.{len(architecture.stages) + 1}"
    names = _conv_norm("stem", "features.0.0", "features.0.1")
    for number, index, block in _blocks(architecture):
        ours = f"stages.{number}.{index}"
        names |= _sequential(ours, f"features.{number + 1}.{index}.block", block)
    return names | _conv_norm("head", f"{last}.0", f"{last}.1") | {"classifier": "classifier.1"}


def torchvision_mobilenet_v3(architecture: Architecture) -> Names:
    """A Sequential of blocks, whatever their stage."""
    names = _conv_norm("stem", "features.0.0", "features.0.1")
    place = 0
    for place, (number, index, block) in enumerate(_blocks(architecture), start=1):
        names |= _sequential(f"stages.{number}.{index}", f"features.{place}.block", block)
    names |= _conv_norm("head", f"features.{place + 1}.0", f"features.{place + 1}.1")
    return names | {"hidden.linear": "classifier.0", "classifier": "classifier.3"}


def torchvision_mobilenet_v2(architecture: Architecture) -> Names:
    """A Sequential of blocks; their last convolution and its batch norm stand side by side."""
    names = _conv_norm("stem", "features.0.0", "features.0.1")
    place = 0
    for place, (number, index, block) in enumerate(_blocks(architecture), start=1):
        theirs, last = f"features.{place}.conv", len(_branch(block)) - 1
        ours = f"stages.{number}.{index}"
        names |= _sequential(ours, theirs, block)
        names |= _conv_norm(f"{ours}.project", f"{theirs}.{last}", f"{theirs}.{last + 1}")
    names |= _conv_norm("head", f"features.{place + 1}.0", f"features.{place + 1}.1")
    return names | {"classifier": "classifier.1"}


def torchvision_mnasnet(architecture: Architecture) -> Names:
    """One Sequential; stem and first block unrolled in it, with an activation between."""
    names = _conv_norm("stem", "layers.0", "layers.1")
    names |= _conv_norm("stages.0.0.depthwise", "layers.3", "layers.4")
    names |= _conv_norm("stages.0.0.project", "layers.6", "layers.7")
    for number, index, block in _blocks(architecture):
        theirs = f"layers.{number + 7}.{index}.layers"
        for place, part in enumerate(_branch(block) if number > 0 else ()):
            ours = f"stages.{number}.{index}.{part}"
            names |= _conv_norm(ours, f"{theirs}.{3 * place}", f"{theirs}.{3 * place + 1}")
    return names | _conv_norm("head", "layers.14", "layers.15") | {"classifier": "classifier.1"}


def resnet(architecture: Architecture) -> Names:
    """torchvision's and timm's ResNets alike."""
    names = _conv_norm("stem", "conv1", "bn1")
    for number, index, block in _blocks(architecture):
        ours, theirs = f"stages.{number}.{index}", f"layer{number + 1}.{index}"
        for place, part in enumerate(_branch(block), start=1):
            names |= _conv_norm(f"{ours}.{part}", f"{theirs}.conv{place}", f"{theirs}.bn{place}")
        if block.shortcut is Skip.PROJECTION:
            down = f"{theirs}.downsample"
            names |= _conv_norm(f"{ours}.shortcut", f"{down}.0", f"{down}.1")
    return names | {"classifier": "fc"}


def _timm_block(ours: str, theirs: str, block: Block) -> Names:
    names: Names = {}
    for part in block.operator.form.parts:
        conv, norm = part.timm
        names |= _conv_norm(f"{ours}.{part.name}", f"{theirs}.{conv}", f"{theirs}.{norm}")
    if block.squeeze_channels:
        names |= _squeeze(ours, f"{theirs}.se.conv_reduce", f"{theirs}.se.conv_expand")
    return names


def timm_efficientnet(architecture: Architecture) -> Names:
    """timm's `EfficientNet` class, which has most mobile networks, with our stages."""
    names = _conv_norm("stem", "conv_stem", "bn1")
    for number, index, block in _blocks(architecture):
        names |= _timm_block(f"stages.{number}.{index}", f"blocks.{number}.{index}", block)
    if architecture.head.channels:
        names |= _conv_norm("head", "conv_head", "bn2")
    return names | {"classifier": "classifier"}


def timm_mobilenet_v3(architecture: Architecture) -> Names:
    """timm's `MobileNetV3` class with our stages; the head is a stage of its own there."""
    names = timm_efficientnet(architecture)
    head = f"blocks.{len(architecture.stages)}.0"
    if architecture.head.channels:
        names |= _conv_norm("head", f"{head}.conv", f"{head}.bn1")
    if architecture.head.hidden_norm:
        return names | _conv_norm("hidden", "conv_head", "norm_head")
    return names | {"hidden.linear": "conv_head"}


def _timm_published_v3(architecture: Architecture) -> Names:
    """timm's own MobileNetV3s: there a new stage begins only where the channels change."""
    widths = [stage.channels for stage in architecture.stages]
    changes = [width != before for before, width in zip([0, *widths], widths, strict=False)]
    return _timm_regrouped(architecture, changes)


def _timm_published_v4(architecture: Architecture) -> Names:
    """timm's own MobileNetV4s: there a new stage begins only at a stride."""
    return _timm_regrouped(architecture, [stage.stride > 1 for stage in architecture.stages])


def _timm_regrouped(architecture: Architecture, begins: Sequence[bool]) -> Names:
    """Names where a stage of ours begins one of timm's only where `begins` says so."""
    ours = architecture.stages
    names = timm_mobilenet_v3(architecture)
    moved: Names = {}
    number = index = -1
    for stage, blocks in enumerate(architecture.blocks()):
        for place in range(len(blocks)):
            new = place == 0 and begins[stage]
            number, index = (number + 1, 0) if new else (number, index + 1)
            moved[f"blocks.{stage}.{place}."] = f"blocks.{number}.{index}."
    moved[f"blocks.{len(ours)}.0."] = f"blocks.{number + 1}.0."
    return {mine: _moved(theirs, moved) for mine, theirs in names.items()}


def _moved(name: str, prefixes: Names) -> str:
    for before, after in prefixes.items():
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name


def efficientnet_pytorch(architecture: Architecture) -> Names:
    """EfficientNet-PyTorch (lukemelas) and its port to Lite: one list of blocks."""
    names = _conv_norm("stem", "_conv_stem", "_bn0") | _conv_norm("head", "_conv_head", "_bn1")
    convolutions = {"expand": "_expand_conv", "depthwise": "_depthwise_conv"}
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    for place, (number, index, block) in enumerate(_blocks(architecture)):
        ours, theirs = f"stages.{number}.{index}", f"_blocks.{place}"
        for part in block.operator.form.parts:
            conv = convolutions.get(part.name, "_project_conv")
            names |= _conv_norm(
                f"{ours}.{part.name}", f"{theirs}.{conv}", f"{theirs}.{norms[part.name]}"
            )
        if block.squeeze_channels:
            names |= _squeeze(ours, f"{theirs}._se_reduce", f"{theirs}._se_expand")
    return names | {"classifier": "_fc"}


def _official(numerics: Numerics) -> Numerics:
    """The official code's batch norm and padding, as EfficientNet-PyTorch keeps them."""
    return replace(numerics, padding=Padding.SAME, bn_eps=1e-3, bn_momentum=0.01)


def _tensorflow(numerics: Numerics) -> Numerics:
    """timm's `tf_` networks: TensorFlow's padding and batch norm."""
    return replace(numerics, padding=Padding.SAME, bn_eps=1e-3, bn_momentum=0.1)


def _torch(numerics: Numerics) -> Numerics:
    """timm's others: torch's batch norm."""
    return replace(numerics, padding=Padding.SYMMETRIC, bn_eps=1e-5, bn_momentum=0.1)


def _all_sources() -> Iterator[tuple[str, Source]]:
    for preset in presets.names():
        own = presets.load(preset).numerics
        for name in _torchvision_names(preset):
            yield f"torchvision/{name}", Source(preset, _torchvision_layout(preset), own)
        for name in _timm_names(preset):
            numerics = _tensorflow(own) if name.startswith("tf_") else _torch(own)
            yield f"timm/{name}", _timm_source(preset, numerics)
        if preset.startswith(("efficientnet_b", "efficientnet_lite")):
            name = preset.replace("_", "-")
            yield (
                f"efficientnet_pytorch/{name}",
                Source(preset, efficientnet_pytorch, _official(own)),
            )


def _timm_source(preset: str, numerics: Numerics) -> Source:
    if "resnet" in preset:
        return Source(preset, resnet, numerics)
    if preset.startswith("mobilenet_v3"):
        return Source(preset, _timm_published_v3, numerics, hidden_is_convolution=True)
    if preset.startswith("mobilenet_v4"):
        return Source(preset, _timm_published_v4, numerics)
    return Source(preset, timm_efficientnet, numerics)


def _torchvision_layout(preset: str) -> Callable[[Architecture], Names]:
    for prefix, layout in _TORCHVISION.items():
        if preset.startswith(prefix):
            return layout
    raise AssertionError(preset)


#: torchvision's layouts by the beginning of the preset's name.
_TORCHVISION: Mapping[str, Callable[[Architecture], Names]] = {
    "efficientnet": torchvision_efficientnet,
    "mnasnet": torchvision_mnasnet,
    "mobilenet_v2": torchvision_mobilenet_v2,
    "mobilenet_v3": torchvision_mobilenet_v3,
    "resnet": resnet,
    "wide_resnet": resnet,
}
_MNASNET_WIDTHS = {"050": "0_5", "075": "0_75", "100": "1_0", "130": "1_3"}
#: Presets that torchvision does not have.
_NOT_IN_TORCHVISION = (
    "efficientnet_b8",
    "efficientnet_lite",
    "efficientnet_v2_b",
    "mnasnet_a1",
    "mnasnet_small",
    "mobilenet_v1",
    "mobilenet_v4",
    "resnet200",
)


def _torchvision_names(preset: str) -> list[str]:
    if preset.startswith(_NOT_IN_TORCHVISION):
        return []
    if preset.startswith("mnasnet_b1_"):
        return [f"mnasnet{_MNASNET_WIDTHS[preset[-3:]]}"]
    return [preset]


def _timm_names(preset: str) -> list[str]:
    match preset.split("_"):
        case ["efficientnet", "v2", member]:
            # timm's plain forms of B0…B3 do not exist.
            plain = [] if member.startswith("b") else [f"efficientnetv2_{member}"]
            return [*plain, f"tf_efficientnetv2_{member}"]
        case ["efficientnet", _]:
            return [preset, f"tf_{preset}"]
        case ["mnasnet", "a1"]:
            return ["semnasnet_100"]
        case ["mnasnet", "b1", "130"]:
            return []
        case ["mnasnet", "b1", width]:
            return [f"mnasnet_{width}"]
        case ["mobilenet", "v1" | "v2" as version]:
            return [f"mobilenet{version}_100"]
        case ["mobilenet", "v4", "conv", size]:
            return [f"mobilenetv4_conv_{size}"]
        case ["mobilenet", "v3", size]:
            return [f"mobilenetv3_{size}_100", f"tf_mobilenetv3_{size}_100"]
        case _:
            return [preset]


_SOURCES: Mapping[str, Source] = dict(_all_sources())
