"""Figures for print, drawn with matplotlib from the frames of `reports.tables`.

Every figure is readable in grey and by the colour-blind (shapes and lightness differ, not hue
alone), names its lines beside them, and is the same file to the byte for the same data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from reports.columns import rows
from reports.load import Run
from reports.search_tables import pareto
from reports.style import (
    BASELINE,
    FAINT,
    FAMILY,
    FRONT,
    PRUNED,
    QUIET,
    TRIAL,
    count_axis,
    legend,
    new_figure,
    percent_axis,
    plain,
)
from reports.tables import Tables
from reports.ternary import CORNERS, GRID, place
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
#: Candidates that the coefficient figure has room for.
MOST_CANDIDATES = 40
#: Candidates that a figure names one by one.
MOST_NAMED = 25


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
        for state, colour, label in (
            ("pruned", PRUNED, "pruned trials"),
            ("complete", TRIAL, "trials of the search"),
        ):
            some = searched[searched["state"] == state]
            _draw_dots(axes, some[cost], some["accuracy"], colour, state == "complete", label)
        front = pareto(trials, cost)
        if len(front):
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
        _draw_family(axes, family, cost)
        axes.set_xscale("log")
        axes.margins(x=0.08, y=0.09)
        axes.set(xlabel=COSTS[cost], ylabel="accuracy")
        count_axis(axes)
        percent_axis(axes.yaxis)
        legend(figure, axes)
    return figure


def _draw_dots(
    axes: Axes, x: pd.Series[Any], y: pd.Series[Any], colour: str, full: bool, label: str
) -> None:
    if len(x):
        axes.scatter(
            x.astype(float),
            y,
            s=13,
            facecolors=colour if full else "none",
            edgecolors=colour,
            linewidths=0.8,
            label=label,
        )


def _draw_family(axes: Axes, family: pd.DataFrame, cost: str) -> None:
    known = family[family["accuracy"].notna()]
    if known.empty:
        return
    spent = known[cost].astype(float)
    spread = [known["accuracy"] - known["low"], known["high"] - known["accuracy"]]
    axes.errorbar(
        spent,
        known["accuracy"],
        yerr=spread if known["low"].notna().all() else None,
        color=FAMILY,
        marker="o",
        markersize=5,
        linewidth=1.6,
        elinewidth=1,
        capsize=2,
        label="family, on the test images",
    )
    for member, x, y in zip(
        known["name"], spent, known["high"].fillna(known["accuracy"]), strict=True
    ):
        axes.annotate(
            plain(member).upper(),
            (x, y),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=FAMILY,
            fontweight="bold",
        )


def search_progress(progress: pd.DataFrame) -> Figure:
    """The reward of each finished training of the search, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    with new_figure("Search progress", 6.8, 3.4) as (figure, axes):
        for state in ("pruned", "complete"):
            some = progress[(progress["state"] == state) & progress["reward"].notna()]
            _draw_dots(axes, some["trial"], some["reward"], TRIAL, state == "complete", state)
        best = progress[progress["best_reward"].notna()]
        if len(best):
            x, y = best["trial"].astype(int), best["best_reward"]
            axes.plot(x, y, color=FAMILY, linewidth=1.6, drawstyle="steps-post")
            axes.annotate(
                f"best so far {y.iloc[-1]:.3f}",
                (x.iloc[-1], y.iloc[-1]),
                xytext=(0, 5),
                textcoords="offset points",
                ha="right",
                color=FAMILY,
                fontweight="bold",
            )
        axes.margins(x=0.03, y=0.12)
        axes.set(xlabel="trial", ylabel="reward")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, axes)
    return figure


