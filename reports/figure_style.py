"""How figures for print look and are written: one style, and the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.formatting import printable, short
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, QUIET, FAINT = "#1f2933", "#66727f", "#e4e7eb"
TRIAL, PRUNED, FRONT = "#9aa5b1", "#c3cad2", "#52606d"
#: Okabe and Ito's vermilion and a darkened blue of theirs: apart in hue and in lightness.
BASELINE, FAMILY = "#d55e00", "#0b5fa5"

DPI = 200


class LineStyle(NamedTuple):
    """How a line is drawn: apart from others in shape and lightness, not in hue alone."""

    marker: str
    colour: str
    dashes: str


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


def encode(figure: Figure, suffix: str) -> bytes:
    """`figure` as png, svg or pdf: the same bytes for the same figure."""
    buffer = io.BytesIO()
    with applied():
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=_UNDATED[suffix])
    return buffer.getvalue()


#: The width of a column and of a page of a paper, in inches (assumed: two columns on A4).
COLUMN, PAGE = 3.4, 6.8
#: Letters of a legend's name of which a column does not hold two (measured).
_LONG = 20


def at_width(figure: Figure, width: float) -> Figure:
    """`figure` made `width` inches wide; its text keeps its size, and it loses less of its height.

    In a column it has no title, which a paper says in its caption, and a narrow legend.
    """
    own, height = figure.get_size_inches()
    figure.set_size_inches(width, height * (width / own) ** 0.4)
    if width > (COLUMN + PAGE) / 2:
        return figure
    for axes in figure.axes:
        axes.set_title("", loc="left")
    with applied():
        for each in tuple(figure.legends):
            longest = max(len(text.get_text()) for text in each.get_texts())
            each.remove()
            legend(figure, figure.axes[0], 1 if longest > _LONG else 2)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes `figure` in the format of `path`'s suffix, whole or not at all.

    Raises `InvalidInput` for a suffix that is none of .png, .svg and .pdf.
    """
    if path.suffix[1:].lower() not in _UNDATED:
        raise InvalidInput(f"{path}: a figure's file must end in .png, .svg or .pdf")
    write_file(path, encode(figure, path.suffix[1:].lower()))


def plain(text: str) -> str:
    """`text` without what matplotlib would read as mathematics."""
    return printable(text).replace("$", r"\$")


@contextmanager
def applied() -> Iterator[None]:
    """Inside, matplotlib draws in this style; afterwards as before."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


@contextmanager
def new_figure(title: str, width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """One figure of `width` × `height` inches with one pair of axes, in this style."""
    from matplotlib.figure import Figure

    with applied():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        yield figure, axes


def percent_axis(axis: Axis) -> None:
    """Labels fractions as percent."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 2):g} %"))


def count_axis(axes: Axes) -> None:
    """Labels a logarithmic axis of counts: 1M, 2M, 5M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def short_axis(axes: Axes) -> None:
    """Labels a logarithmic axis of small numbers: 0.5, 1, 2, 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, axes: Axes, columns: int = 3) -> None:
    """Below the axes, where no point can lie under it."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, labelcolor=QUIET)


def dots(axes: Axes, x: pd.Series[Any], y: pd.Series[Any], colour: str, label: str) -> None:
    """Draws points; nothing where there are none."""
    if len(x):
        axes.scatter(x.astype(float), y, s=13, c=colour, linewidths=0.8, label=label)


def crosses(axes: Axes, x: pd.Series[Any], y: pd.Series[Any], label: str) -> None:
    """Draws pruned trials over what is drawn already, which they do not squash.

    The y axis stays as it is; what lies outside is not seen.
    """
    if axes.has_data():
        axes.set_ylim(axes.get_ylim())
    if len(x):
        axes.scatter(x.astype(float), y, s=13, marker="x", c=PRUNED, linewidths=0.8, label=label)


def accuracy_line(
    axes: Axes, way: Sequence[Mapping[str, Any]], x: str, look: LineStyle, label: str | None
) -> None:
    """Draws accuracy against `x`, a point a row, as a line in the order of the rows.

    With error bars from `low` to `high`, and from `x_low` to `x_high`, where all rows have them.
    """
    axes.errorbar(
        [row[x] for row in way],
        [row["accuracy"] for row in way],
        xerr=_bars(way, x, "x_low", "x_high"),
        yerr=_bars(way, "accuracy", "low", "high"),
        color=look.colour,
        marker=look.marker,
        markersize=5,
        linestyle=look.dashes,
        linewidth=1.5,
        elinewidth=0.9,
        capsize=2,
        label=label,
    )


def _bars(way: Sequence[Mapping[str, Any]], middle: str, low: str, high: str) -> Any:
    """The lengths of error bars below and above; None where they are not known."""
    if any(row.get(low) is None for row in way):
        return None
    return [[row[middle] - row[low] for row in way], [row[high] - row[middle] for row in way]]


def name_members(axes: Axes, way: Sequence[Mapping[str, Any]], x: str, colour: str) -> None:
    """Writes each member's name above its point, or above its error bar."""
    for row in way:
        high = row.get("high")
        axes.annotate(
            plain(str(row["name"])).upper(),
            (row[x], row["accuracy"] if high is None else high),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=colour,
            fontweight="bold",
        )
