"""The commands that run stages."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from experiments.commands import searched
from experiments.commands.naming import complete_set, complete_target
from experiments.commands.terminal import AsJson, out, print_json, short
from experiments.progress import log
from experiments.run import Run, open_run

Target = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_RECIPE",
        help="A run's folder, a recipe's name, or a YAML file.",
        autocompletion=complete_target,
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

STAGES = ("search", "coefficients", "family", "report")


def run(
    recipe: Target,
    folder: Out = None,
    changes: Set = None,
    fork: Fork = None,
    take_over: TakeOver = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """All four stages; run it again, and it continues where it stopped."""
    run_stages(
        recipe,
        folder,
        changes,
        STAGES,
        take_over=take_over,
        fork=fork,
        quiet=quiet,
        as_json=as_json,
    )


def search(
    run: Target,
    folder: Out = None,
    changes: Set = None,
    fork: Fork = None,
    take_over: TakeOver = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Stage 1: find the baseline."""
    run_stages(
        run,
        folder,
        changes,
        ("search",),
        take_over=take_over,
        fork=fork,
        quiet=quiet,
        as_json=as_json,
    )


def coefficients(
    run: Target,
    folder: Out = None,
    changes: Set = None,
    take_over: TakeOver = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Stage 2: find α (depth), β (width), γ (resolution)."""
    run_stages(
        run, folder, changes, ("coefficients",), take_over=take_over, quiet=quiet, as_json=as_json
    )


def family(
    run: Target,
    folder: Out = None,
    changes: Set = None,
    take_over: TakeOver = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Stage 3: scale the baseline, train its family, test, export."""
    run_stages(run, folder, changes, ("family",), take_over=take_over, quiet=quiet, as_json=as_json)


def run_stages(
    target: str,
    folder: Path | None,
    changes: list[str] | None,
    names: Iterable[str],
    *,
    take_over: bool = False,
    fork: str | None = None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Runs the stages `names` of a run or recipe and prints what they found."""
    opened = open_run(target, folder, tuple(changes or ()), take_over=take_over, fork=fork)
    with log.recorded(opened.folder, quiet=quiet):
        found = _found(opened, names, take_over)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _found(opened: Run, names: Iterable[str], take_over: bool) -> dict[str, Any]:
    """What the stages find."""
    with ending(_command(opened.folder)):
        from experiments import stages  # torch: not needed to find fault with a recipe

        return stages.run(opened, names, take_over=take_over)


@contextmanager
def ending(again: str) -> Iterator[None]:
    """Ends a command that cannot go on with a sentence, and with the command that continues it."""
    import optuna

    from experiments.stages import FAILURES
    from search import storage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    resume = f"every finished training is kept; continue with: {again}"
    try:
        yield
    except KeyboardInterrupt:
        log.trouble(f"interrupted; {resume}")
        raise typer.Exit(130) from None
    except FAILURES as failure:
        log.trouble(f"{failure}; {resume}")
        raise typer.Exit(1) from None
    except storage.FAILURES as failure:
        if not storage.is_gone(failure):
            raise
        log.trouble(f"{storage.sentence(failure)}; {resume}")
        raise typer.Exit(1) from None


def _command(folder: Path) -> str:
    near = folder.is_relative_to(Path.cwd())
    return shlex.join(["phiscale", "run", str(folder.relative_to(Path.cwd()) if near else folder)])


def _show(found: dict[str, Any]) -> None:
    """The results of a run for people: baseline, coefficients, family, where the report is."""
    if baseline := found.get("search"):
        searched.show(baseline)
    if grid := found.get("coefficients"):
        accuracy = f", accuracy {grid['accuracy']:.1%}" if grid["accuracy"] is not None else ""
        out.print(
            f"coefficients  α {grid['alpha']:g} (depth)  β {grid['beta']:g} (width)  "
            f"γ {grid['gamma']:g} (resolution): nominal {grid['nominal_product']:.2f}, "
            f"realised {grid['realised_ratio']:.2f} × the baseline's MACs{accuracy}",
        )
    if grown := found.get("family"):
        table = Table("member", "φ", "resolution", "MACs", "parameters", "test accuracy", box=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for member in grown["members"]:
            table.add_row(
                member["name"],
                f"{member['phi']:.3g}",
                f"{member['resolution']} px",
                short(member["cost"]["macs"]),
                f"{member['cost']['params'] / 1e6:.2f}M",
                f"{member['accuracy']:.1%}",
            )
        out.print(table)
    if page := found.get("report"):
        out.print(f"report        {page}", soft_wrap=True)
