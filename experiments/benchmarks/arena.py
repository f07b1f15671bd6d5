"""The exact SRAM of networks beside the arena that LiteRT for Microcontrollers allocates.

    python -m experiments.benchmarks.arena

Needs the extra `litert`. Random networks of three spaces, with random weights, are converted and
quantised as `phiscale export --to litert --int8` does. A network is a unit of work, some 20 seconds
of one core: it is written as it ends, and a second start goes on after the last one.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from experiments.benchmarks.cost import hardware
from experiments.runs.environment import environment
from scaling.formats import Portable, Preprocessing, litert
from space import choices, moves
from space.architecture import Architecture
from space.cost import cost
from space.device import Precision, device_memory
from space.files import write_file
from space.network import build

RESULT = Path(__file__).parents[1] / "results" / "arena.json"
#: Spaces, each at a resolution in pixels.
SPACES = {"efficientnet_lite_small": 48, "efficientnet_small": 32, "mnasnet_small": 32}
NETWORKS = 100
_PACKAGES = ("tflite-micro", "litert-torch", "ai-edge-litert", "ai-edge-quantizer")


def main(
    networks: Annotated[int, typer.Option(help="Networks to measure.")] = NETWORKS,
    result: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULT,
) -> None:
    """Measures what is missing, network by network, and prints the ratios."""
    torch.set_num_threads(1)
    found = json.loads(result.read_text("utf-8")) if result.is_file() else {"units": []}
    units = found["units"]
    for number in range(len(units), networks):
        units.append(measured(number))
        versions = {package: version(package) for package in _PACKAGES}
        found |= {"about": hardware() | environment(), "versions": versions}
        write_file(result, json.dumps(found, indent=1) + "\n")
    for space in (*SPACES, ""):
        own = [unit for unit in units if unit["space"] == space or not space]
        for name, arena in (("head", "head"), ("file", "file")):
            exact = "sram" if name == "head" else "flash"
            ratios = [unit[arena] / unit[exact] for unit in own]
            quantiles = np.quantile(ratios, (0, 0.25, 0.5, 0.75, 1)).round(3).tolist()
            print(f"{space or 'all'}: {name} / {exact} {quantiles} (0 to 100 %, {len(own)})")


def drawn(number: int, rng: np.random.Generator) -> tuple[str, Architecture]:
    """A space's name, and random network `number`, of that space."""
    name, resolution = list(SPACES.items())[number % len(SPACES)]
    space = choices.load(name).adapted(num_classes=10, resolution=resolution)
    sizes = np.array([len(values) for values in space.choices.values()])
    (row,) = moves.uniform(sizes, 1, rng)
    offers = zip(space.choices.items(), row.tolist(), strict=True)
    return name, space.decode({choice: values[index] for (choice, values), index in offers})


def measured(number: int) -> dict[str, Any]:
    """Random network `number`: its exact bytes, and those of its file and its arena."""
    rng = np.random.default_rng(number)
    name, network = drawn(number, rng)
    exact = device_memory(network, Precision.INT8)
    data = _converted(network, rng)
    arena = litert.arena(data)
    assert arena, "needs the package tflite-micro"
    return {
        "space": name,
        "key": network.key,
        **exact._asdict(),
        "macs": cost(network).macs,
        "file": len(data),
        **arena._asdict(),
    }


def _converted(network: Architecture, rng: np.random.Generator) -> bytes:
    classes = tuple(map(str, range(network.num_classes)))
    portable = Portable("random", network, classes, Preprocessing((0.5,) * 3, (0.5,) * 3))
    shape = (8, network.in_channels, network.resolution, network.resolution)
    calibration = rng.standard_normal(shape, np.float32)
    (data,) = litert.content(portable, build(network).eval(), calibration)
    return data


if __name__ == "__main__":
    typer.run(main)
