"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.resolve import complete_run, complete_set, complete_target, completed
from space import presets

Target = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_RECIPE",
        help="A run's folder, a recipe's name, or a YAML file.",
        autocompletion=complete_target,
    ),
]

RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run's folder, or its name under runs/.", autocompletion=complete_run
    ),
]

Network = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="A preset, an architecture.json, a run, or RUN:NAME (b1, trial-3 …).",
        autocompletion=completed(presets.names),
    ),
]

Out = Annotated[Path | None, typer.Option("--out", help="The run's folder (default: runs/NAME).")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, as in search.trials=20.",
        autocompletion=complete_set,
    ),
]

Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress, only results and errors.")]

TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Drive the run even where another process does.")
]

Fork = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Begin a new run that learns from this one; all may change."),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
