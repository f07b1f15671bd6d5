"""What a run has found and how, as names with values and as sentences: all that its page says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from reports.load import Run
from reports.prediction_panels import sentences
from reports.schema import frame
from reports.search_analysis import epoch_agreement, kendall_tau
from reports.summary import summarise
from reports.tables import Tables

if TYPE_CHECKING:
    import pandas as pd

#: Entries of a list in the manifest (classes, say) that the page spells out.
_MOST_LISTED = 40


def table(run: Run, found: Tables) -> pd.DataFrame:
    """Every number and setting that the page states outside its tables, by where it stands."""
    chosen = run.coefficients or {}
    evidence = {
        name: chosen.get(name) for name in ("finalists", "race", "surface", "guest", "design")
    }
    plain = {
        name: value
        for name, value in chosen.items()
        if name not in ("candidates", "trainings", *evidence)
    }
    search = {
        "agreement of short and long training (Kendall's tau)": kendall_tau(found.ranks),
        **{
            f"agreement of epoch {epoch} and the last (Kendall's tau)": tau
            for epoch, tau in epoch_agreement(found.learning_curves).items()
        },
        **{f"pareto · {name}": (run.pareto or {}).get(name) for name in ("hypervolume", "most")},
    }
    sections = {
        "search": _flat(search),
        "coefficients": _flat(plain | evidence),
        "provenance": provenance(run.manifest),
        "recipe": _flat(run.recipe),
    }
    rows = [
        {"section": section, "fact": name, "value": value}
        for section, facts in sections.items()
        for name, value in facts
    ]
    return frame(rows, ["section", "fact", "value"])


def statements(run: Run, found: Tables) -> pd.DataFrame:
    """Every sentence of the page, by its name in `reports.summary`."""
    told = summarise(run, found)
    rows = []
    for each in fields(told):
        value = getattr(told, each.name)
        rows += [(each.name, line) for line in (value if isinstance(value, tuple) else (value,))]
    rows += [("mistakes", line) for line in sentences(found)]
    return frame(
        [{"section": name, "statement": line} for name, line in rows if line],
        ["section", "statement"],
    )


def provenance(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The manifest as rows: nested names joined, each start's command, the last one's machine."""
    facts = dict(manifest)
    starts = facts.pop("starts", None) or [{}]
    facts.pop("seconds", None)  # a table of its own
    yield from _flat(facts)
    for place, start in enumerate(starts, start=1):
        told = " · ".join(str(start[name]) for name in ("time", "command") if name in start)
        yield f"start {place}", told
    yield from _flat(starts[-1].get("environment") or {})


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} · ")
        elif isinstance(value, list):
            more = f" and {len(value) - _MOST_LISTED:,} more" if len(value) > _MOST_LISTED else ""
            yield f"{prefix}{name}", ", ".join(map(str, value[:_MOST_LISTED])) + more
        elif value is not None:
            yield f"{prefix}{name}", str(value)
