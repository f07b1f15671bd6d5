"""The data of the page's charts, as plain JSON; the scripts in `templates/` read exactly this."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reports import published
from reports.formatting import number, plural, printable
from reports.load import Run, Trial
from reports.schema import frame, rows
from reports.search_tables import TESTED
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
    """The networks of some trials, of a baseline and of `more`, each once.

    A network is a list of indices into `rows`, the stages that the networks share; `index` gives
    the place of a network by its key.
    """

    def __init__(
        self,
        trials: Iterable[Trial],
        baseline: Mapping[str, Any] | None = None,
        more: Iterable[Architecture] = (),
    ) -> None:
        architectures = {t.key: t.architecture for t in trials if t.key and t.architecture}
        if baseline:
            architectures.setdefault(baseline["key"], baseline["architecture"])
        for network in more:
            architectures.setdefault(network.key, network.to_dict())
        self.index = {key: place for place, key in enumerate(architectures)}
        self.networks: list[list[int]] = []
        places: dict[tuple[Any, ...], int] = {}
        for key, data in architectures.items():
            stages = stage_rows(Architecture.from_dict(data, source=f"trial of {key}"))
            named = [tuple(stage.get(name) for name in _STAGE) for stage in stages]
            self.networks.append([places.setdefault(row, len(places)) for row in named])
        self.rows = list(places)

    def chart_data(
        self, points: list[dict[str, Any]], columns: tuple[str, ...] = _POINT
    ) -> dict[str, Any]:
        """The networks, and points that refer to them by `key`."""
        found = [point | {"network": self.index.get(point.get("key", ""))} for point in points]
        return {
            "stage_columns": _STAGE,
            "stage_rows": self.rows,
            "networks": self.networks,
            "points": {
                "columns": columns,
                "rows": [[_json(point.get(name)) for name in columns] for point in found],
            },
        }


def chart_data(run: Run, tables: Tables, networks: StageIndex) -> dict[str, Any]:
    """The data of all charts of a run's page."""
    points = _points(run, tables)
    place = {(point["layer"], point.get("trial")): i for i, point in enumerate(points)}
    return networks.chart_data(points) | {
        "curves": list(_curves(tables, place)),
        "latency": _latencies(tables),
        "front": _front(tables),
        "progress": [
            [row["trial"], _json(row["best_reward"]), place[row["state"], row["trial"]]]
            for row in rows(tables.search_progress)
            if (row["state"], row["trial"]) in place
        ],
    }


def comparison_data(runs: Mapping[str, Run]) -> dict[str, Any]:
    """The families of several runs and the Pareto fronts of their searches."""
    networks = StageIndex(trial for run in runs.values() for trial in run.study("family"))
    collected = [collect(run) for run in runs.values()]
    points = [
        point | {"run": place}
        for place, tables in enumerate(collected)
        for point in _family_points(tables)
    ]
    return networks.chart_data(points, (*_POINT, "run")) | {
        "runs": [printable(name) for name in runs],
        "fronts": [_front(tables) for tables in collected],
    }


def points_table(run: Run, tables: Tables) -> pd.DataFrame:
    """The points of the chart of accuracy against MACs, a row for each."""
    return frame(_points(run, tables), [*(name for name in _POINT if name != "network"), "key"])


def _points(run: Run, tables: Tables) -> list[dict[str, Any]]:
    return [
        *_trial_points(tables),
        *_baseline_points(run),
        *_family_points(tables),
        *_rival_points(tables),
        *_published_points(run),
    ]


def _json(cell: Any) -> Any:
    """A value that is short and safe enough for the page's data."""
    if isinstance(cell, float):
        return round(cell, 6) if math.isfinite(cell) else None
    return printable(cell) if isinstance(cell, str) else cell


def _front(tables: Tables) -> list[list[Any]]:
    return [[row["macs"], _json(row["accuracy"])] for row in rows(tables.pareto)]


def _curves(tables: Tables, place: Mapping[tuple[str, Any], int]) -> Iterable[list[Any]]:
    """The index of the point and the accuracy after each epoch, of each training run drawn."""
    for (study, trial, state), epochs in tables.learning_curves.groupby(
        ["study", "trial", "state"], sort=False
    ):
        layer = str(state if study == "search" else study)
        if (layer, trial) in place:
            yield [place[layer, trial], [_json(accuracy) for accuracy in epochs["accuracy"]]]


def _trial_points(tables: Tables) -> Iterable[dict[str, Any]]:
    trials = tables.trials
    shown = trials["accuracy"].notna() & trials["answered_from"].isna()
    shown &= ~trials["study"].isin(TESTED) & trials["state"].isin(["complete", "pruned"])
    for row in rows(trials[shown]):
        searched, pruned = row["study"] == "search", row["state"] == "pruned"
        made = f"{row['epochs_trained']} of " if pruned else ""
        yield row | {
            "layer": row["state"] if searched else row["study"],
            "name": f"trial {row['trial']}" if searched else row["job"],
            "note": f"held-out images, {made}{row['epochs']} {plural(row['epochs'], 'epoch')}",
        }


def _baseline_points(run: Run) -> Iterable[dict[str, Any]]:
    baseline = run.baseline
    if not baseline or baseline.get("accuracy") is None:
        return
    trials = run.study(baseline.get("study", "finalists"))
    own = (t.measurement.get("images") for t in trials if t.key == baseline["key"])
    yield {
        "layer": "baseline",
        "name": "baseline",
        "note": "held-out images",
        **interval(baseline["accuracy"], next(own, None)),
        "reward": baseline.get("reward"),
        "resolution": baseline["architecture"].get("resolution"),
        "key": baseline["key"],
        **baseline["cost"],
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
        name = f"{row['rule']} {row['member'].upper()}"
        note = f"test images, {row['epochs']} {plural(row['epochs'], 'epoch')}"
        yield row | {"layer": "rivals", "name": name, "note": note}


def _published_points(run: Run) -> Iterable[dict[str, Any]]:
    note = "published, ImageNet validation images, its authors' training"
    for network in published.points(run):
        yield network | {"layer": "published", "note": note}


def _latencies(tables: Tables) -> list[dict[str, Any]]:
    """For each setting: the members with the median and quartiles of a call in milliseconds."""
    settings: dict[str, list[list[Any]]] = {}
    for row in rows(tables.latency):
        times = [row[f"{name}_seconds"] for name in ("median", "low", "high")]
        call = [_json(str(row["member"]).upper()), *(_json(1000 * each) for each in times)]
        settings.setdefault(latency_setting(row), []).append(call)
    return [{"name": printable(name), "calls": calls} for name, calls in settings.items()]


def latency_setting(row: Mapping[str, Any]) -> str:
    """How a latency was measured: `eager on cpu, one thread, batch 1`."""
    threads = f", {number(row['threads'], 'thread')}" if row["device"] == "cpu" else ""
    return f"{row['backend']} on {row['device']}{threads}, batch {row['batch']}"
