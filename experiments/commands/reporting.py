"""The commands that show what runs have found."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands.running import run_stages
from experiments.commands.shared_options import AsJson, RunFolder, Set
from experiments.commands.terminal import err, out, print_json, say, wrote
from experiments.progress import log
from experiments.runs.opening import open_run
from experiments.runs.resolve import existing_run, find_run, recipe_of
from reports import figure_style, figures, search_figures, trial_tables
from reports.load import load
from space.validation import InvalidInput, one_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Port = Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")]


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="A run, several, or a study.")],
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="The run's folder; of several runs, the page's."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="DIR", help="Write the page of a run there instead."),
    ] = None,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Stage 4: write the page, figures and tables of a run, of several runs, or of a study."""
    from reports import run_comparison, scaling_study
    from reports.page import write

    run = Path(runs[0])
    if len(runs) > 1:
        written = run_comparison.write(runs, folder or Path("comparison"))
    elif page is not None:
        place = existing_run(folder or run).folder
        written = write(place, folder=page, recipe=recipe_of(place))
    elif (run / "study.json").is_file():
        scaling_study.write(run)
        written = run / "report" / "index.html"
    else:
        saved = None if changes else find_run(folder or run)
        opened = saved or open_run(runs[0], folder, changes or ())
        if not os.access(opened.folder, os.W_OK):
            raise InvalidInput(
                f"{opened.folder}: cannot write to this folder; write the page to another with "
                "--page DIR"
            )
        run_stages(opened, ("report",), take_over=False, quiet=False, as_json=as_json)
        return
    if as_json:
        print_json({"report": str(written)})
    else:
        wrote(written)


def published(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder `results` of a checkout of timm.")
    ],
    page: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write a page with tables there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what the ImageNet networks published in timm gain per doubling of MACs."""
    from reports import published_page, timm_results

    results = timm_results.load(folder)
    found = published_page.collect(results)
    for missing in results.missing:
        log.remark(missing)
    written = published_page.write(results, found, page) if page else None
    if as_json:
        print_json(found)
        return
    for sentence in found["sentences"]:
        out.print(sentence)
    if written:
        wrote(written)


def watch(run: RunFolder, port: Port = 0) -> None:
    """Serve the report of a run on this machine while it runs."""
    from reports.server import serve

    opened = existing_run(run)
    err.print("Ctrl-C stops the server; the run continues.")
    serve(opened.folder, opened.storage, port=port, ready=say)


def dashboard(run: RunFolder, port: Port = 8080) -> None:
    """Open Optuna's dashboard on a run, on this machine alone."""
    from experiments.progress.dashboard import serve

    opened = existing_run(run)
    err.print("Ctrl-C stops the server; the run continues.")
    serve(opened.storage, port, ready=say)


def plot(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(figures.KINDS)}, scaling.")],
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="A run; for search_progress also repeats; for scaling a study."
        ),
    ],
    file: Annotated[Path, typer.Option("--out", help="A .png, .svg or .pdf file.")],
    width: Annotated[
        float, typer.Option(min=2, max=20, help="Inches: 3.4 is a column, 6.8 a page.")
    ] = figure_style.PAGE,
) -> None:
    """Draw one figure for print.

    Example: phiscale plot accuracy_macs runs/demo --out accuracy.pdf --width 3.4
    """
    kinds = (*figures.KINDS, "scaling")
    if kind not in kinds:
        raise one_of("figure", kind, kinds)
    if file.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InvalidInput(f"--out {file}: must end in .png, .svg or .pdf")
    if len(runs) > 1 and kind != "search_progress":
        raise InvalidInput(
            f"{kind}: this figure shows one run, but got {len(runs)}; only search_progress takes "
            "repeats"
        )
    figure_style.save(figure_style.at_width(_figure(kind, runs), width), file)
    wrote(file)


def _figure(kind: str, runs: list[Path]) -> Figure:
    from reports import scaling_study, scaling_study_figures, tables

    if kind == "scaling":
        study = scaling_study.load(runs[0])
        return scaling_study_figures.accuracy(study, scaling_study.points(study))
    places = [existing_run(run).folder for run in runs]
    loaded = [load(place, recipe=recipe_of(place)) for place in places]
    if len(loaded) == 1:
        found = tables.collect(loaded[0])
        if kind not in figures.drawable(found):
            typed = shlex.quote(str(runs[0]))
            raise InvalidInput(
                f"{kind}: the run {runs[0]} has no data for this figure yet; see its progress "
                f"with phiscale status {typed}, or measure latencies with phiscale latency {typed}"
            )
        return figures.draw(kind, loaded[0], found)
    groups: dict[str, list[pd.DataFrame]] = {}
    for run in loaded:
        made = trial_tables.progress(trial_tables.trials(run))
        groups.setdefault(run.name, []).append(made)
    bands = {name: search_figures.bands(repeats) for name, repeats in groups.items()}
    return search_figures.repeated_progress(bands)
