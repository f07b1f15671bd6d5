"""What a run has measured, as data frames, each of which is written as a CSV.

`reports.columns` says what each column means and in which unit; the figures and the page draw these
frames. A frame of a stage that has not begun is empty and has its columns all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports import insight, search_tables
from reports.columns import frame, names
from reports.load import Run, Trial
from space.architecture import Architecture, Block, Operator, Stage
from space.cost import parts

if TYPE_CHECKING:
    import pandas as pd

_COEFFICIENTS = names(
    "alpha beta gamma nominal_product realised_ratio accuracy low high images macs params "
    "activations combinations winner tied key"
)
_FAMILY = names(
    "name phi depth width resolution macs params activations accuracy low high images "
    "train_seconds key"
)
_STAGES = names(
    "stage operator kernel stride expansion se skip channels repeats resolution macs params "
    "activations"
)
_EXPANDING = (Operator.INVERTED, Operator.FUSED, Operator.BOTTLENECK)


@dataclass(frozen=True)
class Tables:
    """The tables of one run, each under the name of its CSV."""

    trials: pd.DataFrame
    pareto: pd.DataFrame
    best: pd.DataFrame
    search_progress: pd.DataFrame
    coefficients: pd.DataFrame
    family: pd.DataFrame
    stages: pd.DataFrame
    counts: pd.DataFrame
    failures: pd.DataFrame
    learning_curves: pd.DataFrame
    choices: pd.DataFrame
    importance: pd.DataFrame
    ranks: pd.DataFrame


def collect(run: Run) -> Tables:
    """All tables of a run."""
    every = search_tables.trials(run)
    return Tables(
        trials=every,
        pareto=search_tables.pareto(every),
        best=search_tables.best(every),
        search_progress=search_tables.progress(every),
        coefficients=coefficients(run),
        family=family(run),
        stages=stages(networks(run)),
        counts=search_tables.counts(run),
        failures=search_tables.failures(every),
        learning_curves=insight.learning_curves(run),
        choices=insight.choices(run),
        importance=insight.importance(run),
        ranks=insight.ranks(run),
    )


def coefficients(run: Run) -> pd.DataFrame:
    """The candidates of the coefficient grid, the most accurate first.

    A candidate stands once, for all combinations of α, β, γ that round to its network.
    """
    stage = run.coefficients or {}
    images = _images(run.study("coefficients"))
    chosen = tuple(stage.get(name) for name in ("alpha", "beta", "gamma"))
    rows = []
    for candidate in stage.get("candidates", ()):
        combinations = [tuple(names) for names in candidate.get("names", ())]
        own = tuple(candidate.get(name) for name in ("alpha", "beta", "gamma"))
        rows.append(
            {name: candidate.get(name) for name in _COEFFICIENTS}
            | dict(candidate.get("cost", {}))
            | _interval(candidate.get("accuracy"), images.get(candidate.get("key", "")))
            | {
                "combinations": "; ".join(_combination(names) for names in combinations),
                "winner": chosen == own or chosen in combinations,
            }
        )
    best = next((row for row in rows if row["winner"]), {})
    for row in rows:
        row["tied"] = _tied(row, best)
    found = frame(rows, _COEFFICIENTS)
    return found.sort_values("accuracy", ascending=False, na_position="last", ignore_index=True)


def _tied(one: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Whether the images cannot tell two accuracies apart: within 1.96 standard errors.

    Conservative: the images are the same for both, and are treated as two independent draws.
    """
    if not all(row.get("accuracy") is not None and row.get("images") for row in (one, best)):
        return False
    variance = sum(row["accuracy"] * (1 - row["accuracy"]) / row["images"] for row in (one, best))
    return bool(abs(best["accuracy"] - one["accuracy"]) <= 1.96 * math.sqrt(variance))


def _combination(names: Iterable[float]) -> str:
    return " × ".join(f"{value:g}" for value in names)


def family(run: Run) -> pd.DataFrame:
    """The members in the recipe's order, with their accuracy on the test images."""
    rows = [
        {name: member.get(name) for name in _FAMILY}
        | dict(member.get("cost", {}))
        | _interval(member.get("accuracy"), member.get("images"))
        for member in (run.family or {}).get("members", ())
    ]
    return frame(rows, _FAMILY)


def networks(run: Run) -> dict[str, Architecture]:
    """The networks that a run has chosen, by name: the baseline, then the family's members."""
    found = {}
    if run.baseline and run.baseline.get("architecture"):
        found["baseline"] = run.baseline["architecture"]
    built = {trial.key: trial.architecture for trial in run.study("family") if trial.architecture}
    for member in (run.family or {}).get("members", ()):
        if member.get("key") in built:
            found[str(member["name"])] = built[member["key"]]
    return {
        name: Architecture.from_dict(data, source=f"{run.path}: {name}")
        for name, data in found.items()
    }


def stages(networks: Mapping[str, Architecture]) -> pd.DataFrame:
    """The stem, each stage and the head of each network, with its output resolution and cost."""
    rows = [
        {"network": name} | row
        for name, architecture in networks.items()
        for row in stage_rows(architecture)
    ]
    return frame(rows, ["network", *_STAGES])


def stage_rows(architecture: Architecture) -> list[dict[str, Any]]:
    """A row for the stem, each stage and the head; their costs add up to the network's."""
    stem, head = architecture.stem, architecture.head
    first = {"stage": "stem", "operator": "conv", "kernel": stem.kernel, "stride": stem.stride}
    named: list[dict[str, Any]] = [first]
    for number, (stage, blocks) in enumerate(
        zip(architecture.stages, architecture.blocks(), strict=True), start=1
    ):
        named.append({"stage": str(number)} | _stage_row(stage, blocks[0]))
    named.append({"stage": "head", "operator": "conv" if head.channels else "linear"})
    channels = [stem.channels, *(stage.channels for stage in architecture.stages)]
    return [
        row | {"channels": width, "resolution": part.resolution} | part.cost._asdict()
        for row, width, part in zip(
            named, [*channels, architecture.out_channels], parts(architecture), strict=True
        )
    ]


def _stage_row(stage: Stage, block: Block) -> dict[str, Any]:
    """What a stage is made of; what has no effect on its blocks is left out."""
    return {
        "operator": str(block.operator),
        "kernel": block.kernel,
        "stride": block.stride,
        "expansion": stage.expansion if block.operator in _EXPANDING else None,
        "se": stage.se.ratio if stage.se and block.squeeze_channels else 0.0,
        "skip": str(stage.skip),
        "repeats": stage.repeats,
    }


def wilson(accuracy: float, images: int, z: float = 1.959964) -> tuple[float, float]:
    """The binomial interval of an accuracy measured on `images` images, 95 % at the default z.

    It covers the choice of images alone, not the variation between trainings. Source: Wilson 1927.
    """
    centre = accuracy + z * z / (2 * images)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / images + (z / (2 * images)) ** 2)
    scale = 1 + z * z / images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _images(trials: Iterable[Trial]) -> dict[str, int]:
    """How many images each network's accuracy was measured on."""
    return {
        trial.key: trial.measurement["images"]
        for trial in trials
        if trial.measurement.get("images")
    }


def _interval(accuracy: float | None, images: int | None) -> dict[str, Any]:
    if accuracy is None or not images:
        return {"images": images}
    low, high = wilson(accuracy, images)
    return {"low": low, "high": high, "images": images}
