"""Printed figures of a run, drawn with matplotlib from the frames of `reports.tables`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from reports import figure_style as style
from reports.chart_data import latency_setting
from reports.coefficient_figures import coefficient_grid, coefficient_surface
from reports.load import Run
from reports.schema import rows
from reports.search_figures import pareto_front, search_progress
from reports.tables import Tables
from reports.trial_tables import pareto, searched
from space.validation import one_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The costs that accuracy is drawn against, with the label of the axis.
COSTS = {
    "macs": style.MACS,
    "params": "parameters",
    "activations": "activations (convolution outputs)",
}
#: How rivals, and settings of a latency, are told apart: marker and dashes.
_RIVALS = (("s", "--"), ("^", ":"), ("v", "-."), ("P", "--"), ("X", ":"))
_SETTINGS = (
    *(("o", "-"), ("s", "--"), ("^", ":"), ("v", "-.")),
    *(("D", "-"), ("P", "--"), ("X", ":"), ("<", "-.")),
)


def accuracy(run: Run, tables: Tables, cost: str = "macs") -> Figure:
    """Accuracy against a cost: the search's trials and Pareto front, baseline, family and rivals.

    The search's accuracy is on held-out images after short training runs, the family's on the test
    images after long ones; intervals are 95 % Wilson. `cost` is one of `COSTS`.
    """
    trials, baseline = tables.trials, run.baseline
    with style.new_figure(f"Accuracy against {COSTS[cost]}", 6.8, 4.4) as (figure, axes):
        style.accuracy_axes(axes, COSTS[cost], "accuracy", (0.08, 0.09))
        complete, pruned = (
            searched(trials, state).dropna(subset="accuracy") for state in ("complete", "pruned")
        )
        style.dots(axes, complete[cost], complete["accuracy"], "trials of the search")
        front = pareto(trials, cost)
        if len(front) > 1:
            axes.plot(
                front[cost].astype(float),
                front["accuracy"],
                color=style.FRONT,
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
                color=style.BASELINE,
                linestyle="none",
                label="baseline, trained longer",
            )
        members = tables.family[tables.family["accuracy"].notna()].sort_values("macs")
        costs = {"compound": run.growth.get("compound_runs")} if run.growth else {}
        for place, (rule, own) in enumerate(tables.rivals.groupby("rule", sort=False)):
            name = f"{rule}, {runs} training runs" if (runs := costs.get(str(rule))) else str(rule)
            _draw_rivals(axes, name, own, members, cost, _RIVALS[place % len(_RIVALS)])
        if line := rows(members):
            look = style.LineStyle("o", style.FAMILY, "-")
            spent = f", learned in {run.growth['runs']} training runs" if run.growth else ""
            label = f"family, on the test images{spent}"
            style.accuracy_line(axes, line, cost, look, label, named=True)
        style.crosses(axes, pruned[cost], pruned["accuracy"], "pruned trials")
    return figure


def _draw_rivals(
    axes: Axes,
    rule: str,
    rivals: pd.DataFrame,
    members: pd.DataFrame,
    cost: str,
    look: tuple[str, str],
) -> None:
    """A thin line for each kind of rival.

    It begins at the smallest member, unless there is a rival with that member's MACs.
    """
    start = members.head(1)
    start = start[~start["name"].isin(rivals["member"])]
    line = [*rows(start), *rows(rivals.sort_values("macs"))]
    marker, dashes = look
    axes.plot(
        [row[cost] for row in line],
        [row["accuracy"] for row in line],
        color=style.FRONT,
        marker=marker,
        markersize=4,
        linestyle=dashes,
        linewidth=1,
        label=f"rival: {rule}",
    )


def family_accuracy(title: str, lines: Mapping[str, list[dict[str, Any]]], label: str) -> Figure:
    """The members' accuracy against what they take, a line for each way of measuring it.

    A row of a line has name, accuracy, low, high and x, and, where x varies, x_low and x_high.
    """
    with style.new_figure(f"Accuracy against {title}", 6.8, 3.8, 2) as (figure, axes):
        style.accuracy_axes(axes, label, "test accuracy", (0.1, 0.12), "{:g}".format)
        several = len(lines) > 1
        for place, (name, line) in enumerate(lines.items()):
            marker, dashes = _SETTINGS[place % len(_SETTINGS)]
            look = style.LineStyle(marker, style.FRONT if place else style.FAMILY, dashes)
            setting = style.plain(name) if several else None
            style.accuracy_line(axes, line, "x", look, setting, named=not several)
        if several:  # each name once, at the right: a member is as accurate on every line
            heights = {row["name"]: row["accuracy"] for line in lines.values() for row in line}
            for name, height in heights.items():
                style.annotate(
                    axes,
                    str(name).upper(),
                    (1, height),
                    (3, 0),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    color=style.FAMILY,
                    fontweight="bold",
                )
    return figure


def latency(
    latencies: Iterable[Mapping[str, Any]],
    members: Iterable[Mapping[str, Any]],
    *,
    throughput: bool = False,
) -> Figure:
    """The members' accuracy against milliseconds of one call, or against images per second."""
    lines = latency_lines(latencies, members, throughput=throughput)
    if throughput:
        return family_accuracy("throughput", lines, "images per second")
    return family_accuracy("latency", lines, "milliseconds of one call")


