"""Stage 4: the report of a run: one HTML page, with its figures and tables as files beside it.

The page needs nothing but itself: style, script and data are inline, and its content-security
policy admits exactly those two by their hashes, so a name that slipped through escaping would
still not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import figures, tables, ternary, text
from reports.charts import Networks, chart_data, networks_of
from reports.columns import COLUMNS, rows
from reports.load import Run, load
from reports.summary import summarise
from reports.tables import Tables
from space.files import write_file

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

#: Candidates of the coefficient grid that the page lists; the CSV has all.
_MOST_CANDIDATES = 60
#: Pixels of a side of the triangle of shares.
_SIDE = 300
#: Entries of a list in the manifest (classes, say) that the page spells out.
_MOST_LISTED = 40


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
    import pandas as pd

    columns = pd.DataFrame(COLUMNS.items(), columns=["column", "meaning"])
    for name, frame in (vars(found) | {"columns": columns}).items():
        write_file(folder / f"{name}.csv", to_csv(frame))
        yield f"{name}.csv"


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV; what a spreadsheet would take for a formula begins with an apostrophe."""
    return str(frame.rename(columns=text.cell).map(text.cell).to_csv(index=False))


def _write_figures(run: Run, found: Tables, folder: Path) -> Iterator[str]:
    for kind in figures.KINDS:
        figure = figures.draw(kind, run, found)
        for suffix in ("png", "svg", "pdf"):
            figures.save(figure, folder / f"{kind}.{suffix}")
            yield f"{kind}.{suffix}"


