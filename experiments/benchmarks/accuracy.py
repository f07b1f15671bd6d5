"""Accuracy under speed: one network, 30 epochs of CIFAR-10, by phiscale and by the standard recipe.

`python -m experiments.benchmarks.accuracy --data CIFAR10` writes
`experiments/results/accuracy.json` after every training; what is there is not trained again.

The network is the smallest of the space `mnasnet_small` (`small`). The standard recipe is that of
`experiments.benchmarks.loops`: SGD with Nesterov momentum 0.9, rate 0.2 for 64 images after a
warm-up of an epoch, cosine to zero, weight decay 5e-4, label smoothing 0.1, crops of images padded
by 4 pixels, flips. phiscale trains once with the recipe's defaults, which are the same but for
averaged weights, and once with fewer pixels at first (`GROWING`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks import loops
from experiments.benchmarks.training import SPACE
from experiments.config import DataConfig, TrainConfig
from experiments.data.load import Data, load
from experiments.evaluators.training import TrainingEvaluator
from experiments.runs.environment import environment
from experiments.training import machine
from space import choices
from space.architecture import Architecture, Skip
from space.cost import cost
from space.evaluation import Budget
from space.files import write_file

EPOCHS = 30
GROWING = TrainConfig(resolutions=(0.75, 1.0))
SEEDS = (0, 1)
RESULT = Path(__file__).parents[1] / "results" / "accuracy.json"


def main() -> None:
    """Trains what is missing and prints the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/cifar10", help="CIFAR-10")
    parser.add_argument("--images", type=int, default=50_000, help="training images")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    config = DataConfig(source=given.data, held_out=10, limit=given.images)
    data = load(config, resolution=32, seed=0)
    every = np.arange(0, len(data.test), len(data.test) // given.test_images)
    data = replace(data, test=data.test.subset(every))
    network, device = small(), machine.choose_device(given.device)
    ways: dict[str, Callable[[int], float]] = {
        "standard recipe": lambda seed: _standard(network, data, device, seed),
        "phiscale": lambda seed: _phiscale(network, data, TrainConfig(), device, seed),
        "phiscale, growing": lambda seed: _phiscale(network, data, GROWING, device, seed),
    }
    about = {
        "epochs": EPOCHS,
        "images": len(data.full_train),
        "test_images": len(data.test),
        "macs": cost(network).macs,
    }
    found = _before(given.result, about)
    for seed in SEEDS:
        for name, train in ways.items():
            accuracies = found["accuracy"].setdefault(name, {})
            if str(seed) not in accuracies:
                accuracies[str(seed)] = train(seed)
                write_file(given.result, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for name, accuracies in found["accuracy"].items():
        print(f"{name:20}", *(f"{accuracy:.2%}" for accuracy in accuracies.values()))


def small() -> Architecture:
    """The space's separable network of the least width and depth."""
    space = choices.load(SPACE).adapted(num_classes=10, resolution=32)
    least = {name: min(values) for name, values in space.choices.items()}
    operators = {name: "separable" for name in least if name.endswith(".operator")}
    skips = {name: Skip.IDENTITY for name in least if name.endswith(".skip")}
    return space.decode(least | operators | skips)


def _before(result: Path, about: dict[str, Any]) -> dict[str, Any]:
    if result.is_file():
        before: dict[str, Any] = json.loads(result.read_text("utf-8"))
        if before["setting"] == about:
            return before
    return {
        "command": "python -m experiments.benchmarks.accuracy",
        "setting": about,
        "hardware": environment(),
        "accuracy": {},
    }


def _standard(network: Architecture, data: Data, device: torch.device, seed: int) -> float:
    torch.manual_seed(seed)
    on_gpu = device.type == "cuda"
    loop = loops.Loop(advised=True, device=device, mixed_precision=on_gpu)
    sets = loops.decoded(data.full_train, data.test)
    return loops.run(loops.plain(network), *sets, loop, TrainConfig(), EPOCHS).accuracy


def _phiscale(
    network: Architecture, data: Data, config: TrainConfig, device: torch.device, seed: int
) -> float:
    with tempfile.TemporaryDirectory() as folder:
        evaluate = TrainingEvaluator(
            data.full_train, data.test, config, Path(folder), device=device.type
        )
        told = evaluate(network, Budget(EPOCHS, seed=seed), lambda _: False)
    assert told.accuracy is not None, told.reason
    return told.accuracy


if __name__ == "__main__":
    main()
