"""What the page's scripts in `templates/` draw, as plain JSON data: they read exactly this."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reports import published
from reports.formatting import number, printable
from reports.load import Run
from reports.schema import frame, rows
from reports.statistics import interval
from reports.tables import Tables, collect, stage_rows
from space.architecture import Architecture

if TYPE_CHECKING:
    import pandas as pd

_STAGE = (
    "stage", "operator", "start_kernel", "kernel", "stride", "expansion", "se", "skip",
    "channels", "repeats", "resolution", "macs", "params",
)  # fmt: skip
_POINT = (
    "layer", "name", "note", "macs", "params", "activations", "resolution", "accuracy", "low",
    "high", "reward", "seconds", "network", "rule",
)  # fmt: skip


class StageIndex:
    """Every network of a run once, its stages as indices into rows that many networks share."""

    def __init__(self, architectures: Mapping[str, Mapping[str, Any]]) -> None:
        self.index: dict[str, int] = {}
        self.networks: list[list[int]] = []
        places: dict[tuple[Any, ...], int] = {}
        for key, data in architectures.items():
            stages = stage_rows(Architecture.from_dict(data, source=f"trial of {key}"))
            named = [tuple(stage.get(name) for name in _STAGE) for stage in stages]
            self.index[key] = len(self.networks)
            self.networks.append([places.setdefault(row, len(places)) for row in named])
        self.rows = list(places)


def chart_data(run: Run, tables: Tables, networks: StageIndex) -> dict[str, Any]:
    """The points of all charts and the stages of all networks."""
    points = _points(run, tables)
    place = {(point["layer"], point.get("trial")): i for i, point in enumerate(points)}
    for point in points:
        point["network"] = networks.index.get(point.get("key", ""))
    return {
        "stage_columns": _STAGE,
        "stage_rows": networks.rows,
        "networks": networks.networks,
        "points": {
            "columns": _POINT,
            "rows": [[_json(point.get(name)) for name in _POINT] for point in points],
        },
        "curves": list(_curves(tables, place)),
        "latency": _latencies(tables),
        "front": [[row["macs"], _json(row["accuracy"])] for row in rows(tables.pareto)],
        "progress": [
            [row["trial"], _json(row["best_reward"]), place[row["state"], row["trial"]]]
            for row in rows(tables.search_progress)
            if (row["state"], row["trial"]) in place
        ],
    }


def points_table(run: Run, tables: Tables) -> pd.DataFrame:
    """Exactly the points of the figure of accuracy against MACs, a row a point."""
    return frame(_points(run, tables), [*(name for name in _POINT if name != "network"), "key"])


def _points(run: Run, tables: Tables) -> list[dict[str, Any]]:
    return [
        *_trial_points(tables),
        *_baseline_points(run),
        *_family_points(tables),
        *_rival_points(tables),
        *_published_points(run),
    ]


def comparison_data(runs: Mapping[str, Run]) -> dict[str, Any]:
    """The families of several runs and the fronts of their searches."""
    collected = {name: collect(run) for name, run in runs.items()}
    networks = StageIndex(
        {
            trial.key: trial.architecture
            for run in runs.values()
            for trial in run.study("family")
            if trial.architecture
        }
    )
    points = [
        point | {"run": place, "network": networks.index.get(point["key"])}
        for place, tables in enumerate(collected.values())
        for point in _family_points(tables)
    ]
    return {
        "stage_columns": _STAGE,
        "stage_rows": networks.rows,
        "networks": networks.networks,
        "points": {
            "columns": (*_POINT, "run"),
            "rows": [[_json(point.get(name)) for name in (*_POINT, "run")] for point in points],
        },
        "runs": [printable(name) for name in runs],
        "fronts": [
            [[row["macs"], _json(row["accuracy"])] for row in rows(tables.pareto)]
            for tables in collected.values()
        ],
    }


def _json(cell: Any) -> Any:
    """A value short and safe enough for the page's data."""
    if isinstance(cell, float):
        return round(cell, 6) if math.isfinite(cell) else None
    return printable(cell) if isinstance(cell, str) else cell


