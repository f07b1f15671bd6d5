"""One style for all printed figures; the same data give the same bytes.

Figures are readable in grey and by the colour-blind: shapes, dashes and lightness differ, not hue
alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
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
#: Okabe and Ito's vermilion, and their blue darkened: apart in hue and in lightness.
BASELINE, FAMILY = "#d55e00", "#0b5fa5"

MACS = "MACs (multiply–adds)"

DPI = 200

#: The width of a column and of a page of a paper, in inches (assumed: two columns on A4).
COLUMN, PAGE = 3.4, 6.8
#: Length of a label above which a column has no room for two side by side (measured).
_LONG = 20


class LineStyle(NamedTuple):
    """How a line is drawn."""

    marker: str
    colour: str
    dashes: str


#: The formats, each with the metadata that keeps dates and versions out of the file.
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

# ---------------------------------------------------------------------------------------- figures


@contextmanager
def applied() -> Iterator[None]:
    """Applies the style to what matplotlib draws inside the block."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


@contextmanager
def new_figure(
    title: str, width: float, height: float, legend_columns: int = 3
) -> Iterator[tuple[Figure, Axes]]:
    """A figure of `width` × `height` inches with one pair of axes; adds the legend at the end."""
    with new_grid((1, 1), width, height, legend_columns) as (figure, (axes,)):
        axes.set_title(title)
        yield figure, axes


@contextmanager
def new_grid(
    shape: tuple[int, int], width: float, height: float, legend_columns: int = 3
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with rows × columns axes, row by row; adds the legend at the end."""
    from matplotlib.figure import Figure

    with applied():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, list(figure.subplots(*shape, squeeze=False).flat)
        _add_legend(figure, legend_columns)


def _add_legend(figure: Figure, columns: int) -> None:
    """Places each label of any axes once below all axes, where it hides no point."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(
            found.values(), found, loc="outside lower left", ncols=columns, labelcolor=QUIET
        )


def encode(figure: Figure, suffix: str) -> bytes:
    """`figure` as png, svg or pdf: the same bytes for the same figure.

    It is laid out once, whatever formats follow: that takes about as long as drawing it.
    """
    buffer = io.BytesIO()
    with applied():
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=suffix, dpi=DPI, metadata=_UNDATED[suffix])
    return buffer.getvalue()


def save(figure: Figure, *paths: Path) -> None:
    """Writes `figure` to each of `paths`, in the format of its suffix, atomically.

    Raises `InvalidInput` for a suffix other than .png, .svg and .pdf.
    """
    for path in paths:
        suffix = path.suffix[1:].lower()
        if suffix not in _UNDATED:
            raise InvalidInput(f"{path}: a figure's file must end in .png, .svg or .pdf")
        write_file(path, encode(figure, suffix))


def at_width(figure: Figure, width: float) -> Figure:
    """Resizes `figure` to `width` inches; text keeps its size, and height shrinks less than width.

    A figure for a column loses its title, which belongs in the paper's caption, and gets a narrow
    legend.
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
            _add_legend(figure, 1 if longest > _LONG else 2)
    return figure


# ------------------------------------------------------------------------------------ axes, labels


def accuracy_axes(
    axes: Axes, x: str, y: str, margins: tuple[float, float], tick: Callable[[float], str] = short
) -> None:
    """Labels the axes: x logarithmic with ticks at 1, 2, 5, 10 …, y in percent."""
    from matplotlib.ticker import LogLocator, NullFormatter

    class Ticks(LogLocator):
        def nonsingular(self, vmin: float, vmax: float) -> tuple[float, float]:
            # Limits that differ by rounding alone have the same logarithm, and would be refused.
            low, high = super().nonsingular(vmin, vmin if vmin < vmax < vmin * (1 + 1e-9) else vmax)
            return low, high

    axes.set(xscale="log", xlabel=x, ylabel=y)
    axes.margins(*margins)
    axes.xaxis.set_major_locator(Ticks(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: tick(value))
    axes.xaxis.set_minor_formatter(NullFormatter())
    percent_axis(axes.yaxis)


def percent_axis(axis: Axis) -> None:
    """Labels fractions as percent."""
    axis.set_major_formatter(lambda value, _: f"{round(100 * value, 2):g} %")


def plain(text: str) -> str:
    """`text` with what matplotlib would read as mathematics escaped."""
    return printable(text).replace("$", r"\$")


def annotate(axes: Axes, text: str, point: Any, offset: tuple[float, float], **look: Any) -> None:
    """Writes `text` at `offset`, in points, from `point`."""
    axes.annotate(plain(text), point, xytext=offset, textcoords="offset points", **look)


# ----------------------------------------------------------------------------------------- points


def dots(axes: Axes, x: pd.Series[Any], y: pd.Series[Any], label: str) -> None:
    """Draws trials as points, if there are any."""
    if len(x):
        axes.scatter(x.astype(float), y, s=13, c=TRIAL, linewidths=0.8, label=label)


def crosses(axes: Axes, x: pd.Series[Any], y: pd.Series[Any], label: str) -> None:
    """Draws pruned trials without changing the range of the y axis.

    The label says how many lie outside it.
    """
    outside = 0
    if axes.has_data():
        low, high = axes.set_ylim(axes.get_ylim())
        outside = len(y) - int(y.between(low, high).sum())
    if len(x):
        label = f"{label} ({outside} outside the axes)" if outside else label
        axes.scatter(x.astype(float), y, s=13, marker="x", c=PRUNED, linewidths=0.8, label=label)


def accuracy_line(
    axes: Axes,
    line: Sequence[Mapping[str, Any]],
    x: str,
    look: LineStyle,
    label: str | None,
    *,
    named: bool = False,
) -> None:
    """Draws accuracy against `x` as a line through the rows in their order.

    Error bars from `low` to `high` and from `x_low` to `x_high` are drawn where all rows have them.
    `named` writes the name of each member above its point or error bar.
    """
    axes.errorbar(
        [row[x] for row in line],
        [row["accuracy"] for row in line],
        xerr=_bars(line, x, "x_low", "x_high"),
        yerr=_bars(line, "accuracy", "low", "high"),
        color=look.colour,
        marker=look.marker,
        markersize=5,
        linestyle=look.dashes,
        linewidth=1.5,
        elinewidth=0.9,
        capsize=2,
        label=label,
    )
    above = {"ha": "center", "va": "bottom", "color": look.colour, "fontweight": "bold"}
    for row in line if named else ():
        high = row.get("high")
        point = (row[x], row["accuracy"] if high is None else high)
        annotate(axes, str(row["name"]).upper(), point, (0, 4), **above)


def _bars(line: Sequence[Mapping[str, Any]], middle: str, low: str, high: str) -> Any:
    """The lengths of error bars below and above the points; None where a row lacks them."""
    if any(row.get(low) is None for row in line):
        return None
    return [[row[middle] - row[low] for row in line], [row[high] - row[middle] for row in line]]
