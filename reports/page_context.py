"""The frames of a run, arranged for the report's template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reports import tables, ternary
from reports.chart_data import StageIndex
from reports.load import Run
from reports.schema import rows
from reports.tables import Tables

#: Pixels of a side of the triangle of shares.
_SIDE = 300
#: Trials that the page lists for each reason for failing.
_MOST_LISTED = 40


def search_counts(found: Tables) -> list[tuple[str, int]]:
    """How the search's trials ended, as titles and numbers."""
    titles = {
        "complete": "trained to the end",
        "pruned": "stopped early",
        "rejected": "rejected by cost",
        "answered": "answered without training",
        "failed": "failed",
        "retried": "retried",
        "in_pieces": "with split batches (out of memory)",
        "unfinished": "unfinished",
    }
    for row in rows(found.counts[found.counts["study"] == "search"]):
        seldom = ("unfinished", "in_pieces")
        shown = {name: int(row[name]) for name in titles if row[name] or name not in seldom}
        return [(titles[name], amount) for name, amount in shown.items()]
    return []


def failures(found: Tables) -> list[dict[str, Any]]:
    """The reasons of failed trials, the most frequent first, with the numbers of these trials."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows(found.failures):
        reason = row["reason"] or "no reason recorded"
        groups.setdefault((row["study"], reason), []).append(row["trial"])
    return [
        {
            "study": study,
            "reason": reason,
            "times": len(trials),
            "trials": ", ".join(map(str, trials[:_MOST_LISTED]))
            + " …" * (len(trials) > _MOST_LISTED),
        }
        for (study, reason), trials in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def shares(found: Tables) -> dict[str, Any]:
    """The table of choices: a row for each kind of choice, a column for each stage."""
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
        "places": [place.replace("stage", "stage ") or "network" for place in places],
        "kinds": [(kind, [cells.get((kind, place)) for place in places]) for kind in kinds],
        "most": max(weights.values(), default=1.0) or 1.0,
    }


def chosen(coefficients: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The chosen coefficients, as titles and numbers."""
    titles = (
        ("alpha", "α, depth", ".4g"),
        ("beta", "β, width", ".4g"),
        ("gamma", "γ, resolution", ".4g"),
        ("nominal_product", "α·β²·γ²", ".3f"),
        ("realised_ratio", "× the MACs", ".2f"),
    )
    return [(title, format(coefficients[name], form)) for name, title, form in titles]


def triangle(candidates: list[dict[str, Any]]) -> dict[str, Any]:
    """The triangle of shares in pixels, y downwards; shades from 0 to 4 rise with accuracy."""
    known = ternary.placed(candidates)
    if len(known) < 3:
        return {}

    def at(place: ternary.TernaryPoint) -> dict[str, float]:
        return {"x": round(_SIDE * place.x, 1), "y": round(_SIDE * (ternary.HEIGHT - place.y), 1)}

    points = [
        at(each.at) | {"shade": int(4.999 * each.level), "row": each.row, "named": each.numbered}
        for each in known
    ]
    return {
        "lines": [(at(begin), at(end)) for begin, end in ternary.GRID],
        "corners": [at(corner) | {"name": name} for name, corner in ternary.CORNERS],
        "points": points[::-1],  # the most important are drawn over the others
    }


@dataclass(frozen=True)
class ForestPlot:
    """The scale of the drawn column of the table of candidates."""

    low: float
    high: float
    band: tuple[float, float] | None

    @classmethod
    def around(cls, candidates: list[dict[str, Any]]) -> ForestPlot:
        """A scale that holds all intervals of `candidates`; the band is the winner's interval."""
        ends = [row[name] for row in candidates for name in ("accuracy", "low", "high")]
        known = [end for end in ends if end is not None] or [0.0, 1.0]
        bands = [(row["low"], row["high"]) for row in candidates if row["winner"]]
        band = bands[0] if bands and bands[0][0] is not None else None
        margin = (max(known) - min(known)) * 0.02 or 0.01
        return cls(min(known) - margin, max(known) + margin, band)

    def place(self, accuracy: float) -> str:
        """The position of an accuracy, in percent of the width."""
        return self.length(self.low, accuracy)

    def length(self, low: float, high: float) -> str:
        """The length of an interval, in percent of the width."""
        return f"{100 * (high - low) / (self.high - self.low):.2f}%"


def networks(run: Run, found: Tables, networks: StageIndex) -> Iterator[dict[str, Any]]:
    """The baseline and the family, each with its stages, its cost and its index in the page's data.

    A member that is the baseline itself is listed once, for both.
    """
    keys = {member["name"]: member["key"] for member in (run.family or {}).get("members", ())}
    baseline = str((run.baseline or {}).get("key", ""))
    resolutions = {name: each.resolution for name, each in tables.networks(run).items()}
    for name, stages in found.stages.groupby("network", sort=False):
        if name == "baseline" and baseline in keys.values():
            continue
        key = keys.get(name, baseline)
        title = "Baseline" if name == "baseline" else str(name).upper()
        yield {
            "title": title + ", the baseline" * (name != "baseline" and key == baseline),
            "index": networks.index[key],
            "stages": rows(stages),
            "resolution": resolutions[str(name)],
            "macs": int(stages["macs"].sum()),
            "params": int(stages["params"].sum()),
        }
