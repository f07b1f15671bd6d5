"""The commands that run stages."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands import stage_output
from experiments.commands.shared_options import AsJson, Fork, Out, Quiet, Set, TakeOver, Target
from experiments.commands.terminal import print_json, typed
from experiments.progress import log
from experiments.runs.folder import OpenRun, RecipeFolder
from experiments.runs.opening import open_run
from experiments.studies.recipes import StudyRecipe, TransferRecipe, table_recipe
from space.validation import InvalidInput


def _starting(does: str, *names: str) -> Callable[..., None]:
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
        if _grew_on_table(recipe, folder, changes or (), quiet=quiet, as_json=as_json):
            return
        opened = open_run(recipe, folder, changes or (), take_over=take_over, fork=fork)
        run_stages(opened, names, take_over=take_over, quiet=quiet, as_json=as_json)

    command.__doc__ = does
    return command


run = _starting(
    "Run all four stages; run it again to continue where it stopped.",
    *("search", "coefficients", "family", "report"),
)
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
    opened = open_run(run, folder, changes or (), take_over=take_over)
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
    rules = rules or []
    changes = [*(changes or ()), *(f"family.rule={rule}" for rule in rules[:1])]
    rivals = [f"family.rivals=[{', '.join(rules[1:])}]"] if rules[1:] else []
    # A table always has compound scaling beside what was learned.
    asked = changes if rules[1:] == ["compound"] else [*changes, *rivals]
    if _grew_on_table(run, folder, asked, quiet=quiet, as_json=as_json):
        return
    changes += rivals
    opened = open_run(run, folder, changes, take_over=take_over)
    run_stages(opened, ("family",), take_over=take_over, quiet=quiet, as_json=as_json)


def _grew_on_table(
    target: str, folder: Path | None, changes: Sequence[str], *, quiet: bool, as_json: bool
) -> bool:
    """Carries out a recipe whose records are a table of growth; false for any other."""
    recipe = table_recipe(target, changes)
    if recipe is None:
        return False
    from experiments.studies import growth_table

    found_in = Path(target) if Path(target).is_dir() else Path("runs") / recipe.name
    out = (folder or found_in).resolve()
    if (out / "recipe.yaml").is_file() and table_recipe(str(out)) is None:
        raise InvalidInput(f"{out}: contains another kind of run; choose a folder with --out")
    with log.recorded(out, quiet=quiet):
        found = growth_table.run(out, recipe)
    if as_json:
        print_json(found)
    else:
        stage_output.show_growth(found)
    return True


def run_stages(
    opened: OpenRun, names: Iterable[str], *, take_over: bool, quiet: bool, as_json: bool
) -> None:
    """Runs the stages `names` of a run and prints what they found."""
    with carrying_out(opened, quiet=quiet):
        from experiments import stages  # torch: not needed to find fault with a recipe

        found = stages.run(opened, names, take_over=take_over)
    if as_json:
        print_json(found)
    else:
        stage_output.show(found)


@contextmanager
def carrying_out(opened: RecipeFolder, *, quiet: bool) -> Iterator[None]:
    """Logs messages in the folder; failures and Ctrl-C end the command, and say how to continue."""
    import optuna

    from experiments.stages import FAILURES
    from search import storage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    status, kept = 1, "finished training runs are kept"
    with log.recorded(opened.folder, quiet=quiet):
        try:
            yield
            return
        except KeyboardInterrupt:
            status, failed = 130, "interrupted"
            kept = "training runs are saved, unfinished ones too"
        except FAILURES as failure:
            failed = str(failure)
        except storage.FAILURES as failure:
            if not storage.is_gone(failure):
                raise
            failed = storage.sentence(failure)
        log.trouble(f"{failed}; {kept}; continue with: {command_of(opened)}")
        raise typer.Exit(status)


def command_of(opened: RecipeFolder) -> str:
    """The command that starts or continues a run, study or transfer."""
    folder = typed(opened.folder)
    match opened.recipe:
        case StudyRecipe():
            return f"phiscale study {folder}"
        case TransferRecipe(family=family, data=data):
            run, source = typed(family.parent), shlex.quote(data.source)
            return f"phiscale transfer {run} --data {source} --out {folder}"
        case _:
            return f"phiscale run {folder}"