def _curves(tables: Tables, place: Mapping[tuple[str, Any], int]) -> Iterable[list[Any]]:
    """For each training with a point: the index of its point, and its accuracy after each epoch."""
    for (study, trial, state), epochs in tables.learning_curves.groupby(
        ["study", "trial", "state"], sort=False
    ):
        layer = str(state if study == "search" else study)
        if (layer, trial) in place:
            yield [place[layer, trial], [_json(accuracy) for accuracy in epochs["accuracy"]]]


def networks_of(run: Run) -> StageIndex:
    """The networks of all trials and of the baseline."""
    found = {
        trial.key: trial.architecture
        for trial in run.all_trials
        if trial.key and trial.architecture
    }
    if run.baseline:
        found.setdefault(run.baseline["key"], run.baseline["architecture"])
    return StageIndex(found)


def _trial_points(tables: Tables) -> Iterable[dict[str, Any]]:
    trials = tables.trials
    seen = trials[trials["accuracy"].notna() & trials["answered_from"].isna()]
    for row in rows(seen):
        if row["study"] in ("family", "rivals") or row["state"] not in ("complete", "pruned"):
            continue
        layer = row["state"] if row["study"] == "search" else row["study"]
        name = f"trial {row['trial']}" if row["study"] == "search" else row["job"]
        made = f"{row['epochs_trained']} of {row['epochs']} epochs"
        note = made if row["state"] == "pruned" else f"{row['epochs']} epochs"
        yield row | {"layer": layer, "name": name, "note": f"held-out images, {note}"}


def _baseline_points(run: Run) -> Iterable[dict[str, Any]]:
    if not run.baseline or run.baseline.get("accuracy") is None:
        return
    images = next(
        (
            trial.measurement.get("images")
            for trial in run.study(run.baseline.get("study", "finalists"))
            if trial.key == run.baseline["key"]
        ),
        None,
    )
    yield {
        "layer": "baseline",
        "name": "baseline",
        "note": "held-out images",
        **interval(run.baseline["accuracy"], images),
        "reward": run.baseline.get("reward"),
        "resolution": run.baseline["architecture"].get("resolution"),
        "key": run.baseline["key"],
        **run.baseline["cost"],
    }


def _family_points(tables: Tables) -> Iterable[dict[str, Any]]:
    trained = tables.trials[tables.trials["study"] == "family"]
    numbers = {row["key"]: row["trial"] for row in rows(trained)}
    for row in rows(tables.family):
        yield row | {
            "layer": "family",
            "trial": numbers.get(row["key"]),
            "name": str(row["name"]).upper(),
            "note": "test images",
            "seconds": row["train_seconds"],
        }


def _rival_points(tables: Tables) -> Iterable[dict[str, Any]]:
    for row in rows(tables.rivals):
        name = f"{row['rule']} {(row['member'] or '').upper()}".strip()
        note = f"test images, {row['epochs']} epochs"
        yield row | {"layer": "rivals", "name": name, "note": note}


def _latencies(tables: Tables) -> list[dict[str, Any]]:
    """How long the members took, a list a setting: member, milliseconds of a call, quartiles."""
    settings: dict[str, list[list[Any]]] = {}
    for row in rows(tables.latency):
        times = [row[f"{name}_seconds"] for name in ("median", "low", "high")]
        call = [_json(str(row["member"]).upper()), *(_json(1000 * each) for each in times)]
        settings.setdefault(latency_setting(row), []).append(call)
    return [{"name": printable(name), "calls": calls} for name, calls in settings.items()]


def latency_setting(row: Mapping[str, Any]) -> str:
    """How a latency was measured, in a few words."""
    threads = f", {number(row['threads'], 'thread')}" if row["device"] == "cpu" else ""
    return f"{row['backend']} on {row['device']}{threads}, batch {row['batch']}"


def _published_points(run: Run) -> Iterable[dict[str, Any]]:
    note = "published, ImageNet validation images, its authors' training"
    for network in published.for_classes(run.num_classes):
        yield network._asdict() | {"layer": "published", "note": note}
