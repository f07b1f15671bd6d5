"""Figures of the coefficient grid: its candidates in a row, and on the triangle of shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports import figure_style as style
from reports.schema import rows
from reports.ternary import CORNERS, GRID, PlacedCandidate, placed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Candidates that the figure has room for.
MOST_CANDIDATES = 40


def coefficient_grid(coefficients: pd.DataFrame) -> Figure:
    """The grid's candidates by accuracy with 95 % intervals; the winner's interval is shaded."""
    shown = rows(coefficients[coefficients["accuracy"].notna()].head(MOST_CANDIDATES))
    title = "Candidates of the coefficient grid"
    if len(shown) < len(coefficients):
        title += f": {len(shown)} of {len(coefficients)}"
    with style.new_figure(title, 6.8, 1.3 + 0.21 * max(len(shown), 1)) as (figure, axes):
        heights = range(len(shown))
        for y, row in enumerate(shown):
            colour, marker = (style.BASELINE, "D") if row["winner"] else (style.FRONT, "o")
            if row["low"] is not None:
                ends = [row["low"], row["high"]]
                if row["winner"]:
                    axes.axvspan(*ends, color=style.BASELINE, alpha=0.08, linewidth=0)
                axes.plot(ends, [y, y], color=colour, linewidth=1.1)
            axes.plot(row["accuracy"], y, marker=marker, markersize=4.5, color=colour)
        axes.set_yticks(
            heights, ["α {alpha:.2f}   β {beta:.2f}   γ {gamma:.2f}".format(**row) for row in shown]
        )
        ratios = axes.secondary_yaxis("right")
        ratios.set_yticks(heights, [f"{row['realised_ratio']:.2f} ×" for row in shown])
        ratios.spines["right"].set_visible(False)
        for side in (axes, ratios):
            side.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel("accuracy on the held-out images")
        told = "MACs over the baseline's"
        style.annotate(
            axes, told, (1, 1), (36, 2), xycoords="axes fraction", ha="right", color=style.QUIET
        )
        style.percent_axis(axes.xaxis)
    return figure


def coefficient_surface(coefficients: pd.DataFrame) -> Figure:
    """The candidates on the triangle of shares; the darker, the more accurate."""
    with style.new_figure("How depth, width and resolution share the growth", 4.6, 4.3) as (
        figure,
        axes,
    ):
        axes.set_aspect("equal")
        axes.set_axis_off()
        for begin, end in GRID:
            axes.plot(
                [begin.x, end.x], [begin.y, end.y], color=style.FAINT, linewidth=0.7, zorder=0
            )
        outline = [corner for _, corner in (*CORNERS, CORNERS[0])]
        axes.plot([c.x for c in outline], [c.y for c in outline], color=style.TRIAL, linewidth=0.9)
        for name, corner in CORNERS:
            offset, side = ((0, 13), "bottom") if corner.y > 0 else ((0, -6), "top")
            style.annotate(axes, name, corner, offset, ha="center", va=side, color=style.QUIET)
        for candidate in placed(rows(coefficients)):
            _draw_candidate(axes, candidate)
        axes.margins(0.12)
    return figure


def _draw_candidate(axes: Axes, candidate: PlacedCandidate) -> None:
    winner = candidate.row["winner"]
    edge = style.BASELINE if winner else style.QUIET
    axes.plot(
        *candidate.at,
        marker="D" if winner else "o",
        markersize=8 if winner else 6.5,
        color=str(0.85 - 0.7 * candidate.level),
        markeredgecolor=edge,
        markeredgewidth=1.6 if winner else 0.6,
        zorder=4 if winner else 3,
    )
    if candidate.numbered:
        told = f"{100 * candidate.row['accuracy']:.1f}"
        style.annotate(axes, told, candidate.at, (6, 4), fontsize=7, color=edge)
