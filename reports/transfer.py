"""A transferred family as a table, a figure and a sentence (EfficientNet, table 5 and figure 6)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reports import figure_style
from reports.formatting import to_csv
from reports.schema import frame, names, rows
from scaling.comparison import half_widths
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_COLUMNS = names("name way params macs resolution accuracy low high seeds")

#: The level of the intervals.
_LEVEL = 0.95

_LOOKS = {
    "fine-tuned": figure_style.LineStyle("o", figure_style.FAMILY, "-"),
    "from scratch": figure_style.LineStyle("s", figure_style.QUIET, "--"),
}


def load(folder: Path) -> dict[str, Any]:
    """What transfer.json says; raises `InvalidInput` where there is none."""
    path = folder / "transfer.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path}: cannot read the transfer ({error}); run `phiscale transfer` again"
        ) from None
    return found


def table(found: dict[str, Any]) -> pd.DataFrame:
    """A row for each member and way; accuracy is the mean over seeds, on the test images.

    `low` to `high` is its 95 % interval, Student's with a deviation pooled over all rows; none of
    one seed.
    """
    trained = [
        (member, way, values)
        for member in found["members"]
        for way, values in member["accuracies"].items()
    ]
    halves = half_widths([values for *_, values in trained], _LEVEL)
    return frame(
        (
            {name: member.get(name) for name in _COLUMNS}
            | {"way": way, "accuracy": fmean(values), "seeds": len(values)}
            | (
                {"low": fmean(values) - half, "high": fmean(values) + half}
                if math.isfinite(half)
                else {}
            )
            for (member, way, values), half in zip(trained, halves, strict=True)
        ),
        _COLUMNS,
    )


def sentence(found: dict[str, Any]) -> str:
    """By how much fine-tuning is ahead of training from scratch, member by member."""
    ahead = {
        member["name"]: fmean(member["accuracies"]["fine-tuned"])
        - fmean(member["accuracies"]["from scratch"])
        for member in found["members"]
    }
    better = sum(gain > 0 for gain in ahead.values())
    numbers = ", ".join(f"{name} {100 * gain:+.1f}" for name, gain in ahead.items())
    return (
        f"After {found['epochs']} epochs either way, fine-tuning is ahead of training from scratch "
        f"for {better} of {len(ahead)} members (points of accuracy): {numbers}."
    )


def draw(found: dict[str, Any]) -> Figure:
    """Accuracy against parameters, fine-tuned and from scratch."""
    every = table(found)
    with figure_style.new_figure("Transfer: accuracy against parameters", 6.4, 4.0) as (
        figure,
        axes,
    ):
        for way, look in _LOOKS.items():
            own = sorted(rows(every[every["way"] == way]), key=lambda row: row["params"])
            figure_style.accuracy_line(axes, own, "params", look, way)
            if way == "fine-tuned":
                figure_style.name_members(axes, own, "params", look.colour)
        axes.set_xscale("log")
        axes.margins(x=0.08, y=0.12)
        axes.set(xlabel="parameters", ylabel="test accuracy")
        figure_style.count_axis(axes)
        figure_style.percent_axis(axes.yaxis)
        figure_style.legend(figure, axes)
    return figure


def write(folder: Path) -> str:
    """The table and the figure in `folder`/report; gives the sentence."""
    found, report = load(folder), folder / "report"
    write_file(report / "transfer.csv", to_csv(table(found)))
    figure = draw(found)
    for suffix in ("png", "svg"):
        figure_style.save(figure, report / f"transfer.{suffix}")
    return sentence(found)
