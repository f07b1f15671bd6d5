"""Sentences about the family and its rivals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reports.formatting import count, percent, points
from reports.load import Run
from reports.schema import rows
from reports.summary.wording import LETTERS
from reports.tables import Tables

if TYPE_CHECKING:
    import pandas as pd


def intervals(family: pd.DataFrame) -> str:
    """What ± means."""
    if family["low"].isna().all():
        return ""
    return (
        "± is half of the 95 % binomial (Wilson) interval. It covers the choice of test images, "
        "not the variation between training runs."
    )


def members(run: Run) -> str:
    """How the members grow."""
    values = (run.family or {}).get("coefficients") or {}
    if not values:
        return ""
    powers = " · ".join(
        f"{what} × {values[name]:.4g}ᵠ" for _, name, what in LETTERS if name in values
    )
    return f"Each member is the baseline scaled by one φ: {powers}, rounded to whole blocks."


#: Rules of growth in words.
_BY = {name: f"{name} alone" for name in ("depth", "width", "resolution")} | {
    "compound": "compound scaling",
    "fast": "pycls' fast scaling",
}


def rivals(tables: Tables) -> Iterator[str]:
    """How the networks of each rule do beside the members of as many MACs; presets on their own."""
    for rule, own in tables.rivals.groupby("rule", sort=False):
        beside = [row for row in rows(own) if row["difference"] is not None]
        for row in rows(own) if not beside else ():
            yield f"{rule} reaches {percent(row['accuracy'])} with {count(row['macs'])} MACs."
        if beside:
            told = ", ".join(
                f"{points(row['difference'], unit=False)} at {str(row['member']).upper()}'s MACs"
                + ("" if row["told_apart"] else " (not told apart)")
                for row in beside
            )
            yield f"Growing by {_BY.get(str(rule), str(rule))}: {told}, in points of accuracy."
