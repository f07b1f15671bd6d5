"""Weights of torchvision, timm and EfficientNet-PyTorch, to the matching preset and back.

A source is the name of a network there, as in `torchvision/efficientnet_b0`. Its layout says how
each of our modules is called in its state dict; nothing but names changes on the way, and nothing
is left over on either side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from space import presets
from space.architecture import Architecture, Block, Numerics, Padding, Skip
from space.layers import Path, layers, tensor_shapes
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

#: Our modules' names, and those of another library.
Layout = Callable[[Architecture], Names]


@dataclass(frozen=True, slots=True)
class Source:
    """A network of another library: the preset that it is, its names, and its own numerics."""

    preset: str
    names: Layout
    numerics: Numerics

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

    def fits(name: str) -> bool:
        try:
            from_source(name, state)
        except InvalidInput:
            return False
        return True

    def rank(name: str) -> tuple[bool, int]:
        network, plain = name.partition("/")[2].replace("-", "_"), hint.lower().replace("-", "_")
        return network not in plain, -len(network) if network in plain else 0

    return tuple(sorted(filter(fits, _SOURCES), key=rank))


def from_source(name: str, state: State) -> tuple[Architecture, dict[str, Tensor]]:
    """The architecture and our state dict for weights of a source.

    Classes and input channels are those of the weights. Raises `InvalidInput` for tensors that are
    missing, left over, or of another shape.
    """
    given = source(name)
    ours = {theirs: module for module, theirs in given.names(given.architecture()).items()}
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        if module not in ours:
            raise InvalidInput(f"{name}: unexpected tensor {key}")
        linear = ours[module] == "hidden.linear" and tensor.shape[2:] == (1, 1)
        found[f"{ours[module]}.{kind}"] = tensor.flatten(1) if linear else tensor
    return _checked(name, given, found), found


def to_source(name: str, state: State) -> dict[str, Tensor]:
    """A source's state dict for weights of the network of its preset.

    Raises `InvalidInput` for tensors that are missing, left over, or of another shape.
    """
    given = source(name)
    names, found = given.names(_checked(name, given, state)), {}
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        # timm's hidden layer is a 1×1 convolution.
        convolution = names[module] == "conv_head" and tensor.ndim == 2
        found[f"{names[module]}.{kind}"] = tensor[:, :, None, None] if convolution else tensor
    return found


def _checked(name: str, given: Source, state: State) -> Architecture:
    """The architecture of a whole state dict of ours, which came from or goes to a source."""
    sizes = []
    for key, axes, axis in (("classifier.weight", 2, 0), ("stem.conv.weight", 4, 1)):
        if key not in state:
            raise InvalidInput(f"{name}: these are not its weights: {key} is missing")
        if state[key].ndim != axes:
            shape = tuple(state[key].shape)
            raise InvalidInput(f"{name}: {key}: {axes} axes are needed, but got shape {shape}")
        sizes.append(state[key].shape[axis])
    try:
        architecture = given.architecture(*sizes)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}") from None
    expected = tensor_shapes(architecture)
    for key, tensor in state.items():
        needed, shape = expected.get(key), tuple(tensor.shape)
        if needed is None:
            raise InvalidInput(f"{name}: unexpected tensor {key}")
        if shape != needed:
            raise InvalidInput(f"{name}: {key}: shape {needed} is needed, but got {shape}")
    # Weights from before torch 0.4.1 lack this counter, and torch fills it in.
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise InvalidInput(f"{name}: {len(missing)} tensors are missing, the first is {missing[0]}")
    return architecture


def _blocks(architecture: Architecture) -> Iterator[tuple[str, int, int, Block]]:
    """Every block with its name, the number of its stage, and its own number there."""
    for number, stage in enumerate(architecture.blocks()):
        for index, block in enumerate(stage):
            yield f"stages.{number}.{index}", number, index, block


def _branch(block: Block) -> list[str]:
    """The modules of a block's branch, in order: `squeeze` is one, whatever it consists of."""
    names = [layer.name for layer in layers(block) if layer.path is not Path.SHORTCUT]
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def _conv_norm(ours: str, conv: str, norm: str) -> Names:
    return {f"{ours}.conv": conv, f"{ours}.norm": norm}


