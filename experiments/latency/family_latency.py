"""Saves the latencies of a family: the table, its plots, and a line in each card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.latency.timing import FILE, LatencyRow, write
from reports import figures
from reports.figure_style import save
from scaling.export import write_cards
from scaling.formats.card import wilson
from scaling.saved_family import SavedFamily


def save_latencies(family: SavedFamily, rows: Sequence[LatencyRow]) -> list[Path]:
    """Writes latency.csv, a plot of latencies and one of throughput, and updates the cards.

    Cards that were edited stay as they are. Returns the paths of the table and the plots.
    """
    table = family.folder / FILE
    write(table, rows)
    write_cards(family.folder, family.record)
    measured = [row._asdict() for row in rows]
    paths = [table]
    for title, label, throughput in (
        ("latency", figures.LATENCY, False),
        ("throughput", figures.THROUGHPUT, True),
    ):
        lines = figures.latency_lines(measured, _accuracies(family), throughput=throughput)
        if lines:
            paths.append(family.folder / f"{title}.svg")
            save(figures.family_accuracy(title, lines, label), paths[-1])
    return paths


def _accuracies(family: SavedFamily) -> list[dict[str, str | float | None]]:
    """The members' accuracies, with the ends of their intervals."""
    found = []
    for member in family:
        low, high = None, None
        if member.accuracy is not None and member.record.images:
            low, high = wilson(member.accuracy, member.record.images)
        row = {"name": member.name, "accuracy": member.accuracy, "low": low, "high": high}
        found.append(row)
    return found
