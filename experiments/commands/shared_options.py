"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.runs.resolve import complete_run, complete_set, complete_target, completed
from space import presets

Target = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_RECIPE",
        help="The folder of a run, the name of a recipe, or a YAML file.",
        autocompletion=complete_target,
    ),
]
RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="The folder of a run, or its name in runs/.",
        autocompletion=complete_run,
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
Resolution = Annotated[int | None, typer.Option(min=1, max=65_536, help="Square input in pixels.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run (default: runs/NAME).")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, for example search.trials=20.",
        autocompletion=complete_set,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show only results and errors.")]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Take the run over from another process.")
]
Fork = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Start a new run that learns from this one; every key may change."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