def _squeeze(ours: str, reduce: str, expand: str) -> Names:
    return {f"{ours}.squeeze.reduce": reduce, f"{ours}.squeeze.expand": expand}


def _torchvision(architecture: Architecture, *, by_stage: bool, inside: str = "block") -> Names:
    """`features` is a Sequential of stem, stages or blocks, and head; `inside` is a block's branch.

    Part k of a branch is k, of a convolution (0) and its batch norm (1).
    """
    names, last = _conv_norm("stem", "features.0.0", "features.0.1"), 0
    for place, (ours, number, index, block) in enumerate(_blocks(architecture), start=1):
        last = number + 1 if by_stage else place
        theirs = f"features.{last}.{index}.{inside}" if by_stage else f"features.{last}.{inside}"
        for count, part in enumerate(_branch(block)):
            unit = f"{theirs}.{count}"
            if part == "squeeze":
                names |= _squeeze(ours, f"{unit}.fc1", f"{unit}.fc2")
            else:
                names |= _conv_norm(f"{ours}.{part}", f"{unit}.0", f"{unit}.1")
    names |= _conv_norm("head", f"features.{last + 1}.0", f"features.{last + 1}.1")
    if architecture.head.hidden:
        return names | {"hidden.linear": "classifier.0", "classifier": "classifier.3"}
    return names | {"classifier": "classifier.1"}


def _torchvision_mobilenet_v2(architecture: Architecture) -> Names:
    """A branch's last convolution and batch norm stand side by side in it."""
    names = _torchvision(architecture, by_stage=False, inside="conv")
    for ours, *_ in _blocks(architecture):
        branch, last, _ = names[f"{ours}.project.conv"].rsplit(".", 2)
        names |= _conv_norm(f"{ours}.project", f"{branch}.{last}", f"{branch}.{int(last) + 1}")
    return names


def _torchvision_mnasnet(architecture: Architecture) -> Names:
    """One Sequential; stem and first block unrolled in it, with an activation between."""
    names = _conv_norm("stem", "layers.0", "layers.1")
    names |= _conv_norm("stages.0.0.depthwise", "layers.3", "layers.4")
    names |= _conv_norm("stages.0.0.project", "layers.6", "layers.7")
    for ours, number, index, block in _blocks(architecture):
        theirs = f"layers.{number + 7}.{index}.layers"
        for place, part in enumerate(_branch(block) if number > 0 else ()):
            unit = f"{theirs}.{3 * place}", f"{theirs}.{3 * place + 1}"
            names |= _conv_norm(f"{ours}.{part}", *unit)
    return names | _conv_norm("head", "layers.14", "layers.15") | {"classifier": "classifier.1"}


def _resnet(architecture: Architecture) -> Names:
    """torchvision's and timm's ResNets alike."""
    names = _conv_norm("stem", "conv1", "bn1") | {"classifier": "fc"}
    for ours, number, index, block in _blocks(architecture):
        theirs = f"layer{number + 1}.{index}"
        for place, part in enumerate(_branch(block), start=1):
            names |= _conv_norm(f"{ours}.{part}", f"{theirs}.conv{place}", f"{theirs}.bn{place}")
        if block.shortcut is Skip.PROJECTION:
            down = f"{theirs}.downsample"
            names |= _conv_norm(f"{ours}.shortcut", f"{down}.0", f"{down}.1")
    return names


def timm_layout(architecture: Architecture, begins: list[bool] | None = None) -> Names:
    """timm's `EfficientNet` class, or where there is a hidden layer, its `MobileNetV3`.

    A stage of ours begins one of timm's where `begins` says so, or everywhere.
    """
    names = _conv_norm("stem", "conv_stem", "bn1") | {"classifier": "classifier"}
    stage = place = -1
    for ours, number, index, block in _blocks(architecture):
        new = index == 0 and (begins is None or begins[number])
        stage, place = (stage + 1, 0) if new else (stage, place + 1)
        theirs = f"blocks.{stage}.{place}"
        for part in block.operator.form.parts:
            conv, norm = part.timm
            names |= _conv_norm(f"{ours}.{part.name}", f"{theirs}.{conv}", f"{theirs}.{norm}")
        if block.squeeze_channels:
            names |= _squeeze(ours, f"{theirs}.se.conv_reduce", f"{theirs}.se.conv_expand")
    head = architecture.head
    if head.hidden:  # the head is a stage of its own
        names |= _conv_norm("head", f"blocks.{stage + 1}.0.conv", f"blocks.{stage + 1}.0.bn1")
        hidden = _conv_norm("hidden", "conv_head", "norm_head")
        return names | (hidden if head.hidden_norm else {"hidden.linear": "conv_head"})
    return names | (_conv_norm("head", "conv_head", "bn2") if head.channels else {})


