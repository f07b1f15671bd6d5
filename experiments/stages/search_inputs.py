"""What a search begins with: its space, its objective, and what earlier searches measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.config import Recipe
from experiments.data.load import Data
from experiments.evaluators.records import read
from experiments.runs.folder import KEPT_LATENCIES, KEPT_PRIOR, OpenRun
from experiments.runs.resolve import existing_run
from search.candidates import Candidates
from search.objective import Bounds, Objective
from search.samplers.observations import Observations, combined, from_study
from search.storage import storage_url, without_password
from search.study import find_study
from space import choices
from space.choices import Space
from space.validation import InvalidInput


def space_of(recipe: Recipe, data: Data) -> Space:
    """The recipe's space, for the images."""
    return choices.load(recipe.space).adapted(
        num_classes=len(data.classes),
        resolution=recipe.resolution,
        in_channels=recipe.data.channels,
    )


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
        bounds=Bounds(**settings.network_bounds),
        pareto=settings.pareto,
        precision=settings.precision,
        seconds=table.predict if table and settings.uses_latency else None,
    )


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
    is_url = "://" in source
    if not is_url and not Path(source).is_dir():
        records = read(Path(source), candidates.space)
        return Observations(records.rows, records.accuracy, np.zeros(len(records)))
    where = without_password(source) if is_url else source
    try:
        storage = storage_url(run.folder, source) if is_url else existing_run(Path(source)).storage
        if storage == run.storage:
            raise InvalidInput(f"{where}: is this run's own storage; give those of earlier runs")
        found = from_study(find_study(storage, "search"), candidates)
        if len(found) < 2:
            raise InvalidInput(
                f"{where}: contains fewer than two complete trials of networks in the space "
                f"{candidates.space.name}; remove it"
            )
    except InvalidInput as error:
        raise InvalidInput(f"search.warm_start: {error}") from None
    return found