def render(run: Run, found: Tables, files: list[str]) -> str:
    """The page, with links to `files` beside it."""
    style, script = _template("report.css"), _template("report.js")
    networks = networks_of(run)
    family, candidates = (
        rows(found.family),
        rows(found.coefficients.head(_MOST_CANDIDATES)),
    )
    search = _search_counts(found.counts)
    shown = {"search": search, "coefficients": run.coefficients, "family": family}
    return (
        _environment()
        .from_string(_template("report.html"))
        .render(
            run=run,
            summary=summarise(run, found),
            sections=[(name, name.capitalize()) for name, there in shown.items() if there]
            + [("networks", "Networks")] * bool(len(found.stages))
            + [("provenance", "Provenance")],
            family=family,
            best=rows(found.best),
            search=search,
            curves={study: _longest_curve(found, study) > 1 for study in ("search", "family")},
            shares=_shares(found),
            slopes=rows(found.ranks) if len(found.ranks) > 1 else [],
            failures=rows(found.failures),
            candidates=candidates,
            triangle=_triangle(candidates),
            forest=Forest.around(candidates),
            networks=list(_networks(run, found, networks)),
            counts=rows(found.counts),
            provenance=list(_facts(run.manifest)),
            files=files,
            version=metadata.version("phiscale"),
            data=chart_data(run, found, networks),
            policy=_policy(style, script),
            style=_safe(style),
            script=_safe(script),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    def finalize(found: Any) -> Any:
        return text.printable(found) if type(found) is str else found

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (text.count, text.percent, text.half_width, text.duration):
        environment.globals[function.__name__] = function
    return environment


def _template(name: str) -> str:
    return (resources.files("reports") / "templates" / name).read_text("utf-8")


def _safe(own: str) -> Any:
    """A file of ours, to stand in the page as it is."""
    from markupsafe import Markup

    return Markup(own)


def _policy(style: str, script: str) -> str:
    """Nothing is loaded from anywhere; only this style and this script are heeded."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _search_counts(counts: pd.DataFrame) -> list[tuple[str, int]]:
    titles = {
        "complete": "trained to the end",
        "pruned": "ended early",
        "rejected": "rejected by cost",
        "answered": "answered without training",
        "failed": "failed",
        "retried": "retried",
        "unfinished": "unfinished",
    }
    for row in rows(counts[counts["study"] == "search"]):
        shown = {name: int(row[name]) for name in titles if row[name] or name != "unfinished"}
        return [(titles[name], amount) for name, amount in shown.items()]
    return []


def _longest_curve(found: Tables, study: str) -> int:
    curves = found.learning_curves
    return max((row["epoch"] for row in rows(curves[curves["study"] == study])), default=0)


def _shares(found: Tables) -> dict[str, Any]:
    """The table of choices: a row for each kind, a column for each stage of the space."""
    weights = {row["choice"]: row["importance"] for row in rows(found.importance)}
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows(found.choices):
        place, _, kind = row["choice"].rpartition(".")
        empty = {"importance": weights.get(row["choice"]), "values": list[Any]()}
        cells.setdefault((kind, place), empty)["values"].append(row)
    places = sorted({place for _, place in cells}, key=lambda place: (len(place), place))
    kinds = dict.fromkeys(kind for kind, _ in cells)
    if not cells:
        return {}
    return {
        "places": [place.replace("stage", "stage ") for place in places],
        "kinds": [(kind, [cells.get((kind, place)) for place in places]) for kind in kinds],
        "most": max(weights.values(), default=1.0) or 1.0,
    }


def _triangle(candidates: list[dict[str, Any]]) -> dict[str, Any]:
    """The triangle of shares in pixels, y downwards; shades from 0 to 4 rise with accuracy."""
    known = [row for row in candidates if row["accuracy"] is not None]
    if len(known) < 3:
        return {}

    def at(place: ternary.Place) -> dict[str, float]:
        return {
            "x": round(_SIDE * place.x, 1),
            "y": round(_SIDE * (ternary.HEIGHT - place.y), 1),
        }

    low, high = (end(row["accuracy"] for row in known) for end in (min, max))
    return {
        "lines": [(at(begin), at(end)) for begin, end in ternary.GRID],
        "corners": [at(corner) | {"name": name} for name, corner in ternary.CORNERS],
        "points": [
            at(ternary.place(row["depth_share"], row["width_share"], row["resolution_share"]))
            | {"shade": int(4.999 * (row["accuracy"] - low) / ((high - low) or 1)), "row": row}
            for row in reversed(known)
        ],
        "named": len(known) <= figures.MOST_NAMED,
    }


@dataclass(frozen=True)
class Forest:
    """Where accuracies stand in the drawn column of the table of candidates."""

    low: float
    high: float
    band: tuple[float, float] | None

    @classmethod
    def around(cls, candidates: list[dict[str, Any]]) -> Forest:
        """The range that holds all intervals of `candidates`; the band is the winner's."""
        ends = [row[name] for row in candidates for name in ("accuracy", "low", "high")]
        known = [end for end in ends if end is not None] or [0.0, 1.0]
        bands = [(row["low"], row["high"]) for row in candidates if row["winner"]]
        band = bands[0] if bands and bands[0][0] is not None else None
        margin = (max(known) - min(known)) * 0.02 or 0.01
        return cls(min(known) - margin, max(known) + margin, band)

    def place(self, accuracy: float) -> str:
        """The place of an accuracy, in percent of the width."""
        return self.length(self.low, accuracy)

    def length(self, low: float, high: float) -> str:
        """The length of an interval, in percent of the width."""
        return f"{100 * (high - low) / (self.high - self.low):.2f}%"


def _networks(run: Run, found: Tables, networks: Networks) -> Iterator[dict[str, Any]]:
    """The chosen networks with their stages, the whole cost and their place in the data.

    A member that is the baseline itself stands for both.
    """
    architectures = tables.networks(run)
    members = {each.key for name, each in architectures.items() if name != "baseline"}
    baseline = architectures["baseline"].key if "baseline" in architectures else ""
    for name, stages in found.stages.groupby("network", sort=False):
        architecture = architectures[str(name)]
        if name == "baseline" and baseline in members:
            continue
        title = "Baseline" if name == "baseline" else str(name).upper()
        yield {
            "title": title
            + ", the baseline" * (name != "baseline" and architecture.key == baseline),
            "index": networks.index[architecture.key],
            "stages": rows(stages),
            "resolution": architecture.resolution,
            "macs": int(stages["macs"].sum()),
            "params": int(stages["params"].sum()),
        }


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The manifest as rows: nested names joined, times as durations, of all starts the last."""
    facts = dict(manifest)
    starts = facts.pop("starts", None) or [{}]
    for stage, seconds in (facts.pop("seconds", None) or {}).items():
        yield f"time for {stage}", text.duration(seconds)
    yield from _flat(facts)
    start = dict(starts[-1])
    environment = start.pop("environment", None) or {}
    yield from _flat({"starts": len(starts)} | {f"last {name}": it for name, it in start.items()})
    yield from _flat(environment)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} · ")
        elif isinstance(value, list):
            more = f" and {len(value) - _MOST_LISTED:,} more" if len(value) > _MOST_LISTED else ""
            yield f"{prefix}{name}", ", ".join(map(str, value[:_MOST_LISTED])) + more
        elif value is not None:
            yield f"{prefix}{name}", str(value)
