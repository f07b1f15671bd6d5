"""Stage 4: the report of a run, one HTML page with its figures and tables as files beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import (
    figure_style,
    figures,
    formatting,
    page_context,
    page_facts,
    prediction_panels,
    tables,
    templating,
)
from reports.chart_data import StageIndex, chart_data, points_table
from reports.load import Run, load
from reports.schema import glossary, rows
from reports.summary import summarise
from reports.tables import Tables
from space.files import write_file

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = ("png", "svg", "pdf")
#: Candidates of the coefficient grid that the page lists; the CSV has all.
_MOST_CANDIDATES = 60

#: Tables that are made for a file only.
_MORE_TABLES: Mapping[str, Callable[[Run, Tables], pd.DataFrame]] = {
    "points": points_table,
    "facts": page_facts.facts,
    "statements": page_facts.statements,
    "columns": lambda *_: glossary(),
}


def write(
    run_dir: Path | str,
    storage: str | None = None,
    folder: Path | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the report of a run, finished or not, and returns the path of its page.

    `storage` is the URL of the run's Optuna storage; None for the one that its recipe names, and
    `recipe` is as `reports.load.load` takes it.
    `folder`, by default the run's `report/`, gets `index.html`, a CSV of every table, and the
    figures as PNG, SVG and PDF; each file is written atomically and replaces an earlier one. Raises
    `space.validation.InvalidInput` if the run cannot be read.
    """
    run = load(run_dir, storage, recipe)
    found = tables.collect(run)
    folder = folder or run.path / "report"
    for kind in figures.drawable(found):
        paths = [folder / f"{kind}.{suffix}" for suffix in _SUFFIXES]
        figure_style.save(figures.draw(kind, run, found), *paths)
    for name in (*_tables(), "index.html"):
        write_file(folder / name, content(name, run, found))
    return folder / "index.html"


def file_names(found: Tables) -> list[str]:
    """The names of the files beside a page: all tables, then the figures that show something."""
    return _tables() + [
        f"{kind}.{suffix}" for kind in figures.drawable(found) for suffix in _SUFFIXES
    ]


def _tables() -> list[str]:
    return [f"{name}.csv" for name in (*(each.name for each in fields(Tables)), *_MORE_TABLES)]


def content(name: str, run: Run, found: Tables) -> bytes:
    """The content of a file of the report: `index.html`, or one of `file_names`."""
    stem, _, suffix = name.rpartition(".")
    if name == "index.html":
        return render(run, found).encode()
    if suffix != "csv":
        return figure_style.encode(figures.draw(stem, run, found), suffix)
    more = _MORE_TABLES.get(stem)
    return formatting.to_csv(more(run, found) if more else getattr(found, stem)).encode()


def render(run: Run, found: Tables) -> str:
    """The page, with links to the files beside it."""
    networks = StageIndex(run.all_trials, run.baseline, tables.networks(run).values())
    family = rows(found.family)
    candidates = rows(found.coefficients.head(_MOST_CANDIDATES))
    search = page_context.search_counts(found)
    curves = found.learning_curves
    sections = {
        "search": search,
        "coefficients": run.coefficients,
        "family": family,
        "networks": len(found.stages),
        "provenance": True,
    }
    return templating.page(
        "report.html",
        title=run.name,
        run=run,
        summary=summarise(run, found),
        sections=[(name, name.capitalize()) for name, shown in sections.items() if shown],
        family=family,
        resolutions=rows(found.test_resolutions),
        best=rows(found.best),
        search=search,
        curves=bool((curves["study"].eq("search") & curves["epoch"].gt(1)).any()),
        shares=page_context.shares(found),
        short="elastic part" if run.elastic else "short run",
        slopes=rows(found.ranks) if len(found.ranks) > 1 else [],
        failures=page_context.failures(found),
        chosen=page_context.chosen(run.coefficients) if run.coefficients else [],
        candidates=candidates,
        triangle=page_context.triangle(candidates),
        forest=page_context.ForestPlot.around(candidates),
        mistakes=prediction_panels.panels(run, found),
        activations=list(prediction_panels.activation_rows(run, found)),
        networks=list(page_context.networks(run, found, networks)),
        counts=rows(found.counts),
        provenance=list(page_facts.provenance(run.manifest)),
        times=rows(found.times),
        files=file_names(found),
        data=chart_data(run, found, networks),
    )
