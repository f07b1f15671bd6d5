"""A scaling study as tables and sentences: does the paper's finding hold here?

Read from the study.json that `phiscale study` writes. Accuracies are fractions on the test images,
MACs multiply–adds.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reports import figure_style, page_tables, scaling_study_figures, templating
from reports.formatting import number, percent, short, to_csv
from reports.schema import frame, glossary, names, rows
from scaling.comparison import compare, half_widths
from scaling.study_design import UNSCALED
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_POINTS = names(
    "baseline rule factor target macs params activations resolution accuracy low high seeds "
    "seconds key"
)
_TRAININGS = names("baseline rule factor macs resolution seed accuracy seconds")

#: The level of all intervals and comparisons.
LEVEL = 0.95


@dataclass(frozen=True)
class ScalingStudy:
    """What study.json says."""

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
    """The study in a folder; raises `InvalidInput` where it has none."""
    path = folder / "study.json"
    try:
        return ScalingStudy(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"{path}: cannot read the study ({error}); write it again with `phiscale study`"
        ) from None


# --------------------------------------------------------------------------------------- tables


def points(study: ScalingStudy) -> pd.DataFrame:
    """A row for each network: mean accuracy over its seeds, `low` to `high` its 95 % interval.

    The interval is Student's, with the deviation of one training run pooled over the networks that
    are drawn together: of one baseline where rules are compared, else all.
    """
    measured: dict[str, list[Mapping[str, Any]]] = {}
    for point in study.points:
        if _accuracies(point):
            together = point["baseline"] if study.compared == "rules" else ""
            measured.setdefault(together, []).append(point)
    half: dict[tuple[str, str, float], float] = {}
    for some in measured.values():
        widths = half_widths([_accuracies(point) for point in some], LEVEL)
        half |= {_place(point): width for point, width in zip(some, widths, strict=True)}
    return frame([_row(point, half.get(_place(point))) for point in study.points], _POINTS)


def _place(point: Mapping[str, Any]) -> tuple[str, str, float]:
    return point["baseline"], point["rule"], point["target"]


def _row(point: Mapping[str, Any], half: float | None) -> dict[str, Any]:
    row = {name: point.get(name) for name in _POINTS}
    values = _accuracies(point)
    row["seeds"] = len(values)
    row["seconds"] = sum(each["seconds"] or 0.0 for each in point["trainings"])
    if values:
        row["accuracy"] = mean = fmean(values)
        if half is not None and math.isfinite(half):
            row["low"], row["high"] = max(0.0, mean - half), min(1.0, mean + half)
    return row


def _accuracies(point: Mapping[str, Any]) -> list[float]:
    return [each["accuracy"] for each in point["trainings"] if each["accuracy"] is not None]


def trainings(study: ScalingStudy) -> pd.DataFrame:
    """A row for each training."""
    found = [
        {name: point.get(name) for name in _TRAININGS} | training
        for point in study.points
        for training in point["trainings"]
        if training["accuracy"] is not None
    ]
    return frame(found, _TRAININGS)


# -------------------------------------------------------------------------------------- findings


@dataclass(frozen=True)
class EqualCostComparison:
    """Networks of equal MACs compared over the same seeds (`scaling.comparison.compare`).

    `means` are their accuracies, `tied` those that cannot be told from the best at `LEVEL`, and
    `verdict` what that says of the claimed one: best, tied or behind; `unknown` with one seed.
    """

    where: str
    claimed: str
    means: Mapping[str, float]
    tied: tuple[str, ...]
    seeds: int

    @property
    def verdict(self) -> str:
        """`best`: told apart from all others; `tied`: from some; `behind`: another is better."""
        if self.seeds < 2:
            return "unknown"
        if self.claimed not in self.tied:
            return "behind"
        return "best" if len(self.tied) == 1 else "tied"

    @property
    def told(self) -> str:
        """The verdict with what it rests on."""
        if self.verdict in ("behind", "unknown"):
            return "behind" if self.verdict == "behind" else "one seed: no statement"
        ties = [label for label in self.tied if label != self.claimed]
        return f"not told apart from {', '.join(ties)}" if ties else "told apart from all"

    @property
    def rival(self) -> str:
        """The most accurate of the others."""
        others = [label for label in self.means if label != self.claimed]
        return max(others, key=lambda label: self.means[label])


def standings(study: ScalingStudy) -> tuple[EqualCostComparison, ...]:
    """One for each cost at which all seeds of at least two networks, the claimed one too, ended."""
    groups: dict[tuple[str, float], dict[str, list[float]]] = {}
    for point in study.points:
        values = _accuracies(point)
        if point["rule"] == UNSCALED or len(values) < study.seeds:
            continue
        if study.compared == "rules":
            group, label = (point["baseline"], point["factor"]), point["rule"]
        else:
            group, label = ("", point["target"]), point["baseline"]
        groups.setdefault(group, {})[label] = values
    return tuple(
        _standing(study, *group, accuracies)
        for group, accuracies in groups.items()
        if study.best in accuracies and len(accuracies) > 1
    )


def _standing(
    study: ScalingStudy, baseline: str, cost: float, accuracies: Mapping[str, list[float]]
) -> EqualCostComparison:
    found = compare(list(accuracies.values()), LEVEL)
    labels = list(accuracies)
    rules = study.compared == "rules"
    return EqualCostComparison(
        where=f"{baseline} × {cost:.3g}" if rules else f"{short(cost)} MACs",
        claimed=study.best,
        means=dict(zip(labels, found.means, strict=True)),
        tied=tuple(labels[index] for index in found.tied),
        seeds=study.seeds,
    )


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

    Where rules are compared, whether the gain from each dimension alone falls as it grows (figure
    3), which takes two costs beside the baseline's; else each baseline's gain (figure 4).
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
            found[label] = [_gain(*pair) for pair in pairwise(way)]
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


def _gain(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """Accuracy gained per doubling of MACs."""
    gain: float = after["accuracy"] - before["accuracy"]
    return gain / math.log2(after["macs"] / before["macs"])


# ----------------------------------------------------------------------------------------- files


def write(folder: Path) -> tuple[str, ...]:
    """The study's page, tables, figure and sentences in `folder`/report; gives the sentences."""
    study = load(folder)
    report = folder / "report"
    table = points(study)
    files = {"points.csv": table, "trainings.csv": trainings(study), "columns.csv": glossary()}
    for name, each in files.items():
        write_file(report / name, to_csv(each))
    figure = scaling_study_figures.accuracy(study, table)
    for suffix in ("png", "svg"):
        figure_style.save(figure, report / f"accuracy.{suffix}")
    if (maps := scaling_study_figures.activation_maps(folder)) is not None:
        figure_style.save(maps, report / "activation_maps.png")
    told = tuple(each for each in (sentence(study), gains(study)) if each)
    write_file(report / "README.md", _readme(folder, study, told))
    pictures = {"accuracy.png": figure} | ({"activation_maps.png": maps} if maps else {})
    write_file(report / "index.html", render(folder, study, told, pictures, list(files)))
    return told


