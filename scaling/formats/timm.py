"""timm: a `timm_model.py` that registers a member with timm, and the `config.json` of its hub.

No name that timm ships takes the arguments of a network that was searched, so the file gives timm
a name for it: `timm.create_model("demo_b1", pretrained=True)`. The network is made of timm's own
blocks, with the same weights file, whose tensors are renamed as they are read.
"""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scaling.formats import Portable, Predict, run_code
from space.architecture import Architecture, Operator
from space.timm_arguments import to_timm
from space.validation import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "timm_model.py"
CONFIG = "config.json"

#: The class of each operator in timm, and its layers, called as ours are.
_CLASSES: dict[Operator, tuple[str, dict[str, str]]] = {
    Operator.CONV: ("ConvBnAct", {"conv": "conv"}),
    Operator.SEPARABLE: (
        "DepthwiseSeparableConv",
        {"depthwise": "conv_dw", "project": "conv_pw"},
    ),
    Operator.INVERTED: (
        "InvertedResidual",
        {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"},
    ),
    Operator.FUSED: ("EdgeResidual", {"expand": "conv_exp", "project": "conv_pwl"}),
}


def reason_against(architecture: Architecture) -> str | None:
    """Why timm cannot build the network, in a sentence; None where it can."""
    try:
        to_timm(architecture)
    except InvalidInput as error:
        return str(error)
    return None


def config(portable: Portable) -> dict[str, Any]:
    """The content of `config.json`: what timm's hub loader reads, and `Portable.about`.

    timm's own transform resizes once, to the shorter side; what accuracies were measured with is
    under `phiscale`. A network that timm cannot build has no `architecture` here.
    """
    network, given = portable.architecture, portable.preprocessing
    data: dict[str, Any] = {
        "num_classes": network.num_classes,
        "num_features": network.head.hidden or network.out_channels,
        "label_names": list(portable.classes),
        "phiscale": {key: value for key, value in portable.about().items() if key != "classes"},
    }
    if reason_against(network) is not None:
        return data
    return {
        "architecture": portable.identifier,
        **data,
        "pretrained_cfg": {
            "input_size": [network.in_channels, network.resolution, network.resolution],
            "interpolation": given.square,
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(given.mean),
            "std": list(given.std),
            "num_classes": network.num_classes,
            "first_conv": "conv_stem",
            "classifier": "classifier",
        },
    }


def source(portable: Portable) -> str:
    """The text of `timm_model.py`; raises `InvalidInput` for what timm cannot build."""
    said = to_timm(portable.architecture)
    operators = {block.operator for stage in portable.architecture.blocks() for block in stage}
    classes = dict(_CLASSES[operator] for operator in _CLASSES if operator in operators)
    strings = "".join(f"    {json.dumps(list(strings))},\n" for strings in said["arch_def"])
    layers = "".join(
        f"    {json.dumps(name)}: {json.dumps(names)},\n" for name, names in classes.items()
    )
    return _TEMPLATE.format(
        title=portable.name,
        identifier=portable.identifier,
        strings=strings,
        layers=layers,
        model=said["model"],
        module=said["model"].lower(),
        arguments="".join(f"        {line},\n" for line in _arguments(said)),
        squeeze=", ".join(_squeeze(said)),
        config=_config(portable),
        hidden=_HIDDEN if said["model"] == "MobileNetV3" else "",
        head=_head(portable.architecture),
        stride=_STRIDE if said["stem_stride"] == 1 else "",
    )


def _head(architecture: Architecture) -> str:
    if not architecture.head.hidden:
        return '{"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2")}'
    head = f"blocks.{len(architecture.stages)}.0"
    return f'{{"stem": ("conv_stem", "bn1"), "head": ("{head}.conv", "{head}.bn1")}}'


def _arguments(said: dict[str, Any]) -> list[str]:
    names = ("stem_size", "num_features", "in_chans", "num_classes", "pad_type")
    rates = ("drop_rate", "drop_path_rate")
    lines = [f'"{name}": {json.dumps(said[name])}' for name in (*names, *rates)]
    lines.append(f'"act_layer": get_act_layer({json.dumps(said["act_layer"])})')
    norm = f"eps={said['bn_eps']}, momentum={said['bn_momentum']}"
    lines.append(f'"norm_layer": partial(nn.BatchNorm2d, {norm})')
    if said["se_from_exp"]:
        lines.append('"se_from_exp": True')
    return lines


def _squeeze(said: dict[str, Any]) -> list[str]:
    found = [f"gate_layer={json.dumps(said['se_gate'])}"]
    if said["se_act_layer"]:
        found.append(f"force_act_layer=get_act_layer({json.dumps(said['se_act_layer'])})")
    found.append(f"rd_round_fn={'round_channels' if said['se_divisor'] == 8 else 'None'}")
    return found


def _config(portable: Portable) -> str:
    given = config(portable)["pretrained_cfg"]
    return "".join(
        f"    {json.dumps(name)}: {json.dumps(value)},\n" for name, value in given.items()
    )


_HIDDEN = """\
        elif name == "hidden.linear.weight":
            found["conv_head.weight"] = tensor[:, :, None, None]
        elif name == "hidden.linear.bias":
            found["conv_head.bias"] = tensor
"""

_STRIDE = """\
    model.conv_stem.stride = (1, 1)  # timm's builder knows 2 alone
"""

_TEMPLATE = '''\
"""{title} for timm: importing this file gives timm the name {identifier}.

    import timm, timm_model
    model = timm.create_model("{identifier}", pretrained=True)

Needs timm. Written by phiscale.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from timm.layers import get_act_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.{module} import {model}
from torch import Tensor, nn

# fmt: off
ARCHITECTURE = [
{strings}]
LAYERS = {{  # of timm's blocks, by their names in model.safetensors
{layers}}}
CONFIG = {{
    "file": str(Path(__file__).with_name("model.safetensors")),
{config}}}
# fmt: on
default_cfgs = generate_default_cfgs({{"{identifier}": CONFIG}})


def rename(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors of model.safetensors, called as timm calls them."""
    ends, found = {head}, {{}}
    for name, tensor in state.items():
        part, *rest = name.split(".")
        kind = rest[-1]
        if part in ends:
            found[f"{{ends[part][rest[0] == 'norm']}}.{{kind}}"] = tensor
        elif part == "stages" and rest[2] == "squeeze":
            found[f"blocks.{{rest[0]}}.{{rest[1]}}.se.conv_{{rest[3]}}.{{kind}}"] = tensor
        elif part == "stages":
            block = model.get_submodule(f"blocks.{{rest[0]}}.{{rest[1]}}")
            layers = LAYERS[type(block).__name__]
            place = list(layers).index(rest[2]) + 1
            layer = f"bn{{place}}" if rest[3] == "norm" else layers[rest[2]]
            found[f"blocks.{{rest[0]}}.{{rest[1]}}.{{layer}}.{{kind}}"] = tensor
{hidden}\
        else:
            found[name] = tensor
    return found


@register_model
def {identifier}(pretrained: bool = False, **changes: Any) -> nn.Module:
    """The network; `changes` are those of timm's class, such as num_classes."""
    arguments = {{
        "block_args": decode_arch_def(ARCHITECTURE),
        "round_chs_fn": partial(round_channels, multiplier=0),  # channels stay as they are
        "se_layer": partial(SqueezeExcite, {squeeze}),
{arguments}\
    }}
    arguments |= changes
    model: nn.Module = build_model_with_cfg(
        {model}, "{identifier}", pretrained, pretrained_filter_fn=rename, **arguments
    )
{stride}\
    return model
'''


def require() -> ModuleType:
    """timm; raises `InvalidInput`, saying what to do, where it cannot be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("timm")
    except ImportError as error:
        raise InvalidInput(f"timm is needed, and {error}: pip install timm") from None
    except RuntimeError as error:  # torchvision's, for another torch
        raise InvalidInput(f"timm is needed, and cannot be imported ({error})") from None


def available() -> bool:
    """Whether timm can be imported."""
    try:
        require()
    except InvalidInput:
        return False
    return True


def open_(code: bytes, path: Path, portable: Portable) -> Predict:
    """Runs the network that timm builds by `code`, which is `path`'s and trusted. Needs timm."""
    import torch

    timm = require()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_code(code, path, f"phiscale_{portable.identifier}_timm")
        network = timm.create_model(portable.identifier, pretrained=True).eval()

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    return predict
