"""timm: a `timm_model.py` that registers a member with timm, and the `config.json` of its hub.

None of timm's models takes the arguments of a searched network, so the file registers a new one:
`timm.create_model("demo_b1", pretrained=True)`. It consists of timm's own blocks and reads the same
weights file, with its tensors renamed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from scaling.formats import Portable, Predict, predictor, quiet, render, run_code
from space.architecture import Architecture
from space.timm_arguments import to_timm
from space.validation import InvalidInput

FILE = "timm_model.py"
CONFIG = "config.json"


def reason_against(architecture: Architecture) -> str | None:
    """Why timm cannot build the network, in a sentence; None if it can."""
    try:
        to_timm(architecture)
    except InvalidInput as error:
        return str(error)
    return None


def config(portable: Portable) -> dict[str, Any]:
    """The content of `config.json`: what timm's hub loader reads, and `Portable.about`.

    timm's own transform resizes once, to the shorter side; `phiscale` has the preprocessing that
    accuracies were measured with. `architecture` is missing if timm cannot build the network.
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
    """The text of `timm_model.py`; raises `InvalidInput` if timm cannot build the network."""
    network, given = portable.architecture, to_timm(portable.architecture)
    stages = [[block.operator.form for block in stage] for stage in network.blocks()]
    forms = {form.timm: form for stage in stages for form in stage}
    layers = {
        code: {part.name: part.timm for part in form.parts} for code, form in sorted(forms.items())
    }
    return render(
        "timm_model.py.jinja",
        portable=portable,
        network=network,
        given=given,
        kinds=[" ".join(form.timm for form in stage) for stage in stages],
        layers=layers,
        ends=_ends(network),
        config=config(portable)["pretrained_cfg"],
        strides={network.stem.stride, *network.strides},
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


def require() -> ModuleType:
    """timm; raises `InvalidInput`, which says what to do, if it cannot be imported."""
    try:
        with quiet():
            return importlib.import_module("timm")
    except ImportError as error:
        raise InvalidInput(f"timm is needed, and {error}: pip install timm") from None
    except RuntimeError as error:  # torchvision's, for another torch
        raise InvalidInput(f"timm is needed, and cannot be imported ({error})") from None


def open_(code: bytes, path: Path, portable: Portable) -> Predict:
    """Runs the network that timm builds from trusted `code`, which was read from `path`."""
    timm = require()
    with quiet():
        run_code(code, path, f"phiscale_{portable.identifier}_timm")
        network = timm.create_model(portable.identifier, pretrained=True).eval()
    return predictor(network)
