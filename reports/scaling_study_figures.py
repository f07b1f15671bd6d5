"""Figures of a scaling study: accuracy against MACs beside the published, and activation maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import figure_style, published
from reports.formatting import number
from reports.schema import rows
from scaling.study_design import UNSCALED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reports.scaling_study import ScalingStudy

_RULES: Mapping[str, figure_style.LineStyle] = {
    "depth": figure_style.LineStyle("v", figure_style.TRIAL, "--"),
    "width": figure_style.LineStyle("s", figure_style.QUIET, "-."),
    "resolution": figure_style.LineStyle("^", figure_style.BASELINE, ":"),
    "compound": figure_style.LineStyle("o", figure_style.FAMILY, "-"),
    "fast": figure_style.LineStyle("P", figure_style.INK, "-"),
}
#: Of baselines that are compared, those that are not claimed to be the best.
_OTHERS = tuple(
    figure_style.LineStyle(*style)
    for style in (
        ("v", figure_style.TRIAL, "--"),
        ("s", figure_style.QUIET, "-."),
        ("^", figure_style.BASELINE, ":"),
        ("P", figure_style.INK, "--"),
        ("X", figure_style.FRONT, "-."),
        ("<", figure_style.QUIET, ":"),
    )
)

#: Images in the figure of activation maps.
_MAPPED = 4


def accuracy(study: ScalingStudy, points: pd.DataFrame) -> Figure:
    """Accuracy against MACs of the study's `points`, beside what was published on ImageNet.

    Where rules are compared, a panel for each baseline, the paper's own points below it; else a
    line for each baseline, the published families in a second panel.
    """
    from matplotlib.figure import Figure

    measured = rows(points[points["accuracy"].notna()])
    names = tuple(dict.fromkeys(row["baseline"] for row in measured))
    by_rule, beside = study.compared == "rules", bool(study.published)
    panels = [(name,) for name in names] if by_rule else [names]
    looks = _RULES if by_rule else _looks(names, study.best)
    shape = (1 + beside, len(panels)) if len(panels) > 1 else (1, 1 + beside)
    size = (max(6.4, 3.3 * shape[1]), 0.5 + 3.1 * shape[0])
    with figure_style.applied():
        figure = Figure(figsize=size, layout="constrained")
        grid = list(figure.subplots(*shape, squeeze=False).flat)
        for place, shown in enumerate(panels):
            own = [row for row in measured if row["baseline"] in shown]
            title = f"{shown[0]}: here" if by_rule else "Here"
            _draw(grid[place], title, own, study.compared, looks)
            seeds = min((row["seeds"] for row in own), default=study.seeds)
            grid[place].set_ylabel(f"test accuracy, {number(seeds, 'seed')}")
            if beside:
                printed = _published(study, shown)
                axes = grid[len(panels) + place]
                _draw(axes, "On ImageNet, published", printed, study.compared, looks)
                axes.set_ylabel("top-1 accuracy")
        figure_style.legend(figure, max(grid, key=lambda axes: len(axes.containers)))
    return figure


def _looks(names: Iterable[str], best: str) -> dict[str, figure_style.LineStyle]:
    """How each baseline is drawn; the one claimed to be the best stands out."""
    others = cycle(_OTHERS)
    return {name: _RULES["compound"] if name == best else next(others) for name in names}


def _published(study: ScalingStudy, names: Iterable[str]) -> list[dict[str, Any]]:
    """The paper's points for these baselines, as rows like the study's own."""
    bases = {name: study.published[name] for name in names if name in study.published}
    if study.compared == "rules":
        return [row._asdict() for base in bases.values() for row in published.scaled(base)]
    return [
        network._asdict() | {"baseline": name}
        for name, base in bases.items()
        for network in published.family(base)
    ]


def _draw(
    axes: Axes,
    title: str,
    points: list[dict[str, Any]],
    compared: str,
    looks: Mapping[str, figure_style.LineStyle],
) -> None:
    """A line for each rule or baseline; those of rules begin at what has not grown."""
    start = [row for row in points if row.get("rule") == UNSCALED]
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in points:
        if row not in start:
            lines.setdefault(row["rule" if compared == "rules" else "baseline"], []).append(row)
    for label, way in lines.items():
        in_order = sorted([*start, *way], key=lambda row: row["macs"])
        figure_style.accuracy_line(axes, in_order, "macs", looks[label], label)
    axes.set_title(title)
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.1)
    axes.set_xlabel("MACs (multiply–adds)")
    figure_style.count_axis(axes)
    figure_style.percent_axis(axes.yaxis)


def activation_maps(folder: Path) -> Figure | None:
    """What the compared networks look at in the same images (figure 7); None without their maps.

    Class activation maps for the true class: bright where a network finds what speaks for it.
    """
    import numpy as np
    from matplotlib.figure import Figure

    files = [folder / "predictions" / f"{name}.npz" for name in ("images", "activation_maps")]
    if not all(file.is_file() for file in files):
        return None
    images, maps = (dict(np.load(file, allow_pickle=False)) for file in files)
    shown = {int(index): pixels for index, pixels in zip(*images.values(), strict=True)}
    index = maps.pop("index")[:_MAPPED]
    with figure_style.applied():
        size = (1.25 * (1 + len(maps)), 1.25 * len(index) + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(index), 1 + len(maps), squeeze=False)
        for row, image in zip(grid, index, strict=True):
            pixels = shown[int(image)].squeeze()
            for axes in row:
                axes.set_axis_off()
                axes.imshow(pixels, cmap="gray")
        for column, (name, found) in enumerate(maps.items(), 1):
            grid[0][column].set_title(figure_style.plain(name), fontsize=8, loc="center")
            for row, heat in zip(grid, found.astype(float), strict=False):
                side, other = row[0].get_images()[0].get_array().shape[:2]
                row[column].imshow(
                    heat,
                    cmap="inferno",
                    alpha=0.6,
                    interpolation="bilinear",
                    extent=(-0.5, other - 0.5, side - 0.5, -0.5),
                )
    return figure
