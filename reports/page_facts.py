"""All that a run's page says outside its tables: names with values, and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reports.load import Run
from reports.prediction_panels import sentences
from reports.schema import frame
from reports.search_tables import elastic_agreement, epoch_agreement, kendall_tau
from reports.summary import summarise
from reports.tables import Tables

if TYPE_CHECKING:
    import pandas as pd

#: Entries of a list in the manifest (classes, say) that the page spells out.
_MOST_LISTED = 40


def facts(run: Run, found: Tables) -> pd.DataFrame:
    """Every number and setting that the page states outside its tables, by section."""
    chosen, pareto = run.coefficients or {}, run.pareto or {}
    agreement = "agreement of {} (Kendall's tau)".format
    tables = ("candidates", "training_runs")
    seeds = elastic_agreement(run)
    search = {
        agreement("short and long training"): kendall_tau(found.ranks),
        agreement("two elastic seeds"): seeds and seeds._asdict(),
        **{
            agreement(f"epoch {epoch} and the last"): tau
            for epoch, tau in epoch_agreement(found.learning_curves).items()
        },
        "pareto": {name: pareto.get(name) for name in ("hypervolume", "most")},
    }
    sections = {
        "search": _named(search),
        "coefficients": _named({k: v for k, v in chosen.items() if k not in tables}),
        "provenance": provenance(run.manifest),
        "recipe": _named(run.recipe),
    }
    rows = [
        {"section": section, "fact": name, "value": value}
        for section, named in sections.items()
        for name, value in named
    ]
    return frame(rows, ["section", "fact", "value"])


def statements(run: Run, found: Tables) -> pd.DataFrame:
    """Every sentence of the page, by its name in `reports.summary`."""
    told = {**summarise(run, found), "mistakes": tuple(sentences(found))}
    rows = [
        {"section": name, "statement": line}
        for name, value in told.items()
        for line in (value if isinstance(value, tuple) else (value,))
        if line
    ]
    return frame(rows, ["section", "statement"])


def provenance(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The manifest as names and values: each start's command, the last start's machine."""
    facts = dict(manifest)
    starts = facts.pop("starts", None) or [{}]
    for table in ("seconds", "rivals"):  # tables of their own
        facts.pop(table, None)
    yield from _named(facts)
    for place, start in enumerate(starts, start=1):
        told = " · ".join(str(start[name]) for name in ("time", "command") if name in start)
        yield f"start {place}", told
    yield from _named(starts[-1].get("environment") or {})


def _named(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values in words; None is left out, long lists are cut."""
    for name, value in flat(facts, " · "):
        if isinstance(value, list):
            more = f" and {len(value) - _MOST_LISTED:,} more" if len(value) > _MOST_LISTED else ""
            listed = [*map(str, value[:_MOST_LISTED])]
            sentences = any(each.endswith(".") for each in listed)
            yield name, (" " if sentences else ", ").join(listed) + more
        elif value is not None:
            yield name, str(value)


def flat(nested: Mapping[str, Any], separator: str) -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, with the names on the way to each joined."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}{separator}{rest}", leaf) for rest, leaf in flat(value, separator))
        else:
            yield str(name), value