def coefficient_grid(coefficients: pd.DataFrame) -> Figure:
    """The grid's candidates by accuracy with 95 % intervals; the shade is the winner's interval."""
    shown = coefficients[coefficients["accuracy"].notna()].head(MOST_CANDIDATES)
    title = "Candidates of the coefficient grid"
    if len(shown) < len(coefficients):
        title += f": {len(shown)} of {len(coefficients)}"
    with new_figure(title, 6.8, 1.3 + 0.21 * max(len(shown), 1)) as (figure, axes):
        rows = range(len(shown))
        for row, candidate in zip(rows, shown.to_dict("records"), strict=True):
            colour, marker = (BASELINE, "D") if candidate["winner"] else (FRONT, "o")
            ends = [candidate["low"], candidate["high"]]
            if candidate["winner"]:
                axes.axvspan(*ends, color=BASELINE, alpha=0.08, linewidth=0)
            axes.plot(ends, [row, row], color=colour, linewidth=1.1)
            axes.plot(candidate["accuracy"], row, marker=marker, markersize=4.5, color=colour)
        axes.set_yticks(
            rows,
            [f"α {c.alpha:.2f}   β {c.beta:.2f}   γ {c.gamma:.2f}" for c in shown.itertuples()],
        )
        ratios = axes.secondary_yaxis("right")
        ratios.set_yticks(rows, [f"{ratio:.2f} ×" for ratio in shown["realised_ratio"]])
        ratios.spines["right"].set_visible(False)
        for side in (axes, ratios):
            side.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel("accuracy on the held-out images")
        axes.annotate(
            "MACs over the baseline's",
            (1, 1),
            xycoords="axes fraction",
            xytext=(36, 2),
            textcoords="offset points",
            ha="right",
            color=QUIET,
        )
        percent_axis(axes.xaxis)
    return figure


def coefficient_surface(coefficients: pd.DataFrame) -> Figure:
    """The candidates on the triangle of shares; the darker, the more accurate."""
    shown = rows(coefficients[coefficients["accuracy"].notna()])
    with new_figure("How depth, width and resolution share the growth", 4.6, 4.3) as (figure, axes):
        axes.set_aspect("equal")
        axes.set_axis_off()
        for begin, end in GRID:
            axes.plot([begin.x, end.x], [begin.y, end.y], color=FAINT, linewidth=0.7, zorder=0)
        outline = [corner for _, corner in (*CORNERS, CORNERS[0])]
        axes.plot([c.x for c in outline], [c.y for c in outline], color=TRIAL, linewidth=0.9)
        for name, corner in CORNERS:
            top = corner.y > 0
            axes.annotate(
                name,
                corner,
                xytext=(0, 13 if top else -6),
                textcoords="offset points",
                ha="center",
                va="bottom" if top else "top",
                color=QUIET,
            )
        for row in shown:
            _draw_candidate(axes, row, [each["accuracy"] for each in shown])
        axes.margins(0.12)
    return figure


def _draw_candidate(axes: Axes, row: dict[str, Any], accuracies: list[float]) -> None:
    low, high = min(accuracies), max(accuracies)
    at = place(row["depth_share"], row["width_share"], row["resolution_share"])
    lightness = 0.85 - 0.7 * (row["accuracy"] - low) / ((high - low) or 1)
    edge = BASELINE if row["winner"] else QUIET
    axes.plot(
        *at,
        marker="D" if row["winner"] else "o",
        markersize=8 if row["winner"] else 6.5,
        color=str(lightness),
        markeredgecolor=edge,
        markeredgewidth=1.6 if row["winner"] else 0.6,
        zorder=3,
    )
    if len(accuracies) <= MOST_NAMED:
        axes.annotate(
            f"{100 * row['accuracy']:.1f}",
            at,
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=7,
            color=edge,
        )


def _accuracy(cost: str) -> Callable[[Run, Tables], Figure]:
    return lambda run, tables: accuracy(tables.trials, run.baseline, tables.family, cost)


#: Every kind of figure, by the name of its file.
KINDS: Mapping[str, Callable[[Run, Tables], Figure]] = {
    **{f"accuracy_{cost}": _accuracy(cost) for cost in COSTS},
    "search_progress": lambda _, tables: search_progress(tables.search_progress),
    "coefficients": lambda _, tables: coefficient_grid(tables.coefficients),
    "coefficient_surface": lambda _, tables: coefficient_surface(tables.coefficients),
}


def draw(kind: str, run: Run, tables: Tables) -> Figure:
    """The figure of one of `KINDS`; raises `InvalidInput` for another name."""
    if kind not in KINDS:
        raise one_of("figure", kind, KINDS)
    return KINDS[kind](run, tables)
