"""The commands that show what runs have found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.running import run_stages
from experiments.commands.runs import RunFolder, existing
from experiments.commands.terminal import AsJson, err, out, wrote
from space.validation import InvalidInput, one_of


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="One run, or several.")],
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="The run's folder; of several runs, the page's."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stage 4: the page, figures and tables of a run, finished or not; or of several together."""
    if len(runs) == 1:
        run_stages(runs[0], folder, changes, ("report",), quiet=False, as_json=as_json)
        return
    from reports import compare

    wrote(compare.write(runs, folder or Path("comparison")))


def watch(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
) -> None:
    """Serve the report of a run on this machine while it runs."""
    from reports.live import serve

    opened = existing(run)
    err.print("Ctrl-C stops serving; the run goes on.")
    serve(
        opened.folder,
        opened.storage,
        port=port,
        ready=lambda address: out.print(address, soft_wrap=True),
    )


def plot(
    kind: Annotated[str, typer.Argument(help="accuracy_macs, search_progress, coefficients …")],
    run: RunFolder,
    file: Annotated[Path, typer.Option("--out", help="A .png, .svg or .pdf file.")],
) -> None:
    """Draw one figure of a run."""
    from reports import figures, style, tables
    from reports.load import load

    if kind not in figures.KINDS:
        raise one_of("figure", kind, figures.KINDS)
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise InvalidInput(f"--out {file}: a .png, .svg or .pdf file is needed")
    opened = existing(run)
    loaded = load(opened.folder, opened.storage)
    style.save(figures.draw(kind, loaded, tables.collect(loaded)), file)
    wrote(file)
