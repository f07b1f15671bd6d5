"""The commands that list what a run has trained: the best, or every trial."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from experiments.commands.shared_options import AsJson, RunFolder
from experiments.commands.terminal import err, out, print_json, print_rows, say, shown
from experiments.runs.resolve import existing_folder, existing_run
from reports.formatting import count, duration, percent, printable
from reports.load import Run as Loaded
from reports.load import Trial, load
from reports.schema import rows
from space.validation import InvalidInput, one_of

if TYPE_CHECKING:
    import pandas as pd


def best(
    run: RunFolder,
    most: Annotated[int, typer.Option("--top", min=1, max=10**9, help="How many trials.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show which member to take, and the best networks of a run."""
    from reports import predictions, tables, trial_tables
    from reports.recommendation import compare_members, recommend
    from reports.summary import family as sentences

    loaded = load(existing_run(run).folder)
    ranked = _ranked(loaded)[:most]
    if not ranked:
        raise InvalidInput(
            f"{loaded.path}: the search has measured no network yet; see its progress with: "
            f"phiscale status {shlex.quote(str(run))}"
        )
    members = list((loaded.family or {}).get("members", ()))
    family = tables.family(loaded)
    answers = predictions.answers(loaded)
    comparisons = compare_members(family, answers, loaded.metric)
    rivals = tables.rivals(loaded, family, trial_tables.trials(loaded), answers)
    advice = recommend(family, comparisons)
    if as_json:
        trials = [result(t) | {"architecture": dict(t.architecture)} for t in ranked]
        found = {"trials": trials, "baseline": loaded.baseline, "family": members}
        decision = asdict(advice) | {"comparisons": rows(comparisons)} if advice else None
        print_json({"recommendation": decision} | found | {"rivals": rows(rivals)})
        return
    if advice:
        beside = sentences.rivals(loaded, rivals)
        for line in (advice.headline, *advice.alternatives, *advice.undecided, *beside):
            say(line)
        out.print()
    cells = [
        [
            printable(trial.job),
            percent(trial.measurement["accuracy"]),
            f"{trial.value:.4f}",
            count(trial.cost["macs"]),
            count(trial.cost["params"]),
            f"{trial.budget['epochs']}",
        ]
        for trial in ranked
    ]
    print_rows(("trial", "accuracy", "reward", "MACs", "parameters", "epochs"), cells)
    if loaded.baseline:
        out.print(
            f"\nbaseline: {_described(loaded.baseline)}; phiscale show {shlex.quote(str(run))}"
        )
    for member in members:
        out.print(f"{member['name']}: {_described(member)}")


def _ranked(loaded: Loaded) -> list[Trial]:
    """The complete trials of the longest training runs that may become the baseline, best first."""
    for name in ("finalists", "search"):
        own = [t for t in loaded.study(name) if t.state == "complete" and t.value is not None]
        if own:
            return sorted(own, key=lambda trial: (-(trial.value or 0.0), trial.number))
    return []


def _described(found: Any) -> str:
    accuracy, cost = found["accuracy"], found["cost"]
    return f"{percent(accuracy)}, {count(cost['macs'])} MACs, {count(cost['params'])} parameters"


State = Literal["complete", "pruned", "failed", "running", "waiting"]

#: Columns in which more is better, so that the largest comes first.
_MORE_IS_BETTER = ("reward", "accuracy")


def trials(
    run: RunFolder,
    sort: Annotated[
        str, typer.Option(metavar="COLUMN", help="Best first: reward, accuracy, macs, seconds …")
    ] = "",
    study: Annotated[
        str, typer.Option(help="Only this study: search, finalists, coefficients, family …")
    ] = "",
    state: Annotated[State | None, typer.Option(help="Only trials in this state.")] = None,
    most: Annotated[
        int | None, typer.Option("--top", min=1, max=10**9, help="Only so many.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="All columns, as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """List all trials of a run."""
    from reports.formatting import to_csv
    from reports.trial_tables import trials as every

    loaded = load(existing_folder(run).folder)
    table = every(loaded)
    if study and not loaded.trials:
        raise InvalidInput(f"--study {study}: {loaded.path} has recorded nothing yet")
    if study and study not in loaded.trials:
        raise one_of("--study", study, loaded.trials)
    if sort and sort not in table.columns:
        raise one_of("--sort", sort, table.columns)
    table = table[table["study"] == study] if study else table
    table = table[table["state"] == state] if state else table
    if sort:
        table = table.sort_values(sort, ascending=sort not in _MORE_IS_BETTER, kind="stable")
    table = table if most is None else table.head(most)
    if as_csv:
        typer.echo(to_csv(table), nl=False)
    elif as_json:
        print_json(rows(table))
    else:
        _print_trials(table)


def _print_trials(table: pd.DataFrame) -> None:
    cells = [
        [
            row["study"],
            str(row["trial"]),
            row["state"],
            shown(row["reward"], "{:.4f}".format),
            shown(row["accuracy"], percent),
            shown(row["macs"], count),
            shown(row["params"], count),
            shown(row["epochs"], "{:.0f}".format),
            shown(row["seconds"], duration),
        ]
        for row in table.to_dict("records")
    ]
    headers = ("study", "trial", "state", "reward", "accuracy", "MACs", "params", "epochs", "time")
    print_rows(headers, cells, numeric=(1, 3, 4, 5, 6, 7, 8))
    err.print(f"{len(table)} trials; --csv has all columns", style="dim")


def result(trial: Trial) -> dict[str, Any]:
    """A trial as `--json` prints it."""
    return {
        "study": trial.study,
        "trial": trial.number,
        "job": trial.job,
        "accuracy": trial.measurement.get("accuracy"),
        "value": trial.value,
        "cost": dict(trial.cost),
        "epochs": trial.budget.get("epochs"),
    }
