"""Figures of the coefficient grid: its candidates in a row, and on the triangle of shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.figure_style import (
    BASELINE,
    FAINT,
    FRONT,
    QUIET,
    TRIAL,
    new_figure,
    percent_axis,
)
from reports.schema import rows
from reports.ternary import CORNERS, GRID, TernaryPoint, place, with_room

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Candidates that the figure has room for.
MOST_CANDIDATES = 40


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
    shown.sort(key=lambda row: (not row["winner"], -row["accuracy"]))
    places = [
        place(row["depth_share"], row["width_share"], row["resolution_share"]) for row in shown
    ]
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
        accuracies = [row["accuracy"] for row in shown]
        for row, at, named in zip(shown, places, with_room(places), strict=True):
            _draw_candidate(axes, row, at, accuracies, named=named)
        axes.margins(0.12)
    return figure


def _draw_candidate(
    axes: Axes, row: dict[str, Any], at: TernaryPoint, accuracies: list[float], *, named: bool
) -> None:
    low, high = min(accuracies), max(accuracies)
    lightness = 0.85 - 0.7 * (row["accuracy"] - low) / ((high - low) or 1)
    edge = BASELINE if row["winner"] else QUIET
    axes.plot(
        *at,
        marker="D" if row["winner"] else "o",
        markersize=8 if row["winner"] else 6.5,
        color=str(lightness),
        markeredgecolor=edge,
        markeredgewidth=1.6 if row["winner"] else 0.6,
        zorder=4 if row["winner"] else 3,
    )
    if named:
        axes.annotate(
            f"{100 * row['accuracy']:.1f}",
            at,
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=7,
            color=edge,
        )
