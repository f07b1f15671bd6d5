"""The page on published ImageNet networks: sentences, a figure, tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import figure_style as style
from reports import published_gains, templating
from reports.formatting import minus, number
from reports.published_gains import COSTS
from reports.schema import frame, names, rows, write_tables
from reports.timm_results import TimmResults
from space.files import write_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Dimensions that sentences call otherwise.
_SAID = {"compound": "compound scaling"}

#: Networks of one recipe with which a family is drawn.
_DRAWN = 6

#: How the drawn families are told apart.
_SHAPES = (("o", "-"), ("s", "--"), ("^", "-."), ("v", ":"), ("D", "-"), ("P", "--"), ("X", "-."))
_COLOURS = (style.FAMILY, style.BASELINE, style.INK)

_GAINS = names("family dimension recipe maker networks gain removed")
_AHEAD = names("family dimension recipe name resolution macs ahead")


def collect(results: TimmResults) -> dict[str, Any]:
    """The tables of `published_gains.collect`, and the sentences that follow from them."""
    found = published_gains.collect(results)
    return found | {"sentences": list(sentences(found))}


def write(results: TimmResults, found: Mapping[str, Any], out: Path) -> Path:
    """Writes the page of what `collect` found, with figure, tables and JSON; returns its path."""
    tables = {
        "gains": frame(rows(published_gains.gains(results)), _GAINS),
        "compound": frame(rows(published_gains.against_compound(results)), _AHEAD),
    }
    files = [*write_tables(out, tables), "published.json"]
    write_file(out / "published.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    picture = None
    if len(results.networks):
        figure = accuracy(results)
        figures = ("accuracy.png", "accuracy.svg")
        style.save(figure, *(out / name for name in figures))
        files += figures
        picture = style.encode(figure, "png")
    page = templating.page(
        "published.html",
        title="Published networks",
        found=found,
        costs=COSTS,
        interval=interval,
        picture=picture,
        sections=[("result", "Result"), ("tables", "Tables")],
        files=files,
        data={"points": {"columns": [], "rows": []}},
    )
    write_file(out / "index.html", page)
    return out / "index.html"


def accuracy(results: TimmResults) -> Figure:
    """Accuracy against MACs: every network, and a line for each family that one recipe trained.

    Of a family, the recipe with most networks is drawn, of these the first by name.
    """
    networks = published_gains.trained(results)
    best: dict[str, pd.DataFrame] = {}
    for line in published_gains.families(networks):
        family = line["family"].iloc[0]
        if len(line) > len(best.get(family, range(_DRAWN - 1))):
            best[family] = line
    with style.new_figure("Accuracy against MACs on ImageNet", 6.8, 5.2, 2) as (figure, axes):
        style.accuracy_axes(axes, style.MACS, "top-1 accuracy", (0.02, 0.02))
        x, y = networks["macs"], networks["accuracy"]
        axes.scatter(x, y, s=6, c=style.PRUNED, label="a trained network")
        looks = product(_SHAPES, _COLOURS)
        for (family, line), ((marker, dashes), colour) in zip(best.items(), looks, strict=False):
            label = f"{family}, {line['recipe'].iloc[0]}"
            look = style.LineStyle(marker, colour, dashes)
            style.accuracy_line(axes, rows(line), "macs", look, label)
        axes.set(xlim=(1e8, None), ylim=(0.65, 0.91))
    return figure


def sentences(found: Mapping[str, Any]) -> Iterator[str]:
    """What the tables of `collect` say; each sentence has its n."""
    for row in found["dimensions"]:
        way = _SAID.get(row["dimension"], row["dimension"])
        gained, removed = (interval(row, name) for name in ("gain", "removed"))
        yield (
            f"One doubling of MACs by {way} gains {gained} points and removes {removed} % of "
            f"the errors (n = {row['n']} lines of {row['recipes']} recipes)"
            f"{'' if row['gain_told_apart'] else ': not told apart from no gain'}."
        )
    yield from _told(found["differences"])
    for row in found["compound"]:
        yield _beside(row)
    if every := found["families"]:
        most, least = every[0], every[-1]
        apart = len(every) > 1 and most["gain_low"] > least["gain_high"]
        yield (
            f"Of {len(every)} families, {_family(most)} gains most per doubling, and "
            f"{_family(least)} least: {'' if apart else 'not '}told apart."
        )
    if every := found["recipes"]:
        told = "; ".join(
            f"{row['recipe']} {interval(row, 'gain', signed=True)} (n = {row['n']} lines)"
            for row in every
            if row["gain_told_apart"]
        )
        yield (
            f"By their points per doubling, of {len(every)} recipes these are told apart from "
            f"others that trained the same lines: {told or 'none'}."
        )
    for row in found["times"]:
        taus = ", ".join(f"{COSTS[cost]} {interval(row, cost, unit=1)}" for cost in COSTS)
        yield (
            f"Kendall τ of a cost with the time of an image on {row['device']}: {taus} "
            f"(n = {row['n']:,} networks and resolutions). Activations and MACs are "
            f"{'' if row['ahead_told_apart'] else 'not '}told apart."
        )


def interval(row: Mapping[str, Any], name: str, *, unit: int = 100, signed: bool = False) -> str:
    """`1.78 (1.21 to 2.35)`: a fraction in hundredths or, with `unit` 1, as it is; – for none."""
    form = f"{'+' if signed else ''}z.2f"
    value, *ends = (row[name + end] for end in ("", "_low", "_high"))
    if value is None:
        return "–"
    shown = format(unit * value, form)
    if None not in ends:
        shown += f" ({' to '.join(format(unit * end, form) for end in ends)})"
    return minus(shown)


def _told(differences: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Which dimensions are told apart by the part of the errors that they remove."""
    tied = []
    for row in differences:
        if not row["removed_told_apart"]:
            tied.append(f"{row['one']} and {row['other']}")
            continue
        one, other = ("one", "other") if row["removed"] > 0 else ("other", "one")
        yield (
            f"A doubling by {row[one]} removes {100 * abs(row['removed']):.1f} % more of the "
            f"errors than one by {row[other]} (n = {row['n']} lines): told apart."
        )
    if tied:
        yield f"Not told apart by the errors that a doubling removes: {'; '.join(tied)}."


def _beside(row: Mapping[str, Any]) -> str:
    means = ", ".join(
        f"{name} {minus(f'{100 * ahead:+z.2f}')}" for name, ahead in row["families"].items()
    )
    if row["ahead_low"] is None:
        verdict = "one family alone, so no verdict"
    else:
        verdict = "told apart" if row["ahead_told_apart"] else "not told apart"
    return (
        f"At equal MACs, compound scaling differs by {interval(row, 'ahead', signed=True)} points "
        f"from more {row['dimension']} alone (n = {number(row['n'], 'network')}; {means}): "
        f"{verdict}."
    )


def _family(row: Mapping[str, Any]) -> str:
    recipes = number(row["n"], "recipe")
    return f"{row['family']} with {interval(row, 'gain')} points (n = {recipes})"
