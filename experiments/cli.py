"""The command line: `phiscale COMMAND`; every command has `--help`.

Results go to standard output, progress and errors to standard error. Exit status: 0 done, 1 failed,
2 wrong use or bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import typer

from experiments import log
from experiments.commands import latency, networks, reporting, running, studies
from space.validation import InvalidInput

app = typer.Typer(
    name="phiscale",
    help="Designs a family of convolutional networks for your data and compute budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

for _command, _name, _example in (
    (running.run, "run", "run demo --set search.trials=20"),
    (running.search, "search", "search cifar10 --out runs/mine"),
    (running.coefficients, "coefficients", "coefficients runs/demo"),
    (running.family, "family", "family runs/demo --set 'family.phi=[0, 1, 2]'"),
    (reporting.report, "report", "report runs/demo"),
    (reporting.watch, "watch", "watch runs/demo"),
    (reporting.plot, "plot", "plot accuracy_macs runs/demo --out figure.pdf"),
    (studies.study, "study", "study study-dimensions --set seeds=1"),
    (networks.cost, "cost", "cost efficientnet_b0 --resolution 288 --json"),
    (latency.latency, "latency", "latency efficientnet_b0 --device cpu --batch 1"),
    (networks.convert, "convert", "convert timm/efficientnet_b0 weights.pth --out b0"),
    (networks.list_presets, "presets", "presets --json"),
    (networks.list_spaces, "spaces", "spaces"),
    (networks.list_recipes, "recipes", "recipes"),
    (networks.doctor, "doctor", "doctor"),
):
    app.command(_name, epilog=f"Example: phiscale {_example}")(_command)


def main() -> None:
    """The entry point: a user's mistake is a sentence and status 2, never a traceback."""
    # Before torch is loaded: how long its threads spin while they wait for each other, then sleep.
    # Two threads on two idle cores lose 7 % by it; beside other work a step took 0.12 s instead of
    # 0.61 s, which libgomp's own 300,000 costs (measured, 1.5M MACs, 64 images).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except InvalidInput as error:
        log.trouble(str(error))
        sys.exit(2)
