"""Learned growth against compound scaling: on tables of measured networks, and on photos.

    python -m experiments.benchmarks.growth tables
    python -m experiments.benchmarks.growth accel-nasbench RECORDS
    python -m experiments.benchmarks.growth clothing ../shared/data/clothing

`tables` draws tables whose truth is known: 4 widths for each of the 7 stages of MobileNetV2 for 32
pixels, 16,384 rows with exact MACs and three noisy accuracies. The rule looks up at most 50 of them
by the first accuracy, for 65 % of the MACs of uniform widths 1.0 and 0.75; the other accuracies and
the truth judge.

`accel-nasbench` does so within Accel-NASBench's space: depths of the seven stages of networks that
a surrogate predicts. A surrogate of one half of the records chooses, one of the other half judges.

`clothing` trains: EfficientNet-Lite0 with ImageNet's weights at 24 pixels, grown to twice and four
times the MACs. A fold of a cross-validation over all images is a unit of work, some 20 minutes of
one core; a second start goes on after the last. Networks found and uniformly scaled ones are
trained with a seed of the fold's own on what the fold leaves, and tested on the fold.

Each writes its part of `experiments/results/growth.json`.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy import stats

from experiments.benchmarks import start
from experiments.benchmarks.cost import hardware
from experiments.evaluators.records import NetworkRecords, read, surrogate
from experiments.runs.environment import environment
from experiments.stages.growth import learned_growth
from experiments.studies.growth_table import GrowthTable, grow
from scaling import rules
from scaling.coefficients import PUBLISHED
from scaling.family import family_for, regularised
from scaling.growth import Floats
from scaling.study_design import small_image_form
from scaling.targets import macs
from search.executors.local import Local
from space import choices, presets
from space.choices import Space
from space.cost_table import tabulate
from space.evaluation import Budget
from space.files import write_file

RESULT = Path(__file__).parents[1] / "results" / "growth.json"
RUNS, SEED = 50, 0

#: Of the drawn tables: their number, widths, the part of uniform growth's MACs, the error of width
#: 1.0, and the deviation of an accuracy between seeds.
TABLES, WIDTHS, PART, ERROR, NOISE = 20, (0.25, 0.5, 0.75, 1.0), 0.65, 0.06, 0.002

#: How much the logarithm of the error depends on all widths together, how unevenly on each
#: (Dirichlet), and how fast a stage saturates. With these the best settings need 53 % and 49 % of
#: the MACs of widths 1.0 and 0.75 at their accuracy, near the published tables' 45 % and 46 %.
WEIGHT, UNEVEN, SATURATION = 0.3, 0.15, (1.0, 3.0)

#: Of Accel-NASBench: networks whose stages grow, and targets over the MACs of one layer each.
NETWORKS, FACTORS = 10, (1.3, 1.6, 2.0)

#: On photos: pixels of the baseline and targets over its MACs; training runs of the search, their
#: epochs, and seeds with which it compares; epochs of a final training run, and seeds of a fold's.
PIXELS, GROWTH = 24, (2.0, 4.0)
PHOTO_RUNS, PROXY_EPOCHS, COMPARED = 24, 1, 2
EPOCHS, SEEDS = 4, 1

app = typer.Typer(add_completion=False)


def synthetic(seed: int) -> tuple[dict[str, Floats], Floats]:
    """A table as columns, and the true accuracy of each row."""
    rng = np.random.default_rng(seed)
    base = small_image_form(replace(presets.load("mobilenet_v2", 10), resolution=32))
    stages = range(1, len(base.stages) + 1)
    space = Space("widths", base, {f"stage{number}.width": WIDTHS for number in stages})
    rows = np.array(list(product(range(len(WIDTHS)), repeat=len(stages))))
    widths = np.array(WIDTHS)[rows]
    weights = WEIGHT * rng.dirichlet(np.full(len(stages), UNEVEN))
    saturation = rng.uniform(*SATURATION, len(stages))
    loss = np.log(ERROR) + ((widths**-saturation - 1) / saturation) @ weights
    truth = 1 - np.minimum(np.exp(loss), 0.9)
    measured = np.clip(truth[:, None] + rng.normal(0, NOISE, (len(truth), 3)), 0, 1)
    table = {f"width{number}": widths[:, number - 1] for number in stages}
    table |= {f"accuracy{number + 1}": measured[:, number] for number in range(3)}
    return table | {"macs": tabulate(space)(rows)[:, 0].astype(float)}, truth


def uniform_row(table: Mapping[str, Floats], width: float) -> int:
    """The row in which all widths are `width`."""
    widths = np.column_stack([table[name] for name in table if name.startswith("width")])
    return int(np.flatnonzero((widths == width).all(axis=1))[0])


def as_table(table: Mapping[str, Floats]) -> GrowthTable:
    """Columns as a table that is read."""
    columns, seeds = (
        tuple(name for name in table if name.startswith(kind))
        for kind in (("width", "depth"), "accuracy")
    )
    multipliers, accuracy = (
        np.column_stack([table[name] for name in names]) for names in (columns, seeds)
    )
    rows = tuple(range(1, len(accuracy) + 1))
    return GrowthTable(columns, multipliers, seeds, accuracy, table["macs"], rows)


@app.command()
def tables(result: Annotated[Path, typer.Option(help="The JSON file.")] = RESULT) -> None:
    """Draws tables of known truth, and looks up at most 50 rows of each."""
    units = []
    for seed in range(TABLES):
        table, truth = synthetic(seed)
        uniform = [uniform_row(table, width) for width in (1.0, 0.75)]
        targets = [PART * table["macs"][row] for row in uniform]
        grown, lookups = grow(as_table(table), targets, runs=RUNS, seed=seed)
        judged = (table["accuracy2"] + table["accuracy3"]) / 2
        for row, target, answer in zip(uniform, targets, grown, strict=True):
            affordable = table["macs"] <= target
            equal = truth >= truth[row] - 0.0005
            units.append(
                {
                    "seed": seed,
                    "width": float(table["width1"][row]),
                    "lookups": len(lookups),
                    "macs": float(table["macs"][answer.found] / table["macs"][row]),
                    "judged": float(judged[answer.found] - judged[row]),
                    "true": float(truth[answer.found] - truth[row]),
                    "best_true": float(truth[affordable].max() - truth[row]),
                    "least_macs": float(table["macs"][equal].min() / table["macs"][row]),
                    "over_compound": float(truth[answer.found] - truth[answer.compound]),
                    "told_apart": answer.difference.told_apart,
                }
            )
    _write(result, growth_tables={"units": units, "noise": NOISE, "part": PART, "runs": RUNS})
    for width in (1.0, 0.75):
        own = [unit for unit in units if unit["width"] == width]
        _print(f"uniform {width}", own, ("macs", "judged", "true", "best_true", "over_compound"))


@app.command()
def accel_nasbench(
    records: Annotated[Path, typer.Argument(help="anb_dataset_jsons.tar.gz")],
    result: Annotated[Path, typer.Option(help="The JSON file.")] = RESULT,
) -> None:
    """Grows depths by a surrogate of half of the records; one of the other half judges."""
    space = choices.load("accel_nasbench")
    known, rng = read(records, space), np.random.default_rng(SEED)
    order = rng.permutation(len(known))
    halves = [np.sort(order[part::2]) for part in range(2)]
    predict = [
        surrogate("boosting", NetworkRecords(space, known.rows[half], known.accuracy[half]))
        for half in halves
    ]
    names = list(space.choices)
    depths = [place for place, name in enumerate(names) if name.endswith(".layers")]
    offers = [space.choices[names[place]] for place in depths]
    settings = np.array(list(product(*(range(len(offer)) for offer in offers))))
    table = {
        f"depth{place + 1}": _layers(space, place, offer)[settings[:, place]]
        for place, offer in enumerate(offers)
    }
    units = []
    for number in rng.choice(len(known), NETWORKS, replace=False):
        rows = np.tile(known.rows[number], (len(settings), 1))
        rows[:, depths] = settings
        costs = tabulate(space)(rows)[:, 0].astype(float)
        accuracies = [each(rows) for each in predict]
        for chooses, judges in ((0, 1), (1, 0)):
            measured = {"accuracy1": accuracies[chooses], "accuracy2": accuracies[judges]}
            shallow = costs[(settings == 0).all(axis=1)][0]
            targets = [factor * shallow for factor in FACTORS]
            grown, lookups = grow(
                as_table(table | measured | {"macs": costs}), targets, runs=RUNS, seed=SEED
            )
            for factor, target, answer in zip(FACTORS, targets, grown, strict=True):
                judged = accuracies[judges]
                units.append(
                    {
                        "network": int(number),
                        "chosen_by": chooses,
                        "factor": factor,
                        "lookups": len(lookups),
                        "over_compound": float(judged[answer.found] - judged[answer.compound]),
                        "best": float(
                            judged[(costs <= target) & (costs >= 0.9 * target)].max()
                            - judged[answer.compound]
                        ),
                        "macs": float(costs[answer.found] / costs[answer.compound]),
                    }
                )
    _write(result, growth_accel_nasbench={"units": units, "records": len(known), "runs": RUNS})
    for factor in FACTORS:
        own = [unit for unit in units if unit["factor"] == factor]
        _print(f"{factor} × the MACs", own, ("macs", "over_compound", "best"))


def _layers(space: Space, stage: int, offsets: Sequence[Any]) -> Floats:
    """The layers that a stage has by each of `offsets`."""
    layers: Floats = np.maximum(1, space.base.stages[stage].repeats + np.array(offsets, float))
    return layers


@app.command()
def clothing(
    folder: Annotated[Path, typer.Argument(help="Photos: train, validation and test folders.")],
    folds: Annotated[list[int] | None, typer.Option(help="Folds to measure (0 to 4).")] = None,
    limit: Annotated[int | None, typer.Option(help="Images in all, for a trial run.")] = None,
    seeds: Annotated[int, typer.Option(help="Final training runs of a network.")] = SEEDS,
    runs: Annotated[int, typer.Option(help="Training runs of the search.")] = PHOTO_RUNS,
    result: Annotated[Path, typer.Option(help="The JSON file.")] = RESULT,
) -> None:
    """Trains what is missing, fold by fold, and prints the paired differences."""
    torch.set_num_threads(1)
    before = json.loads(result.read_text("utf-8")) if result.is_file() else {}
    units = before.get("growth_clothing", {}).get("units", [])
    done = {unit["fold"] for unit in units}
    for number in (each for each in folds or range(start.FOLDS) if each not in done):
        with tempfile.TemporaryDirectory() as temporary:
            fold = start.fold_of(folder, number, limit, Path(temporary))
            units += _grown_on(fold, number, seeds, runs)
        setting = {"epochs": EPOCHS, "runs": runs, "proxy_epochs": PROXY_EPOCHS}
        _write(result, growth_clothing={"units": units, **setting})
    for factor in GROWTH:
        for rule in ("compound", "width", "depth", "resolution"):
            own = [unit for unit in units if unit["factor"] == factor]
            means = [
                [np.mean(unit[each]["accuracies"]) for each in ("learned", rule)] for unit in own
            ]
            ahead = [{"ahead": learned - other} for learned, other in means]
            _print(f"{factor} × the MACs, learned − {rule}", ahead, ("ahead",))


def _grown_on(fold: start.Fold, number: int, seeds: int, runs: int) -> list[dict[str, Any]]:
    """A unit for each target: the networks of all rules, and their accuracies over the seeds."""
    source = fold.start.architecture
    baseline = replace(source, num_classes=fold.classes, resolution=PIXELS)
    targets = [factor * macs(baseline) for factor in GROWTH]
    spent = Budget(PROXY_EPOCHS, seed=number, start=fold.start.name)
    compound = family_for(baseline, PUBLISHED, targets)
    growth, networks = learned_growth(baseline, compound, spent, runs=runs, seeds=COMPARED)
    evaluate = fold.evaluator(start.RATE)
    Local().run(growth, evaluate)
    final = fold.evaluator(start.RATE, final=True)
    units = []
    for place, (factor, target) in enumerate(zip(GROWTH, targets, strict=True)):
        phi = compound.members[place].phi
        ways = {"learned": regularised(networks[growth.grown[place].found], phi)}
        for rule in ("compound", "width", "depth", "resolution"):
            way = rules.load(rule, PUBLISHED)
            ways[rule] = family_for(baseline, PUBLISHED, [target], rule=way).members[0].architecture
        unit: dict[str, Any] = {"fold": number, "factor": factor, "runs": growth.runs}
        unit["shipped"] = growth.grown[place].to_dict({}, {})["shipped"]
        for rule, network in ways.items():
            told = [
                final(network, Budget(EPOCHS, seed=each, start=fold.start.name), start.ignore)
                for each in range(number * seeds, (number + 1) * seeds)
            ]
            unit[rule] = {
                "macs": macs(network),
                "resolution": network.resolution,
                "accuracies": [each.accuracy for each in told],
            }
        units.append(unit)
    return units


def _write(result: Path, **parts: dict[str, Any]) -> None:
    found = json.loads(result.read_text("utf-8")) if result.is_file() else {}
    for name, part in parts.items():
        command = name.removeprefix("growth_").replace("_", "-")
        about = {"command": f"python -m experiments.benchmarks.growth {command}", "seed": SEED}
        found[name] = about | {"hardware": hardware() | environment()} | part
    write_file(result, json.dumps(found, indent=1) + "\n")


def _print(title: str, units: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Means with Student's 95 % intervals over the units; differences of accuracy in points."""
    for name in names:
        scale = 1 if name == "macs" else 100
        values = scale * np.array([float(unit[name]) for unit in units])
        error = math.nan
        if len(values) > 1:
            error = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
        print(f"{title}: {name} {values.mean():.3f} ± {error:.3f} (worst {values.min():.3f})")


if __name__ == "__main__":
    app()
