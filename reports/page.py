"""Stage 4: the report of a run: one HTML page, with its figures and tables as files beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from reports import (
    figure_style,
    figures,
    formatting,
    page_context,
    page_tables,
    prediction_panels,
    tables,
    templating,
)
from reports.chart_data import chart_data, networks_of, points_table
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


def write(run_dir: Path | str, storage: str | None = None, folder: Path | None = None) -> Path:
    """Writes the report of a run, finished or not, and gives the path of its page.

    `storage` is the URL of the run's Optuna storage, None for the one that its recipe names. Into
    `folder`, by default the run's `report/`, go `index.html`, a CSV of every table and the figures
    as PNG, SVG and PDF, each whole or not at all; what an earlier report left there is replaced.
    Raises `space.validation.InvalidInput` where the run cannot be read.
    """
    run = load(run_dir, storage)
    found = tables.collect(run)
    folder = folder or run.path / "report"
    for kind in figures.drawable(found):
        figure = figures.draw(kind, run, found)
        for suffix in _SUFFIXES:
            write_file(folder / f"{kind}.{suffix}", figure_style.encode(figure, suffix))
    for name in (*_tables(), "index.html"):
        write_file(folder / name, content(name, run, found))
    return folder / "index.html"


def file_names(found: Tables) -> list[str]:
    """The names of the files beside a page: all tables, then the figures that show something."""
    return _tables() + [
        f"{kind}.{suffix}" for kind in figures.drawable(found) for suffix in _SUFFIXES
    ]


def _tables() -> list[str]:
    names = [*(field.name for field in fields(Tables)), *_MORE_TABLES]
    return [f"{name}.csv" for name in names]


def content(name: str, run: Run, found: Tables) -> bytes:
    """The file of the report that has this name: the page, or one of `file_names`."""
    stem, _, suffix = name.rpartition(".")
    if name == "index.html":
        return render(run, found).encode()
    if suffix != "csv":
        return figure_style.encode(figures.draw(stem, run, found), suffix)
    more = _MORE_TABLES.get(stem)
    return formatting.to_csv(more(run, found) if more else getattr(found, stem)).encode()


#: Tables that are made for a file alone.
_MORE_TABLES: Mapping[str, Callable[[Run, Tables], pd.DataFrame]] = {
    "points": points_table,
    "facts": page_tables.table,
    "statements": page_tables.statements,
    "columns": lambda *_: glossary(),
}


def render(run: Run, found: Tables) -> str:
    """The page, with links to the files beside it."""
    networks = networks_of(run)
    family = rows(found.family)
    candidates = rows(found.coefficients.head(_MOST_CANDIDATES))
    search = page_context.search_counts(found)
    there = {
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
        sections=[(name, name.capitalize()) for name, shown in there.items() if shown],
        family=family,
        best=rows(found.best),
        search=search,
        curves=page_context.longest_curve(found, "search") > 1,
        shares=page_context.shares(found),
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
        provenance=list(page_tables.provenance(run.manifest)),
        times=rows(found.times),
        files=file_names(found),
        data=chart_data(run, found, networks),
    )