def latency_lines(
    latencies: Iterable[Mapping[str, Any]],
    members: Iterable[Mapping[str, Any]],
    *,
    throughput: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    """The lines of `latency`, by the setting that was measured; members of known accuracy only."""
    known = {row["name"]: row for row in members if row["accuracy"] is not None}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in latencies:
        if row["member"] not in known:
            continue
        low, median, high = (row[f"{name}_seconds"] for name in ("low", "median", "high"))
        if throughput:
            low, median, high = (row["batch"] / each for each in (high, median, low))
        else:
            low, median, high = (1000 * each for each in (low, median, high))
        place = {"x_low": low, "x": median, "x_high": high}
        found.setdefault(latency_setting(row), []).append({**known[row["member"]], **place})
    return found


def _latency(_: Run, tables: Tables, *, throughput: bool) -> Figure:
    return latency(rows(tables.latency), rows(tables.family), throughput=throughput)


def growth(found: Mapping[str, Any]) -> Figure:
    """Learned growth beside compound scaling: mean accuracy over the seeds that compare the two.

    `found` is the content of growth.json. A bar is half the interval of a difference to each side.
    """
    cost = found.get("cost", "macs")
    with style.new_figure("Learned growth and compound scaling", 6.8, 3.8) as (figure, axes):
        style.accuracy_axes(axes, COSTS.get(cost, cost), "accuracy", (0.1, 0.12))
        looks = {"compound": ("s", style.FRONT, "--"), "learned": ("o", style.FAMILY, "-")}
        for rule, look in looks.items():
            line = [_grown(each, rule, cost) for each in found["targets"]]
            if known := [row for row in line if row["accuracy"] is not None]:
                unit = "look-ups" if "table" in found else "training runs"
                own = rule == "learned"
                label = f"learned, {found['runs']} {unit}" if own else "compound scaling"
                if not own and "compound_runs" in found:
                    label += f", {found['compound_runs']} training runs"
                style.accuracy_line(axes, known, "x", style.LineStyle(*look), label, named=own)
    return figure


def _grown(target: Mapping[str, Any], rule: str, cost: str) -> dict[str, Any]:
    network = target[rule]
    accuracies, half = network["accuracies"], target["half_width"]
    accuracy = fmean(accuracies) if accuracies else None
    row = {"name": target["name"], "accuracy": accuracy, "low": None, "high": None}
    if accuracy is not None and half is not None and rule == "learned":
        row |= {"low": accuracy - half, "high": accuracy + half}
    return row | {"x": network["cost"][cost] if "cost" in network else network[cost]}


def test_resolutions(tested: Iterable[Mapping[str, Any]]) -> Figure:
    """Accuracy against MACs, a line for each member: the same weights at several resolutions.

    A ring marks the resolution that is exported.
    """
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in tested:
        lines.setdefault(str(row["member"]), []).append(dict(row))
    with style.new_figure("Test resolutions", 6.8, 3.8) as (figure, axes):
        style.accuracy_axes(axes, style.MACS, "test accuracy", (0.1, 0.12))
        for place, (name, line) in enumerate(lines.items()):
            marker, dashes = _SETTINGS[place % len(_SETTINGS)]
            look = style.LineStyle(marker, style.FRONT if place % 2 else style.FAMILY, dashes)
            plain = [{**row, "low": None, "high": None} for row in line]
            style.accuracy_line(axes, plain, "macs", look, name.upper())
            for row in line:
                point = (row["macs"], row["accuracy"])
                style.annotate(axes, f"{row['resolution']} px", point, (4, -9), fontsize=7)
                if row["chosen"]:
                    axes.plot(*point, "o", markersize=11, fillstyle="none", color=look.colour)
    return figure


def _training_time(_: Run, tables: Tables) -> Figure:
    trained = [row for row in rows(tables.family) if row["accuracy"] and row["train_seconds"]]
    line = [row | {"x": row["train_seconds"]} for row in trained]
    return family_accuracy("training time", {"": line} if line else {}, "seconds of training")


class FigureKind(NamedTuple):
    """A figure, and the table without which it has nothing to show ("": it always has)."""

    draw: Callable[[Run, Tables], Figure]
    needs: str = ""


#: Every kind of figure, by the name of its file.
KINDS: Mapping[str, FigureKind] = {
    **{f"accuracy_{cost}": FigureKind(partial(accuracy, cost=cost)) for cost in COSTS},
    "accuracy_latency": FigureKind(partial(_latency, throughput=False), "latency"),
    "accuracy_throughput": FigureKind(partial(_latency, throughput=True), "latency"),
    "accuracy_seconds": FigureKind(_training_time, "family"),
    "growth": FigureKind(lambda run, _: growth(run.growth or {"targets": ()}), "growth"),
    "test_resolutions": FigureKind(
        lambda _, found: test_resolutions(rows(found.test_resolutions)), "test_resolutions"
    ),
    "pareto": FigureKind(
        lambda run, found: pareto_front(found.trials, found.pareto, run.pareto or {}), "pareto"
    ),
    "search_progress": FigureKind(
        lambda _, found: search_progress(found.search_progress), "search_progress"
    ),
    "coefficients": FigureKind(
        lambda _, found: coefficient_grid(found.coefficients), "coefficients"
    ),
    "coefficient_surface": FigureKind(
        lambda _, found: coefficient_surface(found.coefficients), "coefficients"
    ),
}


def drawable(tables: Tables) -> list[str]:
    """The kinds of figures that have something to show."""
    return [
        name for name, kind in KINDS.items() if not kind.needs or len(getattr(tables, kind.needs))
    ]


def draw(name: str, run: Run, tables: Tables) -> Figure:
    """The figure of that kind; raises `InvalidInput` for a name that is not in `KINDS`."""
    if name not in KINDS:
        raise one_of("figure", name, KINDS)
    return KINDS[name].draw(run, tables)
