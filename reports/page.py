"""Stage 4: the report of a run: one HTML page, with its figures and tables as files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reports import figures, html, tables, text, view
from reports.charts import chart_data, networks_of
from reports.columns import glossary, rows
from reports.load import Run, load
from reports.summary import summarise
from reports.tables import Tables
from space.files import write_file

#: Candidates of the coefficient grid that the page lists; the CSV has all.
_MOST_CANDIDATES = 60


def write(run_dir: Path | str, storage: str | None = None) -> Path:
    """Writes the report of a run, finished or not, and gives the path of its page.

    `storage` is the URL of the run's Optuna storage, None for the one that its recipe names. Into
    `report/` go `index.html`, a CSV of every table and the figures as PNG, SVG and PDF, each
    whole or not at all; what an earlier report left there is replaced. Raises
    `space.validation.InvalidInput` where the run cannot be read.
    """
    run = load(run_dir, storage)
    found = tables.collect(run)
    folder = run.path / "report"
    names = [*_write_tables(found, folder), *_write_figures(run, found, folder)]
    page = folder / "index.html"
    write_file(page, render(run, found, files=names))
    return page


def _write_tables(found: Tables, folder: Path) -> Iterator[str]:
    for name, frame in (vars(found) | {"columns": glossary()}).items():
        write_file(folder / f"{name}.csv", text.to_csv(frame))
        yield f"{name}.csv"


def _write_figures(run: Run, found: Tables, folder: Path) -> Iterator[str]:
    for kind in figures.KINDS:
        figure = figures.draw(kind, run, found)
        for suffix in ("png", "svg", "pdf"):
            figures.save(figure, folder / f"{kind}.{suffix}")
            yield f"{kind}.{suffix}"


def render(run: Run, found: Tables, files: list[str]) -> str:
    """The page, with links to `files` beside it."""
    networks = networks_of(run)
    family = rows(found.family)
    candidates = rows(found.coefficients.head(_MOST_CANDIDATES))
    search = view.search_counts(found)
    there = {
        "search": search,
        "coefficients": run.coefficients,
        "family": family,
        "networks": len(found.stages),
        "provenance": True,
    }
    return html.page(
        "report.html",
        title=run.name,
        run=run,
        summary=summarise(run, found),
        sections=[(name, name.capitalize()) for name, shown in there.items() if shown],
        family=family,
        best=rows(found.best),
        search=search,
        curves={study: view.longest_curve(found, study) > 1 for study in ("search", "family")},
        shares=view.shares(found),
        slopes=rows(found.ranks) if len(found.ranks) > 1 else [],
        failures=rows(found.failures),
        candidates=candidates,
        triangle=view.triangle(candidates),
        forest=view.Forest.around(candidates),
        networks=list(view.networks(run, found, networks)),
        counts=rows(found.counts),
        provenance=list(view.facts(run.manifest)),
        files=files,
        data=chart_data(run, found, networks),
    )
