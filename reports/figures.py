"""Figures for print, drawn with matplotlib from the frames of `reports.tables`.

Every figure is readable in grey and by the colour-blind (shapes and lightness differ, not hue
alone), names its lines beside them, and is the same file to the byte for the same data.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.columns import rows
from reports.load import Run
from reports.search_tables import pareto
from reports.tables import Tables
from reports.ternary import CORNERS, GRID, place
from reports.text import printable, short
from space.files import write_file
from space.validation import InvalidInput, one_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, QUIET, FAINT = "#1f2933", "#66727f", "#e4e7eb"
TRIAL, PRUNED, FRONT = "#9aa5b1", "#c3cad2", "#52606d"
#: Okabe and Ito's vermilion and a darkened blue of theirs: apart in hue and in lightness.
BASELINE, FAMILY = "#d55e00", "#0b5fa5"

#: The costs that accuracy is drawn against, as an axis names them.
COSTS = {
    "macs": "MACs (multiply–adds)",
    "params": "parameters",
    "activations": "activations (convolution outputs)",
}
DPI = 200
#: Candidates that the coefficient figure has room for.
MOST_CANDIDATES = 40
#: Candidates that a figure names one by one.
MOST_NAMED = 25

#: For each format, what keeps the time and the versions out of the file.
_UNDATED: Mapping[str, Any] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
}

_STYLE: Mapping[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": TRIAL,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlepad": 12,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": TRIAL,
    "ytick.color": TRIAL,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "phiscale",
}


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
    with _figure(f"Accuracy against {COSTS[cost]}", 6.8, 4.4) as (figure, axes):
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
        _count_axis(axes)
        _percent_axis(axes.yaxis)
        _legend(figure, axes)
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
            _plain(member).upper(),
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

    with _figure("Search progress", 6.8, 3.4) as (figure, axes):
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
        _legend(figure, axes)
    return figure


def coefficient_grid(coefficients: pd.DataFrame) -> Figure:
    """The grid's candidates by accuracy with 95 % intervals; the shade is the winner's interval."""
    shown = coefficients[coefficients["accuracy"].notna()].head(MOST_CANDIDATES)
    title = "Candidates of the coefficient grid"
    if len(shown) < len(coefficients):
        title += f": {len(shown)} of {len(coefficients)}"
    with _figure(title, 6.8, 1.3 + 0.21 * max(len(shown), 1)) as (figure, axes):
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
        _percent_axis(axes.xaxis)
    return figure


def coefficient_surface(coefficients: pd.DataFrame) -> Figure:
    """The candidates on the triangle of shares; the darker, the more accurate."""
    shown = rows(coefficients[coefficients["accuracy"].notna()])
    with _figure("How depth, width and resolution share the growth", 4.6, 4.3) as (figure, axes):
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


def encode(figure: Figure, suffix: str) -> bytes:
    """`figure` as png, svg or pdf: the same bytes for the same figure."""
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=_UNDATED[suffix])
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Writes `figure` in the format of `path`'s suffix, whole or not at all.

    Raises `InvalidInput` for a suffix that is none of .png, .svg and .pdf.
    """
    if path.suffix[1:] not in _UNDATED:
        raise InvalidInput(f"{path}: a figure ends in .png, .svg or .pdf; change the file's name")
    write_file(path, encode(figure, path.suffix[1:]))


def _plain(text: str) -> str:
    """`text` without what matplotlib would read as mathematics."""
    return printable(text).replace("$", r"\$")


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


@contextmanager
def _figure(title: str, width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """One figure of `width` × `height` inches with one pair of axes, in this module's style."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        yield figure, axes


def _percent_axis(axis: Axis) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 2):g} %"))


def _count_axis(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, where no point can lie under it."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower left", ncols=3, labelcolor=QUIET)
