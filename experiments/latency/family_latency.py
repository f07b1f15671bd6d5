"""Saves the latencies of a family: the table, its plots, and a line in each model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.latency.timing import FILE, LatencyRow, write
from reports import figures
from reports.figure_style import save
from reports.statistics import interval
from scaling.export import write_cards
from scaling.saved_family import SavedFamily


def save_latencies(family: SavedFamily, rows: Sequence[LatencyRow]) -> list[Path]:
    """Writes latency.csv, a plot of latencies and one of throughput, and updates the cards.

    Edited cards stay as they are. Plots need a member of known accuracy. Returns the paths of the
    table and the plots.
    """
    paths = [family.folder / FILE]
    write(paths[0], rows)
    write_cards(family.folder, family.record)
    measured = [row._asdict() for row in rows]
    members = [
        {"name": member.name} | interval(member.accuracy, member.record.images) for member in family
    ]
    if any(row["accuracy"] is not None for row in members):
        for name in ("latency", "throughput"):
            figure = figures.latency(measured, members, throughput=name == "throughput")
            paths.append(family.folder / f"{name}.svg")
            save(figure, paths[-1])
    return paths
