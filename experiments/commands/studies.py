"""The commands that study how families grow, and how they transfer to other images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from experiments.commands.running import carrying_out
from experiments.commands.shared_options import AsJson, Quiet, RunFolder, Set, TakeOver
from experiments.commands.terminal import out, print_json, print_rows, shown, wrote
from experiments.runs.resolve import existing_run
from reports.formatting import count, percent
from reports.schema import rows


def study(
    recipe: Annotated[str, typer.Argument(help="A study's folder, a recipe's name, or a file.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="The study's folder (default: runs/NAME).")
    ] = None,
    changes: Set = None,
    take_over: TakeOver = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure how accuracy grows with depth, width, resolution or all; run again to continue."""
    from experiments.studies import scaling_study as studies
    from reports import scaling_study

    opened = studies.open_study_run(recipe, folder, changes or (), take_over=take_over)
    with carrying_out(opened, quiet=quiet):
        found = studies.run(opened, take_over=take_over)
    sentences = scaling_study.write(opened.folder)
    if as_json:
        print_json(found | {"findings": sentences})
        return
    points = scaling_study.points(scaling_study.load(opened.folder))
    headers = ("baseline", "rule", "MACs", "parameters", "resolution", "test accuracy")
    cells = [
        [
            str(row["baseline"]),
            str(row["rule"]),
            count(row["macs"]),
            count(row["params"]),
            f"{row['resolution']} px",
            _accuracy(row),
        ]
        for row in rows(points)
    ]
    print_rows(headers, cells, numeric=(2, 3, 4, 5))
    for sentence in sentences:
        out.print(sentence)
    wrote(opened.folder / "report")


def _accuracy(row: Mapping[str, Any]) -> str:
    """The mean over seeds, with half its interval."""
    half = shown(row["low"], lambda low: f" ± {100 * (row['high'] - low) / 2:.1f}")
    return shown(row["accuracy"], lambda mean: f"{100 * mean:.1f}{half} %")


def transfer(
    run: RunFolder,
    data: Annotated[str, typer.Option("--data", help="The other images; any data.source.")],
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="The transfer's folder (default: RUN/transfer/NAME)."),
    ] = None,
    changes: Set = None,
    take_over: TakeOver = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a family on other images, beside training it from scratch."""
    from experiments.studies import transfer as transfers
    from reports import transfer as reported

    opened = transfers.open_transfer(
        existing_run(run).folder, data, folder, changes or (), take_over=take_over
    )
    with carrying_out(opened, quiet=quiet):
        found = transfers.run(opened, take_over=take_over)
    findings = reported.write(opened.folder)
    if as_json:
        print_json(found | {"findings": findings})
        return
    ways = tuple(found["members"][0]["accuracies"])
    headers = ("member", "parameters", "MACs", "resolution", *ways)
    cells = [
        [
            member["name"],
            count(member["params"]),
            count(member["macs"]),
            f"{member['resolution']} px",
            *(percent(fmean(member["accuracies"][way])) for way in ways),
        ]
        for member in found["members"]
    ]
    print_rows(headers, cells)
    for finding in findings:
        out.print(finding)
    wrote(opened.folder / "report")
