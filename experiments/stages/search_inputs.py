"""What a search begins with: its objective, and what earlier searches measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments import config
from experiments.config import ObjectiveConfig
from experiments.evaluators.records import read
from experiments.runs.folder import KEPT_LATENCIES, KEPT_PRIOR, OpenRun
from search.candidates import Candidates
from search.objective import Bounds, Objective
from search.samplers.observations import Observations, combined, from_study
from search.storage import storage_url, without_password
from search.study import find_study
from space.validation import InvalidInput


def objective_of(run: OpenRun) -> Objective:
    """The recipe's objective; latencies come from the run's own copy of the table."""
    settings, table = run.recipe.objective, None
    if settings.latency_table is not None:
        table = _table(run, settings.latency_table)
    return Objective(
        target=settings.target,
        cost=settings.cost,
        exponent_below=settings.exponent_below,
        exponent_above=settings.exponent_above,
        bounds=Bounds(**settings.bounds.model_dump()),
        pareto=settings.pareto,
        precision=settings.precision,
        seconds=table.predict if table and _asks_latency(settings) else None,
    )


def _asks_latency(settings: ObjectiveConfig) -> bool:
    asked = (settings.cost, *settings.pareto)
    return "latency" in asked or settings.bounds.latency is not None


def _table(run: OpenRun, path: Path) -> Any:
    from experiments.latency import tables

    kept = run.folder / KEPT_LATENCIES
    table = tables.load(kept if kept.is_file() else path)
    if table.setting.resolution != run.recipe.resolution:
        raise InvalidInput(
            f"objective.latency_table: {path} was measured at {table.setting.resolution} pixels, "
            f"but the networks take {run.recipe.resolution}; build one with --resolution "
            f"{run.recipe.resolution}"
        )
    table.save(kept)
    return table


def prior_of(run: OpenRun, candidates: Candidates) -> Observations | None:
    """What the recipe's `warm_start` holds; read once and kept in the run, since it may grow.

    Raises `InvalidInput` where a source cannot be read, or none of its networks are of the space.
    """
    if not run.recipe.search.warm_start:
        return None
    if not (run.folder / KEPT_PRIOR).is_file():
        found = combined([_source(run, s, candidates) for s in run.recipe.search.warm_start])
        assert found is not None  # every source holds something
        run.write(KEPT_PRIOR, {"rows": found.rows.tolist(), "accuracy": found.accuracy.tolist()})
    kept = run.read(KEPT_PRIOR)
    rows, accuracy = np.array(kept["rows"], np.int64), np.array(kept["accuracy"])
    return Observations(rows, accuracy, np.zeros(len(rows)))


def _source(run: OpenRun, source: str, candidates: Candidates) -> Observations:
    where = f"search.warm_start: {without_password(source) if '://' in source else source}"
    if "://" not in source and not Path(source).is_dir():
        records = read(Path(source), candidates.space)
        return Observations(records.rows, records.accuracy, np.zeros(len(records)))
    storage = storage_url(run.folder, source) if "://" in source else _storage_of(Path(source))
    if storage == run.storage:
        raise InvalidInput(f"{where}: is this run's own storage; give those of earlier runs")
    try:
        found = from_study(find_study(storage, "search"), candidates)
    except InvalidInput as error:
        raise InvalidInput(f"search.warm_start: {error}") from None
    if len(found) < 2:
        raise InvalidInput(
            f"{where}: contains fewer than two complete trials of networks in the space "
            f"{candidates.space.name}; remove it"
        )
    return found


def _storage_of(folder: Path) -> str:
    """The storage of the run in `folder`."""
    recipe = folder / "recipe.yaml"
    if not recipe.is_file():
        raise InvalidInput(f"search.warm_start: {folder}: not a run; it contains no recipe.yaml")
    return OpenRun(folder, config.load(str(recipe))).storage
