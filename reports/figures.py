"""Figures for print, drawn with matplotlib from the frames of `reports.tables`.

Every figure is readable in grey and by the colour-blind (shapes and lightness differ, not hue
alone), names its lines beside them, and is the same file to the byte for the same data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reports.chart_data import latency_setting
from reports.coefficient_figures import coefficient_grid, coefficient_surface
from reports.figure_style import (
    BASELINE,
    FAMILY,
    FRONT,
    TRIAL,
    LineStyle,
    accuracy_line,
    count_axis,
    crosses,
    dots,
    legend,
    name_members,
    new_figure,
    percent_axis,
    plain,
    short_axis,
)
from reports.load import Run
from reports.schema import rows
from reports.search_figures import pareto_front, search_progress
from reports.tables import Tables
from reports.trial_tables import pareto
from space.validation import one_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The costs that accuracy is drawn against, as an axis names them.
COSTS = {
    "macs": "MACs (multiply–adds)",
    "params": "parameters",
    "activations": "activations (convolution outputs)",
}
#: How rivals, and ways to measure latency, are told apart: marker and dashes.
_RIVALS = (("s", "--"), ("^", ":"), ("v", "-."), ("P", "--"), ("X", ":"))
_WAYS = (
    *(("o", "-"), ("s", "--"), ("^", ":"), ("v", "-.")),
    *(("D", "-"), ("P", "--"), ("X", ":"), ("<", "-.")),
)
#: What else the family's accuracy is drawn against.
SECONDS = "seconds of training"
LATENCY = "milliseconds of one call"
THROUGHPUT = "images per second"


def accuracy(
    trials: pd.DataFrame,
    baseline: Mapping[str, Any] | None,
    family: pd.DataFrame,
    cost: str = "macs",
) -> Figure:
    """Accuracy against a cost: the search's trials, their Pareto front, the baseline, the family.

    The search's accuracy is on held-out images after its short training, the family's on the test
    images after its long one; the intervals are 95 % Wilson. `cost` is one of `COSTS`.
    """
    with new_figure(f"Accuracy against {COSTS[cost]}", 6.8, 4.4) as (figure, axes):
        searched = trials[(trials["study"] == "search") & trials["accuracy"].notna()]
        complete, pruned = (searched[searched["state"] == name] for name in ("complete", "pruned"))
        axes.margins(x=0.08, y=0.09)
        dots(axes, complete[cost], complete["accuracy"], TRIAL, "trials of the search")
        front = pareto(trials, cost)
        if len(front) > 1:
            axes.plot(
                front[cost].astype(float),
                front["accuracy"],
                color=FRONT,
                linewidth=1.1,
                drawstyle="steps-post",
                label="Pareto front of the search",
            )
        if baseline and baseline.get("accuracy") is not None:
            axes.plot(
                baseline["cost"][cost],
                baseline["accuracy"],
                marker="D",
                markersize=8,
                color=BASELINE,
                linestyle="none",
                label="baseline, trained longer",
            )
        _draw_rivals(axes, trials, family, cost)
        _draw_family(axes, family, cost)
        crosses(axes, pruned[cost], pruned["accuracy"], "pruned trials")
        axes.set_xscale("log")
        axes.set(xlabel=COSTS[cost], ylabel="accuracy")
        count_axis(axes)
        percent_axis(axes.yaxis)
        legend(figure, axes)
    return figure


def _draw_family(axes: Axes, family: pd.DataFrame, cost: str) -> None:
    way = rows(family[family["accuracy"].notna()])
    if way:
        accuracy_line(axes, way, cost, LineStyle("o", FAMILY, "-"), "family, on the test images")
        name_members(axes, way, cost, FAMILY)


def _draw_rivals(axes: Axes, trials: pd.DataFrame, family: pd.DataFrame, cost: str) -> None:
    """A thin line a rule, named at its end; a point a preset.

    A line begins at the smallest member, unless it has a rival of that one's MACs.
    """
    trained = trials[(trials["study"] == "rivals") & trials["accuracy"].notna()]
    if trained.empty:
        return
    start = family[family["accuracy"].notna()].sort_values("macs").head(1)
    for place, (rule, own) in enumerate(trained.groupby(_rules(trained), sort=False)):
        beside = own["job"].str.partition(" ")[2]
        first = start[~start["name"].isin(beside)] if beside.all() else start[:0]
        way = [*rows(first), *rows(own.sort_values("macs"))]
        marker, dashes = _RIVALS[place % len(_RIVALS)]
        axes.plot(
            [row[cost] for row in way],
            [row["accuracy"] for row in way],
            color=FRONT,
            marker=marker,
            markersize=4,
            linestyle=dashes,
            linewidth=1,
        )
        end = way[-1]
        cheaper = family[family[cost] <= end[cost]]["accuracy"].max()
        axes.annotate(
            plain(str(rule)),
            (end[cost], end["accuracy"]),
            xytext=(0, 6 if end["accuracy"] > cheaper else -6),
            textcoords="offset points",
            ha="center",
            va="bottom" if end["accuracy"] > cheaper else "top",
            color=FRONT,
            fontsize=7.5,
        )


def _rules(trained: pd.DataFrame) -> pd.Series[Any]:
    return trained["job"].str.partition(" ")[0]


def family_accuracy(title: str, lines: Mapping[str, list[dict[str, Any]]], label: str) -> Figure:
    """The members' accuracy against what they take, a line each way of measuring it.

    A row of a line has name, accuracy, low, high and x, and, where it varies, x_low and x_high.
    """
    with new_figure(f"Accuracy against {title}", 6.8, 3.8) as (figure, axes):
        for place, (name, way) in enumerate(lines.items()):
            _draw_way(axes, name if len(lines) > 1 else "", way, place)
        if len(lines) > 1:
            _name_aside(axes, lines)
        axes.set_xscale("log")
        axes.margins(x=0.1, y=0.12)
        axes.set(xlabel=label, ylabel="test accuracy")
        short_axis(axes)
        percent_axis(axes.yaxis)
        legend(figure, axes, 2)
    return figure


def _name_aside(axes: Axes, lines: Mapping[str, list[dict[str, Any]]]) -> None:
    """Names each member once, at the right of its points: it is as accurate on every line."""
    heights = {row["name"]: row["accuracy"] for way in lines.values() for row in way}
    for name, height in heights.items():
        axes.annotate(
            plain(str(name)).upper(),
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            color=FAMILY,
            fontweight="bold",
        )


def _draw_way(axes: Axes, name: str, way: list[dict[str, Any]], place: int) -> None:
    marker, dashes = _WAYS[place % len(_WAYS)]
    colour = FAMILY if place == 0 else FRONT
    accuracy_line(axes, way, "x", LineStyle(marker, colour, dashes), plain(name) or None)
    if not name:
        name_members(axes, way, "x", colour)


def latency_lines(
    latencies: Iterable[Mapping[str, Any]],
    members: Iterable[Mapping[str, Any]],
    *,
    throughput: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    """The members' accuracy and milliseconds of one call, by how they were measured.

    With `throughput`, images per second instead.
    """
    known = {row["name"]: row for row in members if row["accuracy"] is not None}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in latencies:
        if row["member"] not in known:
            continue
        low, median, high = (row[f"{name}_seconds"] for name in ("low", "median", "high"))
        if throughput:
            times = [row["batch"] / each for each in (high, median, low)]
        else:
            times = [1000 * each for each in (low, median, high)]
        place = dict(zip(("x_low", "x", "x_high"), times, strict=True))
        found.setdefault(latency_setting(row), []).append({**known[row["member"]], **place})
    return found


def _latency(tables: Tables, *, throughput: bool) -> Figure:
    lines = latency_lines(rows(tables.latency), rows(tables.family), throughput=throughput)
    title, label = ("throughput", THROUGHPUT) if throughput else ("latency", LATENCY)
    return family_accuracy(title, lines, label)


def _against_seconds(_: Run, tables: Tables) -> Figure:
    trained = [row for row in rows(tables.family) if row["accuracy"] and row["train_seconds"]]
    way = [row | {"x": row["train_seconds"]} for row in trained]
    return family_accuracy("training time", {"": way} if way else {}, SECONDS)


def _accuracy(cost: str) -> Callable[[Run, Tables], Figure]:
    return lambda run, tables: accuracy(tables.trials, run.baseline, tables.family, cost)


#: Every kind of figure, by the name of its file.
KINDS: Mapping[str, Callable[[Run, Tables], Figure]] = {
    **{f"accuracy_{cost}": _accuracy(cost) for cost in COSTS},
    "accuracy_latency": lambda _, tables: _latency(tables, throughput=False),
    "accuracy_throughput": lambda _, tables: _latency(tables, throughput=True),
    "accuracy_seconds": _against_seconds,
    "pareto": lambda run, tables: pareto_front(tables.trials, tables.pareto, run.pareto or {}),
    "search_progress": lambda _, tables: search_progress(tables.search_progress),
    "coefficients": lambda _, tables: coefficient_grid(tables.coefficients),
    "coefficient_surface": lambda _, tables: coefficient_surface(tables.coefficients),
}

#: The table that a figure has nothing to show without.
_NEEDS = {
    "accuracy_latency": "latency",
    "accuracy_throughput": "latency",
    "accuracy_seconds": "family",
    "pareto": "pareto",
    "search_progress": "search_progress",
    "coefficients": "coefficients",
    "coefficient_surface": "coefficients",
}


def drawable(tables: Tables) -> list[str]:
    """The kinds that have something to show, and accuracy against each cost in any case."""
    return [kind for kind in KINDS if kind not in _NEEDS or len(getattr(tables, _NEEDS[kind]))]


def draw(kind: str, run: Run, tables: Tables) -> Figure:
    """The figure of one of `KINDS`; raises `InvalidInput` for another name."""
    if kind not in KINDS:
        raise one_of("figure", kind, KINDS)
    return KINDS[kind](run, tables)