def render(
    folder: Path,
    study: ScalingStudy,
    told: Sequence[str],
    pictures: Mapping[str, Figure],
    files: Sequence[str],
) -> str:
    """The study's page, with links to the `files` beside it."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    recipe = folder / "recipe.yaml"
    return templating.page(
        "study.html",
        title=study.name,
        study=study,
        told=told,
        comparisons=standings(study),
        points=rows(points(study)),
        pictures={
            name: base64.b64encode(figure_style.encode(figure, "png")).decode()
            for name, figure in pictures.items()
        },
        provenance=list(page_tables.provenance(manifest)),
        recipe_text=recipe.read_text("utf-8") if recipe.is_file() else "",
        sections=[("result", "Result"), ("networks", "Networks"), ("provenance", "Provenance")],
        files=[*files, *pictures, "accuracy.svg", "README.md"],
        data={"points": {"columns": [], "rows": []}},
    )


def _readme(folder: Path, study: ScalingStudy, told: Sequence[str]) -> str:
    """Where the numbers are from: command, hardware, date, seconds; then what they say."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    start = manifest["starts"][0]
    machine = start["environment"]
    table = points(study)
    made = int(table["seeds"].sum())
    left = study.seeds * len(study.points) - made
    lines = [
        f"# {study.name}",
        "",
        f"{study.description}.",
        "",
        *(f"{each}\n" for each in told),
        f"`{start['command']}` on {start['time'][:10]}; {machine['processor']}, {machine['cores']} "
        f"cores, {machine['gpus'] if machine['gpus'] != 'none' else 'no GPU'}, torch "
        f"{machine['torch']}; {made} training runs of {number(study.epochs, 'epoch')} took "
        f"{table['seconds'].sum() / 60:.0f} minutes in all"
        + (f", {left} more were not made." if left else "."),
        "",
    ]
    return "\n".join(lines)
