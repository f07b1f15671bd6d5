"""A scaling study as tables and sentences: does the paper's finding hold here?

Read from the study.json that `phiscale study` writes. Accuracies are fractions on the test images,
MACs multiply–adds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from reports import figure_style, page_facts, scaling_study_figures, templating
from reports.formatting import number, percent, short
from reports.load import readable
from reports.schema import frame, names, rows, write_tables
from reports.statistics import LEVEL, mean_interval
from scaling.comparison import compare, half_widths
from scaling.study_design import UNSCALED
from space.files import write_file
from space.validation import validate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_POINTS = names(
    "baseline rule factor target macs params activations resolution accuracy low high seeds "
    "seconds key"
)
_TRAINING_RUNS = names("baseline rule factor macs resolution seed accuracy seconds")


@dataclass(frozen=True)
class ScalingStudy:
    """The content of study.json."""

    name: str
    description: str
    data: str
    epochs: int
    seeds: int
    best: str
    compared: str
    published: Mapping[str, str]
    points: Sequence[Mapping[str, Any]]


def load(folder: Path) -> ScalingStudy:
    """The study in a folder; raises `InvalidInput` if it cannot be read."""
    path = folder / "study.json"
    with readable(path, "the study", "write it again with `phiscale study`"):
        data = json.loads(path.read_text("utf-8"))
    study = validate(ScalingStudy, data, source=str(path))
    validate(tuple[_Point, ...], data["points"], source=f"{path}: points")
    return study


#: The bound is assumed: above it, floating-point numbers overflow.
_Number = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]


@dataclass(frozen=True)
class _TrainingRun:
    """A training run in study.json; None if it has not finished."""

    seed: int
    accuracy: Annotated[float, Field(ge=0, le=1)] | None
    seconds: _Number | None


@dataclass(frozen=True)
class _Point:
    """A network in study.json."""

    baseline: str
    rule: str
    factor: _Number
    target: _Number
    macs: _Number
    params: _Number
    activations: _Number
    resolution: _Number
    key: str
    training_runs: tuple[_TrainingRun, ...]


# --------------------------------------------------------------------------------------- tables


def points(study: ScalingStudy) -> pd.DataFrame:
    """A row for each network: mean accuracy over its seeds, `low` to `high` its 95 % interval.

    The interval is Student's, with the deviation of one training run pooled over the networks that
    are drawn together: those of one baseline if rules are compared, else all.
    """
    found = [_row(point) for point in study.points]
    groups: dict[str, list[tuple[dict[str, Any], list[float]]]] = {}
    for row, point in zip(found, study.points, strict=True):
        if values := _accuracies(point):
            group = row["baseline"] if study.compared == "rules" else ""
            groups.setdefault(group, []).append((row, values))
    for measured in groups.values():
        halves = half_widths([values for _, values in measured], LEVEL)
        for (row, values), half in zip(measured, halves, strict=True):
            row |= mean_interval(values, half)
    return frame(found, _POINTS)


def _row(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: point.get(name) for name in _POINTS} | {
        "seeds": 0,
        "seconds": sum(each["seconds"] or 0.0 for each in point["training_runs"]),
    }


def _accuracies(point: Mapping[str, Any]) -> list[float]:
    return [each["accuracy"] for each in point["training_runs"] if each["accuracy"] is not None]


def training_runs(study: ScalingStudy) -> pd.DataFrame:
    """A row for each training run."""
    found = [
        {name: point.get(name) for name in _TRAINING_RUNS} | training
        for point in study.points
        for training in point["training_runs"]
        if training["accuracy"] is not None
    ]
    return frame(found, _TRAINING_RUNS)


# -------------------------------------------------------------------------------------- findings


@dataclass(frozen=True)
class EqualCostComparison:
    """Networks of equal MACs compared over the same seeds (`scaling.comparison.compare`).

    `means` are their accuracies by name; `tied` names those that are not told apart from the best
    at `LEVEL`.
    """

    where: str
    claimed: str
    means: Mapping[str, float]
    tied: tuple[str, ...]
    seeds: int

    @property
    def verdict(self) -> str:
        """On the claim that `claimed` is the best.

        `best`: it is told apart from all others; `tied`: from some or none; `behind`: another one
        is better; `unknown`: one seed tells nothing apart.
        """
        if self.seeds < 2:
            return "unknown"
        if self.claimed not in self.tied:
            return "behind"
        return "best" if len(self.tied) == 1 else "tied"

    @property
    def told(self) -> str:
        """The verdict in words."""
        ties = ", ".join(label for label in self.tied if label != self.claimed)
        return {
            "unknown": "one seed: no statement",
            "behind": "behind",
            "best": "told apart from all",
            "tied": f"not told apart from {ties}",
        }[self.verdict]

    @property
    def rival(self) -> str:
        """The most accurate of the others."""
        others = [label for label in self.means if label != self.claimed]
        return max(others, key=lambda label: self.means[label])


def standings(study: ScalingStudy) -> tuple[EqualCostComparison, ...]:
    """A comparison for each cost at which at least two networks, the claimed one too, are complete.

    A network is complete if all its seeds were trained.
    """
    groups: dict[tuple[str, float], dict[str, list[float]]] = {}
    for point in study.points:
        values = _accuracies(point)
        if point["rule"] == UNSCALED or len(values) < study.seeds:
            continue
        if study.compared == "rules":
            where, label = f"{point['baseline']} × {point['factor']:.3g}", point["rule"]
        else:
            where, label = f"{short(point['target'])} MACs", point["baseline"]
        groups.setdefault((where, point["target"]), {})[label] = values
    found = []
    for (where, _), accuracies in groups.items():
        if study.best in accuracies and len(accuracies) > 1:
            labels, compared = list(accuracies), compare(list(accuracies.values()), LEVEL)
            means = dict(zip(labels, compared.means, strict=True))
            tied = tuple(labels[index] for index in compared.tied)
            found.append(EqualCostComparison(where, study.best, means, tied, study.seeds))
    return tuple(found)


def sentence(study: ScalingStudy) -> str:
    """Whether the claim holds here, in one sentence with its numbers."""
    found = standings(study)
    if not found:
        needed = number(study.seeds, "training run")
        return f"Nothing can be said yet: at no cost has each network {needed}."
    verdicts = [each.verdict for each in found]
    if "unknown" in verdicts:
        holds = "cannot be stated from one seed"
    elif all(verdict == "best" for verdict in verdicts):
        holds = "holds here"
    elif "behind" not in verdicts:
        holds = "is neither confirmed nor refuted here"
    elif "best" in verdicts:
        holds = "holds here in part"
    else:
        holds = "does not hold here"
    what = "single dimension" if study.compared == "rules" else "other"
    numbers = "; ".join(
        f"{each.where}: {percent(each.means[each.claimed])} against "
        f"{percent(each.means[each.rival])} of {each.rival} ({each.told})"
        for each in found
    )
    return (
        f"That {study.best} is more accurate than every {what} at equal MACs {holds} "
        f"({number(study.seeds, 'seed')}, level {100 * LEVEL:g} %): {numbers}."
    )


def gains(study: ScalingStudy) -> str | None:
    """What a doubling of MACs gains, in one sentence; None for a study of one cost.

    Where rules are compared: whether the gain from each single dimension falls as it grows (figure
    3), which takes two costs beside the baseline's. Else: the gain of each baseline (figure 4).
    """
    found: dict[str, list[float]] = {}
    table = points(study)
    for (baseline, rule), some in table.groupby(["baseline", "rule"], sort=False):
        start = table[(table["baseline"] == baseline) & (table["rule"] == UNSCALED)]
        way = rows(some)
        if study.compared == "rules":
            if rule not in ("depth", "width", "resolution") or len(way) < 2:
                continue
            way = [*rows(start), *way]
        if len(way) > 1 and all(each["accuracy"] is not None for each in way):
            label = f"{rule} of {baseline}" if study.compared == "rules" else str(baseline)
            found[label] = [
                (after["accuracy"] - before["accuracy"]) / math.log2(after["macs"] / before["macs"])
                for before, after in pairwise(way)
            ]
    if not found:
        return None
    numbers = "; ".join(
        f"{name} {' then '.join(f'{100 * gain:+.1f}' for gain in each)}"
        for name, each in found.items()
    )
    if study.compared != "rules":
        return f"Points of accuracy per doubling of MACs: {numbers}."
    falling = sum(each[-1] < each[0] for each in found.values())
    return (
        f"The gain from a single dimension falls as it grows for {falling} of {len(found)} "
        f"(points of accuracy per doubling of MACs): {numbers}."
    )


# ----------------------------------------------------------------------------------------- files


def write(folder: Path) -> tuple[str, ...]:
    """Writes the study's page, tables, figures and README to `folder`/report.

    Returns the sentences that say what was found.
    """
    study = load(folder)
    report = folder / "report"
    table = points(study)
    files = write_tables(report, {"points": table, "training_runs": training_runs(study)})
    pictures = {"accuracy.png": scaling_study_figures.accuracy(study, table)}
    if maps := scaling_study_figures.activation_maps(folder):
        pictures["activation_maps.png"] = maps
    for name, figure in pictures.items():
        figure_style.save(figure, report / name)
    figure_style.save(pictures["accuracy.png"], report / "accuracy.svg")
    told = tuple(each for each in (sentence(study), gains(study)) if each)
    write_file(report / "README.md", _readme(folder, study, told))
    write_file(report / "index.html", render(folder, study, told, pictures, files))
    return told


def render(
    folder: Path,
    study: ScalingStudy,
    told: Sequence[str],
    pictures: Mapping[str, Figure],
    files: Sequence[str],
) -> str:
    """The study's page, with links to the `files` beside it."""
    recipe = folder / "recipe.yaml"
    return templating.page(
        "study.html",
        title=study.name,
        study=study,
        told=told,
        comparisons=standings(study),
        points=rows(points(study)),
        pictures={name: figure_style.encode(each, "png") for name, each in pictures.items()},
        provenance=list(page_facts.provenance(_manifest(folder))),
        recipe_text=recipe.read_text("utf-8") if recipe.is_file() else "",
        sections=[("result", "Result"), ("networks", "Networks"), ("provenance", "Provenance")],
        files=[*files, *pictures, "accuracy.svg", "README.md"],
        data={"points": {"columns": [], "rows": []}},
    )


def _manifest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text("utf-8")))


def _readme(folder: Path, study: ScalingStudy, told: Sequence[str]) -> str:
    """The findings, and where the numbers are from: command, hardware, date, seconds."""
    start = _manifest(folder)["starts"][0]
    machine = start["environment"]
    gpus = machine["gpus"] if machine["gpus"] != "none" else "no GPU"
    table = points(study)
    made = int(table["seeds"].sum())
    left = study.seeds * len(study.points) - made
    return "\n".join(
        (
            f"# {study.name}",
            "",
            f"{study.description}.",
            "",
            *(f"{each}\n" for each in told),
            f"`{start['command']}` on {start['time'][:10]}; {machine['processor']}, "
            f"{machine['cores']} cores, {gpus}, torch {machine['torch']}; {made} training runs of "
            f"{number(study.epochs, 'epoch')} took {table['seconds'].sum() / 60:.0f} minutes in all"
            + (f", {left} more were not made." if left else "."),
            "",
        )
    )
