"""What quantisation to 8 bits costs: networks with ReLU6 alone against ones with SiLU and gates.

    python -m experiments.benchmarks.int8 ../shared/data/clothing

For each seed, a random network of each space within the same MACs, trained from fresh weights with
the same settings and measured on the test images before and after quantisation, with ranges from
training images. A network of a seed is a unit of work, some 3 minutes of one core: it is written as
it ends, and a second start goes on after the last one.
"""

from __future__ import annotations

import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy import stats

from experiments.benchmarks.cost import hardware
from experiments.config import DataConfig, TrainConfig
from experiments.data.load import Data, load
from experiments.evaluators.training import TrainingEvaluator
from experiments.runs.environment import environment
from search.candidates import Candidates
from search.objective import Bounds, Objective
from space import choices
from space.cost import cost
from space.device import Precision
from space.evaluation import Budget
from space.files import write_file

RESULT = Path(__file__).parents[1] / "results" / "int8.json"
#: What quantises well, and what it is compared with.
LITE, GATED = "efficientnet_lite_small", "efficientnet_small"
RESOLUTION, MACS, EPOCHS, SEEDS = 48, (12_000_000, 16_000_000), 16, 5


def main(
    folder: Annotated[Path, typer.Argument(help="Photos: train, validation and test folders.")],
    epochs: Annotated[int, typer.Option(help="Epochs of a training run.")] = EPOCHS,
    seeds: Annotated[int, typer.Option(help="Seeds to measure.")] = SEEDS,
    result: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULT,
) -> None:
    """Measures what is missing, network by network, and prints what 8 bits lose."""
    torch.set_num_threads(1)
    found = json.loads(result.read_text("utf-8")) if result.is_file() else {"units": []}
    units = found["units"]
    done = {(unit["space"], unit["seed"]) for unit in units}
    data = load(DataConfig(source=str(folder)), resolution=RESOLUTION, seed=0)
    for seed, space in product(range(seeds), (LITE, GATED)):
        if (space, seed) not in done:
            units.append({"space": space, "seed": seed, **measured(data, space, seed, epochs)})
            settings = {"epochs": epochs, "resolution": RESOLUTION, "macs": MACS}
            found |= {"about": hardware() | environment(), **settings}
            write_file(result, json.dumps(found, indent=1) + "\n")
    compare(units)


def measured(data: Data, space: str, seed: int, epochs: int) -> dict[str, Any]:
    """The accuracies of a random network of `space`, and what it is."""
    offered = choices.load(space).adapted(num_classes=len(data.classes), resolution=RESOLUTION)
    candidates = Candidates(offered, Objective(target=MACS[1], bounds=Bounds(macs=MACS)))
    (row,) = candidates.sample(1, np.random.default_rng(seed))
    network = candidates.at_row(row).architecture
    with tempfile.TemporaryDirectory() as checkpoints:
        evaluate = TrainingEvaluator(
            train=data.full_train,
            held_out=data.test,
            config=TrainConfig(batch_size=64),
            checkpoints=Path(checkpoints),
            precision=Precision.INT8,
            threads=1,
        )
        told = evaluate(network, Budget(epochs, seed=seed), lambda _: False)
    assert told.accuracy is not None, told.reason
    return {
        "float32_accuracy": told.details["float32 accuracy"],
        "int8_accuracy": told.accuracy,
        "images": len(data.test),
        "train_seconds": told.train_seconds,
        "cost": cost(network)._asdict(),
        "architecture": network.to_dict(),
    }


def compare(units: list[dict[str, Any]]) -> None:
    """Prints the points lost by each space, and the difference of both, paired by seed."""
    lost: dict[str, dict[int, float]] = {LITE: {}, GATED: {}}
    for unit in units:
        points = 100 * (unit["float32_accuracy"] - unit["int8_accuracy"])
        lost[unit["space"]][unit["seed"]] = points
    both = sorted(lost[LITE].keys() & lost[GATED].keys())
    told = {space: [lost[space][seed] for seed in both] for space in lost}
    told["paired difference"] = [lost[GATED][seed] - lost[LITE][seed] for seed in both]
    for name, values in told.items():
        mean = np.mean(values) if values else np.nan
        few = len(values) < 2
        error = np.nan if few else stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
        print(f"{name}: {mean:+.2f} ± {error:.2f} points lost (95 %, {len(values)} seeds)")


if __name__ == "__main__":
    typer.run(main)
