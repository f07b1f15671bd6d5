"""Figures of a scaling study: accuracy against MACs beside the published, and activation maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import figure_style as style
from reports import published
from reports.formatting import number
from reports.predictions import lit, pictures
from reports.schema import rows
from scaling.study_design import UNSCALED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reports.scaling_study import ScalingStudy

_RULES: Mapping[str, style.LineStyle] = {
    "depth": style.LineStyle("v", style.TRIAL, "--"),
    "width": style.LineStyle("s", style.QUIET, "-."),
    "resolution": style.LineStyle("^", style.BASELINE, ":"),
    "compound": style.LineStyle("o", style.FAMILY, "-"),
    "fast": style.LineStyle("P", style.INK, "-"),
}
#: Where baselines are compared: those that the study does not claim to be the best.
_OTHERS = (
    *(_RULES[rule] for rule in ("depth", "width", "resolution")),
    style.LineStyle("P", style.INK, "--"),
    style.LineStyle("X", style.FRONT, "-."),
    style.LineStyle("<", style.QUIET, ":"),
)

#: Images in the figure of activation maps.
_MAPPED = 4


def accuracy(study: ScalingStudy, points: pd.DataFrame) -> Figure:
    """Accuracy against MACs of the study's `points`, beside what was published on ImageNet.

    Where rules are compared: a panel for each baseline, the paper's points below it. Where
    baselines are compared: a line for each, the published families in a second panel.
    """
    measured = rows(points[points["accuracy"].notna()])
    names = tuple(dict.fromkeys(row["baseline"] for row in measured))
    by_rule, beside = study.compared == "rules", bool(study.published)
    panels = [(name,) for name in names] if by_rule else [names]
    looks = _RULES if by_rule else _styles(names, study.best)
    shape = (1 + beside, len(panels)) if len(panels) > 1 else (1, 1 + beside)
    with style.new_grid(shape, max(6.4, 3.3 * shape[1]), 0.5 + 3.1 * shape[0]) as (figure, grid):
        for place, shown in enumerate(panels):
            own = [row for row in measured if row["baseline"] in shown]
            grid[place].set_title(f"{shown[0]}: here" if by_rule else "Here")
            seeds = min((row["seeds"] for row in own), default=study.seeds)
            label = f"test accuracy, {number(seeds, 'seed')}"
            _draw(grid[place], own, label, study.compared, looks)
            if beside:
                axes = grid[len(panels) + place]
                axes.set_title("On ImageNet, published")
                _draw(axes, _published(study, shown), "top-1 accuracy", study.compared, looks)
    return figure


def _styles(names: Iterable[str], best: str) -> dict[str, style.LineStyle]:
    """How each baseline is drawn; the one that is claimed to be the best stands out."""
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
    points: list[dict[str, Any]],
    label: str,
    compared: str,
    looks: Mapping[str, style.LineStyle],
) -> None:
    """Draws a line for each rule or baseline; lines of rules begin at the unscaled network."""
    style.accuracy_axes(axes, style.MACS, label, (0.08, 0.1))
    start = [row for row in points if row.get("rule") == UNSCALED]
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in points:
        if row not in start:
            lines.setdefault(row["rule" if compared == "rules" else "baseline"], []).append(row)
    for name, line in lines.items():
        in_order = sorted([*start, *line], key=lambda row: row["macs"])
        style.accuracy_line(axes, in_order, "macs", looks[name], name)


def activation_maps(folder: Path) -> Figure | None:
    """Where the compared networks look in the same images (figure 7); None if there are no maps.

    Class activation maps for the true class: bright where a network finds evidence for it.
    """
    kept = pictures(folder)
    if not kept.maps or not kept.pixels:
        return None
    shown = list(next(iter(kept.maps.values())))[:_MAPPED]
    shape = (len(shown), 1 + len(kept.maps))
    with style.new_grid(shape, 1.25 * shape[1], 1.25 * shape[0] + 0.3) as (figure, grid):
        for place, axes in enumerate(grid):
            row, column = divmod(place, shape[1])
            name, pixels = ("", *kept.maps)[column], kept.pixels[shown[row]]
            axes.set_axis_off()
            axes.imshow(lit(pixels, kept.maps[name][shown[row]]) if name else pixels, cmap="gray")
            if row == 0:
                axes.set_title(style.plain(name), fontsize=8, loc="center")
    return figure