def _timm_mobilenet_v3(architecture: Architecture) -> Names:
    """A stage of timm's begins only where the channels change."""
    widths = [stage.channels for stage in architecture.stages]
    changes = [width != before for before, width in zip([0, *widths], widths, strict=False)]
    return timm_layout(architecture, changes)


def _timm_mobilenet_v4(architecture: Architecture) -> Names:
    """A stage of timm's begins only at a stride."""
    return timm_layout(architecture, [stage.stride > 1 for stage in architecture.stages])


def _efficientnet_pytorch(architecture: Architecture) -> Names:
    """EfficientNet-PyTorch (lukemelas) and its port to Lite: one list of blocks."""
    names = _conv_norm("stem", "_conv_stem", "_bn0") | _conv_norm("head", "_conv_head", "_bn1")
    convolutions = {"expand": "_expand_conv", "depthwise": "_depthwise_conv"}
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    for place, (ours, _, _, block) in enumerate(_blocks(architecture)):
        theirs = f"_blocks.{place}"
        for part in (part.name for part in block.operator.form.parts):
            conv = convolutions.get(part, "_project_conv")
            names |= _conv_norm(f"{ours}.{part}", f"{theirs}.{conv}", f"{theirs}.{norms[part]}")
        if block.squeeze_channels:
            names |= _squeeze(ours, f"{theirs}._se_reduce", f"{theirs}._se_expand")
    return names | {"classifier": "_fc"}


#: The presets that torchvision has, and their layouts.
_TORCHVISION: Mapping[str, Layout] = {
    r"efficientnet_(b[0-7]|v2_[sml])": partial(_torchvision, by_stage=True),
    r"mnasnet_b1_\d+": _torchvision_mnasnet,
    r"mobilenet_v2": _torchvision_mobilenet_v2,
    r"mobilenet_v3_\w+": partial(_torchvision, by_stage=False),
    r"resnet(18|34|50|101|152)|wide_resnet\w+": _resnet,
}


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


def _timm_published(preset: str) -> Layout:
    if "resnet" in preset:
        return _resnet
    published = {"mobilenet_v3": _timm_mobilenet_v3, "mobilenet_v4": _timm_mobilenet_v4}
    return published.get(preset[:12], timm_layout)


def _all_sources() -> Iterator[tuple[str, Source]]:
    for preset in presets.names():
        own = presets.load(preset).numerics
        for pattern, layout in _TORCHVISION.items():
            if re.fullmatch(pattern, preset):
                name = preset
                if "mnasnet" in preset:  # 050 is 0_5 there
                    name = f"mnasnet{int(preset[-3:]) / 100}".replace(".", "_")
                yield f"torchvision/{name}", Source(preset, layout, own)
        for name in _timm_names(preset):
            # timm's `tf_` networks have TensorFlow's padding and batch norm, its others torch's.
            padding, eps = (
                (Padding.SAME, 1e-3) if name.startswith("tf_") else (Padding.SYMMETRIC, 1e-5)
            )
            numerics = replace(own, padding=padding, bn_eps=eps, bn_momentum=0.1)
            yield f"timm/{name}", Source(preset, _timm_published(preset), numerics)
        if preset.startswith(("efficientnet_b", "efficientnet_lite")):
            # The official code's batch norm and padding.
            numerics = replace(own, padding=Padding.SAME, bn_eps=1e-3, bn_momentum=0.01)
            name = preset.replace("_", "-")
            yield f"efficientnet_pytorch/{name}", Source(preset, _efficientnet_pytorch, numerics)


_SOURCES: Mapping[str, Source] = dict(_all_sources())
