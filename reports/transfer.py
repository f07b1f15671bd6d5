"""A transferred family as a table, a figure and a sentence (EfficientNet, table 5 and figure 6)."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reports import figure_style as style
from reports.formatting import to_csv
from reports.load import readable
from reports.schema import frame, names, rows
from reports.statistics import LEVEL, mean_interval
from scaling.comparison import half_widths
from space.files import write_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_COLUMNS = names("name way params macs resolution accuracy low high seeds")

_STYLES = {
    "fine-tuned": style.LineStyle("o", style.FAMILY, "-"),
    "from scratch": style.LineStyle("s", style.QUIET, "--"),
}


def load(folder: Path) -> dict[str, Any]:
    """The content of transfer.json; raises `InvalidInput` if it cannot be read."""
    path = folder / "transfer.json"
    with readable(path, "the transfer", "run `phiscale transfer` again"):
        return dict(json.loads(path.read_text("utf-8")))


def table(found: dict[str, Any]) -> pd.DataFrame:
    """A row for each member and way of training; accuracy is the mean over seeds on test images.

    `low` to `high` is its 95 % interval, Student's with a deviation pooled over all rows; None for
    a single seed.
    """
    trained = [
        (member, way, values)
        for member in found["members"]
        for way, values in member["accuracies"].items()
    ]
    halves = half_widths([values for *_, values in trained], LEVEL)
    made = [
        {name: member.get(name) for name in _COLUMNS} | {"way": way} | mean_interval(values, half)
        for (member, way, values), half in zip(trained, halves, strict=True)
    ]
    return frame(made, _COLUMNS)


def sentence(found: dict[str, Any]) -> str:
    """By how much fine-tuning is ahead of training from scratch, member by member."""
    ahead = {}
    for member in found["members"]:
        means = {way: fmean(values) for way, values in member["accuracies"].items()}
        ahead[member["name"]] = means["fine-tuned"] - means["from scratch"]
    better = sum(gain > 0 for gain in ahead.values())
    numbers = ", ".join(f"{name} {100 * gain:+.1f}" for name, gain in ahead.items())
    return (
        f"After {found['epochs']} epochs either way, fine-tuning is ahead of training from scratch "
        f"for {better} of {len(ahead)} members (points of accuracy): {numbers}."
    )


def draw(found: dict[str, Any]) -> Figure:
    """Accuracy against parameters, fine-tuned and from scratch."""
    every = table(found).sort_values("params")
    with style.new_figure("Transfer: accuracy against parameters", 6.4, 4.0) as (figure, axes):
        style.accuracy_axes(axes, "parameters", "test accuracy", (0.08, 0.12))
        for way, look in _STYLES.items():
            own = rows(every[every["way"] == way])
            style.accuracy_line(axes, own, "params", look, way, named=way == "fine-tuned")
    return figure


def write(folder: Path) -> str:
    """Writes the table and the figure to `folder`/report, and returns the sentence."""
    found, report = load(folder), folder / "report"
    write_file(report / "transfer.csv", to_csv(table(found)))
    style.save(draw(found), *(report / f"transfer.{suffix}" for suffix in ("png", "svg")))
    return sentence(found)
