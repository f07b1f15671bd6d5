"""The command line: `phiscale COMMAND`; every command has `--help`.

Results go to standard output, progress and errors to standard error. Exit status: 0 done, 1 failed,
2 wrong use or bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from experiments.commands import (
    catalog,
    convert,
    cost,
    doctor,
    drawing,
    estimate,
    exporting,
    init,
    latency,
    reporting,
    running,
    status,
    studies,
    trials,
)
from experiments.progress import log
from space.validation import InvalidInput

#: The maximum width of help texts: longer lines are hard to read.
_HELP_COLUMNS = 80

_ENDS = "Exit status: 0 done, 1 failed, 2 wrong use or bad input, 130 interrupted."


class _Commands(TyperGroup):
    """The commands, which Ctrl-C ends with status 130 wherever it falls."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            log.trouble("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="phiscale",
    cls=_Commands,
    epilog=f"Start with: phiscale run demo. {_ENDS}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

#: Commands by what they are for: the function, its name, and an example of its use.
_COMMANDS: dict[str, tuple[tuple[Callable[..., None], str, str], ...]] = {
    "Get started": (
        (init.init, "init", "init images/flowers --budget 30M --out flowers.yaml"),
        (estimate.estimate, "estimate", "estimate flowers.yaml --hours 8"),
    ),
    "Design a family": (
        (running.run, "run", "run demo --set search.trials=20"),
        (running.search, "search", "search cifar10 --out runs/mine"),
        (running.coefficients, "coefficients", "coefficients runs/demo"),
        (running.family, "family", "family runs/demo --set 'family.phi=[0, 1, 2]'"),
        (reporting.report, "report", "report runs/demo"),
        (studies.study, "study", "study study-dimensions --set seeds=1"),
    ),
    "Inspect runs": (
        (status.status, "status", "status runs/demo"),
        (trials.best, "best", "best runs/demo --top 3"),
        (trials.trials, "trials", "trials runs/demo --sort reward --csv"),
        (status.list_runs, "runs", "runs"),
        (reporting.watch, "watch", "watch runs/demo"),
        (reporting.dashboard, "dashboard", "dashboard runs/demo"),
        (reporting.plot, "plot", "plot accuracy_macs runs/demo --out figure.pdf"),
    ),
    "Use a family": (
        (exporting.export, "export", "export runs/demo --to onnx,torch --int8"),
        (exporting.predict, "predict", "predict runs/demo/family/b1 image.png --format onnx"),
        (exporting.verify, "verify", "verify runs/demo"),
        (studies.transfer, "transfer", "transfer runs/demo --data photos --set epochs=10"),
    ),
    "Inspect networks": (
        (drawing.show, "show", "show runs/demo:b1"),
        (drawing.compare, "compare", "compare efficientnet_b0 mobilenet_v2"),
        (cost.cost, "cost", "cost efficientnet_b0 --resolution 288 --json"),
        (latency.latency, "latency", "latency efficientnet_b0 --device cpu --batch 1"),
        (reporting.published, "published", "published timm/results --out published"),
        (convert.convert, "convert", "convert timm/efficientnet_b0 weights.pth --out b0"),
    ),
    "Catalog and diagnosis": (
        (catalog.list_presets, "presets", "presets --json"),
        (catalog.list_spaces, "spaces", "spaces"),
        (catalog.list_recipes, "recipes", "recipes"),
        (doctor.doctor, "doctor", "doctor"),
    ),
}

for _panel, _entries in _COMMANDS.items():
    for _command, _name, _example in _entries:
        app.command(_name, epilog=f"Example: phiscale {_example}", rich_help_panel=_panel)(_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"phiscale {metadata.version('phiscale')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit."),
    ] = False,
) -> None:
    """Designs a family of convolutional networks for your data and compute budget."""


def main() -> None:
    """The entry point. A user's mistake gives an error message and status 2, never a traceback."""
    columns = shutil.get_terminal_size().columns
    os.environ.setdefault("TERMINAL_WIDTH", str(min(columns, _HELP_COLUMNS)))
    # How long torch's threads spin before they sleep while they wait for each other. On two idle
    # cores this costs two threads 7 %; beside other work, a step takes 0.12 s instead of the 0.61 s
    # of libgomp's default, 300,000 (measured, 1.5M MACs, 64 images).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for stream in (sys.stdout, sys.stderr):  # some terminals lack α, ≥, ×
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(_status())


def _status() -> int | str | None:
    """Runs the command and returns its exit status; failures of the machine become a message."""
    try:
        try:
            app(prog_name="phiscale")
        except SystemExit as end:
            sys.stdout.flush()  # now, while an error can still be reported
            return end.code
    except InvalidInput as error:
        log.trouble(str(error))
        return 2
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        _abandon_output()
        log.trouble(reason)
    return 1


def _reason(error: Exception) -> str | None:
    """A message for a failure outside phiscale; None for a fault of its own."""
    if isinstance(error, MemoryError):
        return f"not enough memory: {error or 'an allocation failed'}"
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or "standard output or a file"
        return f"{where}: {error.strerror}"
    storage = sys.modules.get("search.storage")  # loaded if a storage has failed
    if storage is not None and isinstance(error, storage.FAILURES):
        return str(storage.sentence(error))
    return None


def _abandon_output() -> None:
    """Discards what standard output does not accept, so that Python can exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
