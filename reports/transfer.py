"""A transferred family as a table, a figure and sentences (EfficientNet, table 5 and figure 6)."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reports import figure_style as style
from reports.formatting import plural, to_csv
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
    "searched": style.LineStyle("D", style.BASELINE, "-."),
}


def load(folder: Path) -> dict[str, Any]:
    """The content of transfer.json; raises `InvalidInput` if it cannot be read."""
    path = folder / "transfer.json"
    with readable(path, "the transfer", "run `phiscale transfer` again"):
        return dict(json.loads(path.read_text("utf-8")))


def table(found: dict[str, Any]) -> pd.DataFrame:
    """A row for each member and way of training; accuracy is the mean over seeds on test images.

    The way `searched` is of another network, found around the member. `low` to `high` is the 95 %
    interval, Student's with a deviation pooled over all rows; None for a single seed.
    """
    trained = [
        (member, way, values)
        for member in found["members"]
        for way, values in member["accuracies"].items()
    ]
    halves = half_widths([values for *_, values in trained], LEVEL)
    made = [
        {name: (member.get(way) or member).get(name) for name in _COLUMNS}
        | {"name": member["name"], "way": way}
        | mean_interval(values, half)
        for (member, way, values), half in zip(trained, halves, strict=True)
    ]
    return frame(made, _COLUMNS)


def sentences(found: dict[str, Any]) -> list[str]:
    """By how much fine-tuning is ahead of training from scratch, member by member.

    Where networks were searched, too, by how much those are ahead of the fine-tuned members.
    """
    better, numbers = _ahead(found, "fine-tuned", "from scratch")
    told = [
        f"After {found['epochs']} {plural(found['epochs'], 'epoch')} either way, fine-tuning is "
        f"ahead of training from scratch for {better} members (points of accuracy): {numbers}."
    ]
    if trials := found["search_trials"]:
        better, numbers = _ahead(found, "searched", "fine-tuned")
        told.append(
            f"What {trials} trials around each member found, at no more MACs, is ahead of the "
            f"fine-tuned member for {better} (points of accuracy): {numbers}."
        )
    return told


def _ahead(found: dict[str, Any], way: str, other: str) -> tuple[str, str]:
    """For how many members `way` is ahead of the `other`, and by how many points for each."""
    gains = {
        member["name"]: fmean(member["accuracies"][way]) - fmean(member["accuracies"][other])
        for member in found["members"]
    }
    better = sum(gain > 0 for gain in gains.values())
    numbers = ", ".join(f"{name} {100 * gain:+.1f}" for name, gain in gains.items())
    return f"{better} of {len(gains)}", numbers


def draw(found: dict[str, Any]) -> Figure:
    """Accuracy against parameters, a line for each way."""
    every = table(found).sort_values("params")
    with style.new_figure("Transfer: accuracy against parameters", 6.4, 4.0) as (figure, axes):
        style.accuracy_axes(axes, "parameters", "test accuracy", (0.08, 0.12))
        for way, look in _STYLES.items():
            if own := rows(every[every["way"] == way]):
                style.accuracy_line(axes, own, "params", look, way, named=way == "fine-tuned")
    return figure


def write(folder: Path) -> list[str]:
    """Writes the table and the figure to `folder`/report, and returns the sentences."""
    found, report = load(folder), folder / "report"
    write_file(report / "transfer.csv", to_csv(table(found)))
    style.save(draw(found), *(report / f"transfer.{suffix}" for suffix in ("png", "svg")))
    return sentences(found)
