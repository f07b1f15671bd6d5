"""Figures of the search: its progress, also over repeats, and its Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports import figure_style as style
from reports.formatting import plural
from reports.schema import frame, names, rows
from reports.trial_tables import searched

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_BANDS = names("made runs median lower_quartile upper_quartile")

#: How the lines of several searches are told apart: colour and dashes.
_LOOKS = ((style.FAMILY, "-"), (style.BASELINE, "--"), (style.FRONT, "-."), (style.TRIAL, ":"))


def search_progress(progress: pd.DataFrame) -> Figure:
    """The reward of each finished training run of the search, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    with style.new_figure("Search progress", 6.8, 3.4) as (figure, axes):
        axes.margins(x=0.03, y=0.12)
        rewarded = progress[progress["reward"].notna()]
        complete, pruned = (rewarded[rewarded["state"] == name] for name in ("complete", "pruned"))
        style.dots(axes, complete["trial"], complete["reward"], "complete")
        best = progress[progress["best_reward"].notna()]
        if len(best):
            x, y = best["trial"].astype(int), best["best_reward"]
            axes.plot(x, y, color=style.FAMILY, linewidth=1.6, drawstyle="steps-post")
            end = (x.iloc[-1], y.iloc[-1])
            told = f"best so far {end[1]:.3f}"
            style.annotate(
                axes, told, end, (0, 5), ha="right", color=style.FAMILY, fontweight="bold"
            )
        style.crosses(axes, pruned["trial"], pruned["reward"], "pruned")
        axes.set(xlabel="trial", ylabel="reward")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def bands(repeats: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The best reward over repeats of a search, by the number of finished training runs.

    A row for each number that all repeats have reached: `made` (from 1), how many `runs` there are,
    and the median and both quartiles of their best rewards (linear interpolation). `repeats` come
    from `trial_tables.progress`.
    """
    import pandas as pd

    best = [made["best_reward"].dropna().reset_index(drop=True) for made in repeats]
    reached = pd.concat(best, axis=1, join="inner")
    table = reached.quantile([0.25, 0.5, 0.75], axis=1).T
    table.columns = pd.Index(["lower_quartile", "median", "upper_quartile"])
    return frame(rows(table.assign(made=reached.index + 1, runs=reached.shape[1])), _BANDS)


def repeated_progress(groups: Mapping[str, pd.DataFrame]) -> Figure:
    """The median of the best rewards so far with the quartiles as a band, a line for each group.

    `groups` maps the name of a group of runs to its `bands`.
    """
    with style.new_figure("Search over repeats: median and quartiles", 6.8, 3.6) as (figure, axes):
        shown = {name: band for name, band in groups.items() if len(band)}
        for place, (name, band) in enumerate(shown.items()):
            colour, dashes = _LOOKS[place % len(_LOOKS)]
            made, runs = band["made"].astype(int), int(band["runs"].max())
            low, high = band["lower_quartile"], band["upper_quartile"]
            axes.fill_between(made, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
            axes.plot(
                made,
                band["median"],
                color=colour,
                linestyle=dashes,
                linewidth=1.6,
                drawstyle="steps-post",
                label=f"{style.plain(name)}, {runs} {plural(runs, 'run')}",
            )
        axes.margins(x=0.02, y=0.12)
        axes.set(xlabel="finished training runs", ylabel="best reward so far")
    return figure


def pareto_front(trials: pd.DataFrame, front: pd.DataFrame, several: Mapping[str, Any]) -> Figure:
    """The search's trials and their Pareto front of accuracy and MACs; what it beats is shaded.

    `several` is `pareto.json`, from a search of several objectives: its hypervolume is written
    into the figure.
    """
    with style.new_figure("Pareto front of the search", 6.8, 4.0) as (figure, axes):
        style.accuracy_axes(axes, style.MACS, "held-out accuracy", (0.06, 0.16))
        own = searched(trials, "complete")
        style.dots(axes, own["macs"], own["accuracy"], "trials of the search")
        if len(front):
            x, y = front["macs"].astype(float), front["accuracy"]
            steps = ([*x, float(own["macs"].max())], [*y, y.iloc[-1]])
            axes.plot(*steps, color=style.FAMILY, linewidth=1.4, drawstyle="steps-post")
            floor = float(own["accuracy"].min())
            axes.fill_between(
                *steps, floor, step="post", color=style.FAMILY, alpha=0.09, linewidth=0
            )
            axes.scatter(x, y, s=26, color=style.FAMILY, zorder=3, label="not beaten in both")
            for row in rows(front) if len(front) < 20 else ():
                point, look = (row["macs"], row["accuracy"]), {"fontsize": 7, "color": style.QUIET}
                style.annotate(axes, str(row["trial"]), point, (-4, 4), ha="right", **look)
        if several:
            objectives = " and ".join(several["objectives"])
            axes.annotate(
                f"hypervolume {several['hypervolume']:.3f} ({objectives}; 1: all)",
                (0.99, 0.03),
                xycoords="axes fraction",
                ha="right",
                color=style.INK,
            )
    return figure
