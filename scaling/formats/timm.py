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
from typing import Any

from scaling.formats import Portable, Predict, predictor, run_code
from space.architecture import Architecture
from space.timm_arguments import to_timm
from space.validation import InvalidInput

FILE = "timm_model.py"
CONFIG = "config.json"


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
    network, given = portable.architecture, to_timm(portable.architecture)
    stages = [[block.operator.form for block in stage] for stage in network.blocks()]
    forms = {form.timm: form for stage in stages for form in stage}
    layers = {
        code: {part.name: part.timm for part in form.parts} for code, form in sorted(forms.items())
    }
    hidden = network.head.hidden and not network.head.hidden_norm
    return _TEMPLATE.format(
        title=portable.name,
        identifier=portable.identifier,
        strings="".join(f"    {json.dumps(list(strings))},\n" for strings in given["arch_def"]),
        kinds=json.dumps([" ".join(form.timm for form in stage) for stage in stages]),
        layers="".join(f"    {json.dumps(k)}: {json.dumps(v)},\n" for k, v in layers.items()),
        ends=json.dumps(_ends(network)),
        model=given["model"],
        module=given["model"].lower(),
        arguments="".join(f"        {line},\n" for line in _arguments(given)),
        squeeze=", ".join(_squeeze(given)),
        config=_config(portable),
        hidden=_HIDDEN if hidden else "",
        stages=len(stages),
        maps=len({network.stem.stride, *network.strides}),
        stride=_STRIDE if given["stem_stride"] == 1 else "",
    )


def _ends(network: Architecture) -> dict[str, list[str]]:
    """timm's names of the convolution and the norm of stem, head and hidden layer."""
    head = f"blocks.{len(network.stages)}.0"
    ends = {"stem": ["conv_stem", "bn1"], "head": ["conv_head", "bn2"]}
    if network.head.hidden:
        ends["head"] = [f"{head}.conv", f"{head}.bn1"]
    if network.head.hidden_norm:
        ends["hidden"] = ["conv_head", "norm_head"]
    return ends


def _arguments(given: dict[str, Any]) -> list[str]:
    names = ("stem_size", "num_features", "in_chans", "num_classes", "pad_type")
    rates = ("drop_rate", "drop_path_rate")
    lines = [f'"{name}": {json.dumps(given[name])}' for name in (*names, *rates)]
    lines.append(f'"act_layer": get_act_layer({json.dumps(given["act_layer"])})')
    norm = f"eps={given['bn_eps']}, momentum={given['bn_momentum']}"
    lines.append(f'"norm_layer": partial(nn.BatchNorm2d, {norm})')
    if given["se_from_exp"]:
        lines.append('"se_from_exp": True')
    if given["head_norm"]:
        lines += ['"head_norm": True', '"head_bias": False']
    return lines


def _squeeze(given: dict[str, Any]) -> list[str]:
    found = [f"gate_layer={json.dumps(given['se_gate'])}"]
    if given["se_act_layer"]:
        found.append(f"force_act_layer=get_act_layer({json.dumps(given['se_act_layer'])})")
    found.append(f"rd_round_fn={'round_channels' if given['se_divisor'] == 8 else 'None'}")
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
    for info in model.feature_info.info if features else ():
        info["reduction"] //= 2
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
from timm.models.{module} import {model}, {model}Features
from torch import Tensor, nn

# fmt: off
ARCHITECTURE = [
{strings}]
KINDS = {kinds}  # of each stage's blocks
LAYERS = {{  # of each kind: the convolution and the norm of each layer in model.safetensors
{layers}}}
CONFIG = {{
    "file": str(Path(__file__).with_name("model.safetensors")),
{config}}}
# fmt: on
HEAD = ("num_classes", "num_features", "head_norm", "head_bias", "global_pool")
default_cfgs = generate_default_cfgs({{"{identifier}": CONFIG}})


def rename(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors of model.safetensors, called as timm calls them."""
    ends, found = {ends}, {{}}
    for name, tensor in state.items():
        part, *rest = name.split(".")
        kind = rest[-1]
        if part in ends:
            found[f"{{ends[part][rest[0] == 'norm']}}.{{kind}}"] = tensor
        elif part == "stages" and rest[2] == "squeeze":
            found[f"blocks.{{rest[0]}}.{{rest[1]}}.se.conv_{{rest[3]}}.{{kind}}"] = tensor
        elif part == "stages":
            layers = LAYERS[KINDS[int(rest[0])].split()[int(rest[1])]]
            layer = layers[rest[2]][rest[3] == "norm"]
            found[f"blocks.{{rest[0]}}.{{rest[1]}}.{{layer}}.{{kind}}"] = tensor
{hidden}\
        else:
            found[name] = tensor
    return found


@register_model
def {identifier}(pretrained: bool = False, **changes: Any) -> nn.Module:
    """The network, or its last map at each stride (`features_only`).

    Other `changes` are those of timm's class, such as num_classes.
    """
    arguments = {{
        "block_args": decode_arch_def(ARCHITECTURE),
        "round_chs_fn": partial(round_channels, multiplier=0),  # channels stay as they are
        "se_layer": partial(SqueezeExcite, {squeeze}),
{arguments}\
    }}
    features = changes.pop("features_only", False)
    if features:
        arguments["block_args"] = decode_arch_def(ARCHITECTURE[:{stages}])
        arguments["out_indices"] = tuple(range({maps}))
    model: Any = build_model_with_cfg(
        {model}Features if features else {model},
        "{identifier}",
        pretrained,
        pretrained_filter_fn=rename,
        pretrained_strict=not features,
        kwargs_filter=HEAD if features else None,
        **arguments | changes,
    )
{stride}\
    network: nn.Module = model
    return network
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
    timm = require()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_code(code, path, f"phiscale_{portable.identifier}_timm")
        network = timm.create_model(portable.identifier, pretrained=True).eval()
    return predictor(network)
