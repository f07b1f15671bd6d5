"""A transferred family as a table, a figure and a sentence (EfficientNet, table 5 and figure 6)."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reports import style
from reports.columns import frame, names, rows
from reports.text import to_csv
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_COLUMNS = names("name way params macs resolution accuracy seeds")

#: Marker, colour and line style of each way.
_LOOKS = {
    "fine-tuned": ("o", style.FAMILY, "-"),
    "from scratch": ("s", style.QUIET, "--"),
}


def load(folder: Path) -> dict[str, Any]:
    """What transfer.json says; raises `InvalidInput` where there is none."""
    path = folder / "transfer.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: must be what `phiscale transfer` wrote, but {error}") from None
    return found


def table(found: dict[str, Any]) -> pd.DataFrame:
    """A row for each member and way; accuracy is the mean over seeds, on the test images."""
    return frame(
        (
            {name: member.get(name) for name in _COLUMNS}
            | {"way": way, "accuracy": fmean(values), "seeds": len(values)}
            for member in found["members"]
            for way, values in member["accuracies"].items()
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
    with style.new_figure("Transfer: accuracy against parameters", 6.4, 4.0) as (figure, axes):
        for way, (marker, colour, dashes) in _LOOKS.items():
            own = sorted(rows(every[every["way"] == way]), key=lambda row: row["params"])
            axes.plot(
                [row["params"] for row in own],
                [row["accuracy"] for row in own],
                marker=marker,
                color=colour,
                linestyle=dashes,
                label=way,
            )
            if way == "fine-tuned":
                for row in own:
                    axes.annotate(
                        style.plain(row["name"]).upper(),
                        (row["params"], row["accuracy"]),
                        xytext=(0, 5),
                        textcoords="offset points",
                        ha="center",
                        color=colour,
                    )
        axes.set_xscale("log")
        axes.margins(x=0.08, y=0.12)
        axes.set(xlabel="parameters", ylabel="test accuracy")
        style.count_axis(axes)
        style.percent_axis(axes.yaxis)
        style.legend(figure, axes)
    return figure


def write(folder: Path) -> str:
    """The table and the figure in `folder`/report; gives the sentence."""
    found, report = load(folder), folder / "report"
    write_file(report / "transfer.csv", to_csv(table(found)))
    figure = draw(found)
    for suffix in ("png", "svg"):
        style.save(figure, report / f"transfer.{suffix}")
    return sentence(found)
