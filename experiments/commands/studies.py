"""The command that runs scaling studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments import log
from experiments.commands.running import Quiet, Set
from experiments.commands.terminal import (
    AsJson,
    out,
    print_json,
    print_rows,
    short,
    wrote,
)
from reports.columns import rows

if TYPE_CHECKING:
    import pandas as pd


def study(
    recipe: Annotated[str, typer.Argument(help="A study's folder, a recipe's name, or a file.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="The study's folder (default: runs/NAME).")
    ] = None,
    changes: Set = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """How accuracy grows with depth, width, resolution, or all; run again, it continues."""
    import optuna

    from experiments.stages.context import StageFailed
    from experiments.studies import run as studies
    from reports import scaling_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened = studies.open_study_run(recipe, folder, tuple(changes or ()))
    resume = f"every finished training is kept; continue with: phiscale study {opened.folder}"
    with log.recorded(opened.folder, quiet=quiet):
        try:
            found = studies.run(opened)
        except KeyboardInterrupt:
            log.trouble(f"interrupted; {resume}")
            raise typer.Exit(130) from None
        except StageFailed as failure:
            log.trouble(f"{failure}; {resume}")
            raise typer.Exit(1) from None
    sentences = scaling_study.write(opened.folder)
    if as_json:
        print_json(found | {"findings": sentences})
        return
    _show(scaling_study.points(scaling_study.load(opened.folder)))
    for sentence in sentences:
        out.print(sentence, markup=False)
    wrote(opened.folder / "report")


def _show(points: pd.DataFrame) -> None:
    headers = ("baseline", "rule", "MACs", "parameters", "resolution", "test accuracy", "95 %")
    cells = [
        [
            str(row["baseline"]),
            str(row["rule"]),
            short(row["macs"]),
            short(row["params"]),
            f"{row['resolution']} px",
            "" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
            "" if row["low"] is None else f"{row['low']:.1%} to {row['high']:.1%}",
        ]
        for row in rows(points)
    ]
    print_rows(headers, cells, numeric=(2, 3, 4, 5, 6))
