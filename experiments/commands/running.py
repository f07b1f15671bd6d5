"""The commands that run stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commands import search_output
from experiments.commands.shared_options import AsJson, Fork, Out, Quiet, Set, TakeOver, Target
from experiments.commands.terminal import out, print_json, print_rows, typed
from experiments.progress import log
from experiments.runs.folder import OpenRun
from experiments.runs.opening import open_run
from reports.formatting import count, percent
from reports.summary.coefficients import evidence

#: What typer makes a command of.
Command = Callable[..., None]

STAGES = ("search", "coefficients", "family", "report")


def _starting(does: str, *names: str) -> Command:
    """The command that runs the stages `names`, the search among them."""

    def command(
        recipe: Target,
        folder: Out = None,
        changes: Set = None,
        fork: Fork = None,
        take_over: TakeOver = False,
        quiet: Quiet = False,
        as_json: AsJson = False,
    ) -> None:
        opened = open_run(recipe, folder, tuple(changes or ()), take_over=take_over, fork=fork)
        run_stages(opened, names, take_over=take_over, quiet=quiet, as_json=as_json)

    command.__doc__ = does
    return command


run = _starting("All four stages; run it again, and it continues where it stopped.", *STAGES)
search = _starting("Stage 1: find the baseline.", "search")


def coefficients(
    run: Target,
    folder: Out = None,
    changes: Set = None,
    take_over: TakeOver = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Stage 2: find α (depth), β (width), γ (resolution)."""
    opened = open_run(run, folder, tuple(changes or ()), take_over=take_over)
    run_stages(opened, ("coefficients",), take_over=take_over, quiet=quiet, as_json=as_json)


def family(
    run: Target,
    folder: Out = None,
    changes: Set = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="RULE",
            help="How the baseline grows (family.rule). Repeat it for rivals at equal MACs.",
        ),
    ] = None,
    take_over: TakeOver = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Stage 3: scale the baseline, train its family, test, export."""
    changes = list(changes or ())
    if rules:
        changes.append(f"family.rule={rules[0]}")
    if rules and len(rules) > 1:
        changes.append(f"family.rivals=[{', '.join(rules[1:])}]")
    opened = open_run(run, folder, tuple(changes), take_over=take_over)
    run_stages(opened, ("family",), take_over=take_over, quiet=quiet, as_json=as_json)


def run_stages(
    opened: OpenRun, names: Iterable[str], *, take_over: bool, quiet: bool, as_json: bool
) -> None:
    """Runs the stages `names` of a run and prints what they found."""
    with log.recorded(opened.folder, quiet=quiet):
        found = _found(opened, names, take_over)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _found(opened: OpenRun, names: Iterable[str], take_over: bool) -> dict[str, Any]:
    """What the stages find."""
    with ending(f"phiscale run {typed(opened.folder)}"):
        from experiments import stages  # torch: not needed to find fault with a recipe

        return stages.run(opened, names, take_over=take_over)


@contextmanager
def ending(again: str) -> Iterator[None]:
    """Ends a command that cannot go on with a sentence, and with the command that continues it."""
    import optuna

    from experiments.stages import FAILURES
    from search import storage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    resume = f"finished training runs are kept; continue with: {again}"
    try:
        yield
    except KeyboardInterrupt:
        log.trouble(
            f"interrupted; training runs are saved, unfinished ones too; continue with: {again}"
        )
        raise typer.Exit(130) from None
    except FAILURES as failure:
        log.trouble(f"{failure}; {resume}")
        raise typer.Exit(1) from None
    except storage.FAILURES as failure:
        if not storage.is_gone(failure):
            raise
        log.trouble(f"{storage.sentence(failure)}; {resume}")
        raise typer.Exit(1) from None


def _show(found: dict[str, Any]) -> None:
    """The results of a run for people: baseline, coefficients, family, where the report is."""
    if baseline := found.get("search"):
        search_output.show(baseline)
    if grid := found.get("coefficients"):
        accuracy = f", accuracy {percent(grid['accuracy'])}" if grid["accuracy"] is not None else ""
        out.print(
            f"coefficients  α {grid['alpha']:g} (depth)  β {grid['beta']:g} (width)  "
            f"γ {grid['gamma']:g} (resolution): nominal {grid['nominal_product']:.2f}, "
            f"realised {grid['realised_ratio']:.2f} × the baseline's MACs{accuracy}",
        )
        for sentence in evidence(grid):
            out.print(sentence, markup=False)
    if grown := found.get("family"):
        _show_family(grown)
    if page := found.get("report"):
        out.print(f"report        {typed(Path(page))}", soft_wrap=True)


def _show_family(family: dict[str, Any]) -> None:
    """The members, how far each is from the cost it was made for, and the rivals at their MACs."""
    everyone = (*family["members"], *family["rivals"])
    missed = any(each.get("miss") is not None for each in everyone)
    headers = ("member", "φ", "resolution", "MACs", "parameters", "test accuracy", "off target")
    cells = [
        [
            each["name"],
            f"{each['phi']:.3g}" if "phi" in each else "",
            f"{each['resolution']} px",
            count(each["cost"]["macs"]),
            count(each["cost"]["params"]),
            percent(each["accuracy"]) if each["accuracy"] is not None else "failed",
            f"{100 * each['miss']:+.1f} %" if each.get("miss") is not None else "",
        ]
        for each in everyone
    ]
    shown = len(headers) if missed else len(headers) - 1
    print_rows(headers[:shown], [row[:shown] for row in cells])
