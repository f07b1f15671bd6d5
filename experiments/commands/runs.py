"""The commands that look at runs without changing them, while they work or afterwards."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from experiments import config
from experiments.commands.terminal import AsJson, err, out, print_json, print_rows
from experiments.progress import log
from experiments.progress.pace import Done, Left, left
from experiments.run import Run
from reports.load import STUDIES, Trial
from reports.load import Run as Loaded
from reports.text import count, duration, percent, printable
from space.validation import InvalidInput, one_of

if TYPE_CHECKING:
    import pandas as pd

    from search.lease import Driver

#: Where runs are unless `--out` says another place.
RUNS = Path("runs")


def _folders(incomplete: str) -> list[str]:
    """Runs that begin with what is typed, for the shell's completion."""
    found = [str(folder) for folder in _below(RUNS)]
    return [name for name in found if name.startswith(incomplete)]


RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run's folder, or its name under runs/.", autocompletion=_folders
    ),
]


def existing(folder: Path) -> Run:
    """The run in `folder`, or of that name under runs/, which is looked at and not changed."""
    for place in (folder, RUNS / folder):
        if (place / "recipe.yaml").is_file():
            return Run(place.resolve(), config.load(str(place / "recipe.yaml")))
    if folder.is_dir():
        raise InvalidInput(
            f"{folder}: this folder has no recipe.yaml, so it is no run; "
            "`phiscale runs DIR` lists those below a folder"
        )
    parent = folder.parent if folder.parent != Path() else RUNS
    names = [each.name for each in _below(parent)]
    if not names:
        raise InvalidInput(
            f"{folder}: there is no such folder; give a run's (they are in {RUNS}/ unless --out "
            "says otherwise), or start one: phiscale run RECIPE"
        )
    raise one_of(f"runs in {parent}", folder.name, names)


def _below(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/recipe.yaml"))


# ---------------------------------------------------------------------------------------- status


class _Stage(NamedTuple):
    """How far one study is; `planned` is None where nobody knows yet."""

    name: str
    state: str
    done: int
    planned: int | None
    pruned: int
    failed: int
    running: int
    best: Trial | None
    seconds: float
    left: Left | None


def status(run: RunFolder, as_json: AsJson = False) -> None:
    """How far a run is, while it works or afterwards."""
    from reports.load import load
    from search.lease import driver_of

    opened = existing(run)
    loaded = load(opened.folder, opened.storage)
    rivals, driver = bool(opened.recipe.family.rivals), driver_of(opened.storage)
    stages = [_stage(opened, loaded, name) for name in STUDIES if name != "rivals" or rivals]
    failures = Counter(
        str(trial.measurement.get("reason") or "no reason was given")
        for name in STUDIES
        for trial in loaded.study(name)
        if trial.state == "failed"
    )
    if as_json:
        print_json(_as_data(opened, loaded, stages, driver, failures))
        return
    _print_status(opened, loaded, stages, driver)
    if running := [t for name in STUDIES for t in loaded.study(name) if t.state == "running"]:
        out.print()
        _print_running(running, "running" if driver else "interrupted")
    for reason, times in failures.most_common(5):
        text = f"failed {times} ×: {printable(reason)}"
        out.print(text, style="red", markup=False, overflow="ellipsis", no_wrap=True)


def _stage(opened: Run, loaded: Loaded, name: str) -> _Stage:
    trials = loaded.study(name)
    done = [trial for trial in trials if trial.state in ("complete", "pruned")]
    running = [trial for trial in trials if trial.state == "running"]
    planned = _planned(opened, loaded, name)
    over = _is_over(loaded, name)
    state = "done" if over else "running" if running else "begun" if trials else ""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    own = [trial for trial in done if trial.finished and trial.seconds]
    missing = max(0, (planned or 0) - len(done) - len(running))
    remaining = [1.0] * missing + [1 - _share(trial) for trial in running]
    pace = [Done(1.0, trial.seconds or 0.0) for trial in own]
    return _Stage(
        name,
        state,
        len(done),
        planned,
        sum(trial.state == "pruned" for trial in trials),
        sum(trial.state == "failed" for trial in trials),
        len(running),
        max(complete, key=lambda trial: trial.value or 0.0, default=None),
        sum(trial.seconds or 0.0 for trial in own),
        left(pace, remaining, max(1, len(running))) if running else None,
    )


def _planned(opened: Run, loaded: Loaded, name: str) -> int | None:
    """What the stage itself has noted when it began, or what the recipe says."""
    recipe = opened.recipe
    known = {
        "search": recipe.search.trials,
        "finalists": recipe.search.finalists,
        "family": len(recipe.family.targets or recipe.family.phi),
    }
    planned = loaded.manifest.get("planned", {}).get(name)
    return int(planned) if planned is not None else known.get(name)


def _is_over(loaded: Loaded, name: str) -> bool:
    results = {
        "search": loaded.baseline,
        "finalists": loaded.baseline,
        "coefficients": loaded.coefficients,
        "family": loaded.family,
    }
    return results.get(name) is not None


def _share(trial: Trial) -> float:
    return max(trial.reports, default=0) / max(1, int(trial.budget.get("epochs", 1)))


def _print_status(opened: Run, loaded: Loaded, stages: list[_Stage], driver: Driver | None) -> None:
    starts = loaded.manifest.get("starts", [])
    since = f", started {starts[0]['time'].replace('T', ' ')[:16]} UTC" if starts else ""
    again = f" and continued {len(starts) - 1} times" if len(starts) > 1 else ""
    out.print(f"{opened.recipe.name}{since}{again}", style="bold", markup=False)
    out.print(_sentence(opened, loaded, driver), markup=False, soft_wrap=True)
    rows = []
    for stage in stages:
        planned = "" if stage.planned is None else f"/{stage.planned}"
        best = stage.best
        state = stage.state if driver or stage.state != "running" else "stopped"
        rows.append(
            [
                stage.name,
                state,
                f"{stage.done}{planned}",
                *(str(number or "") for number in (stage.pruned, stage.failed, stage.running)),
                percent(best.measurement.get("accuracy") or 0.0) if best else "",
                count(best.cost.get("macs", 0)) if best else "",
                duration(stage.seconds) if stage.seconds else "",
            ]
        )
    headers = ("stage", "", "done", "pruned", "failed", "running", "best", "MACs", "seconds")
    print_rows((*headers[:-1], "trained for"), rows, numeric=(2, 3, 4, 5, 6, 7, 8))
    for stage in stages:
        if stage.left and driver:
            out.print(f"{stage.name}: {stage.left}", style="cyan")


def _sentence(opened: Run, loaded: Loaded, driver: Driver | None) -> str:
    if driver is not None:
        return f"working: {driver}"
    if loaded.family is not None:
        return f"finished; the family is in {opened.folder / 'family'}"
    begun = "stopped; continue" if loaded.trials else "nothing is recorded yet; begin"
    return f"{begun} with: phiscale run {opened.folder}"


def _print_running(running: list[Trial], header: str) -> None:
    rows = []
    for trial in running:
        since = (datetime.now() - trial.started).total_seconds() if trial.started else 0.0
        last = trial.reports[max(trial.reports)] if trial.reports else None
        rows.append(
            [
                printable(trial.job) or f"trial {trial.number}",
                count(trial.cost.get("macs", 0)),
                f"{max(trial.reports, default=0)}/{trial.budget.get('epochs', '?')}",
                "" if last is None else f"{last:.4f}",
                duration(since),
            ]
        )
    print_rows((header, "MACs", "epoch", "value", "for"), rows)


def _as_data(
    opened: Run,
    loaded: Loaded,
    stages: list[_Stage],
    driver: Driver | None,
    failures: Counter[str],
) -> dict[str, Any]:
    return {
        "name": opened.recipe.name,
        "folder": str(opened.folder),
        "finished": loaded.family is not None,
        "driver": driver and {"host": driver.host, "process": driver.process},
        "stages": [
            stage._asdict()
            | {
                "best": stage.best and _result(stage.best),
                "left": stage.left and stage.left._asdict(),
            }
            for stage in stages
        ],
        "failures": dict(failures),
    }


def _result(trial: Trial) -> dict[str, Any]:
    return {
        "study": trial.study,
        "trial": trial.number,
        "job": trial.job,
        "accuracy": trial.measurement.get("accuracy"),
        "value": trial.value,
        "cost": dict(trial.cost),
        "epochs": trial.budget.get("epochs"),
    }


# ----------------------------------------------------------------------------------- best, trials


def best(
    run: RunFolder,
    most: Annotated[int, typer.Option("--top", min=1, help="How many trials.")] = 5,
    as_json: AsJson = False,
) -> None:
    """The best networks of a run: those searched, the baseline, the family."""
    from reports.load import load

    opened = existing(run)
    loaded = load(opened.folder, opened.storage)
    ranked = _ranked(loaded)[:most]
    if not ranked:
        raise InvalidInput(
            f"{opened.folder}: no training is complete yet; `phiscale status {run}` says how far "
            "the run is"
        )
    members = list((loaded.family or {}).get("members", ()))
    if as_json:
        trials = [_result(t) | {"architecture": dict(t.architecture)} for t in ranked]
        print_json({"trials": trials, "baseline": loaded.baseline, "family": members})
        return
    rows = [
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
    headers = ("trial", "accuracy", "reward", "MACs", "parameters", "epochs")
    print_rows(headers, rows)
    if loaded.baseline:
        out.print(f"\nbaseline: {_described(loaded.baseline)}; phiscale show {run}", markup=False)
    for member in members:
        out.print(f"{member['name']}: {_described(member)}", markup=False)


def _ranked(loaded: Loaded) -> list[Trial]:
    """Complete trials of the longest trainings that a baseline is chosen by, best first."""
    for name in ("finalists", "search"):
        own = [t for t in loaded.study(name) if t.state == "complete" and t.value is not None]
        if own:
            return sorted(own, key=lambda trial: (-(trial.value or 0.0), trial.number))
    return []


def _described(found: Any) -> str:
    accuracy, cost = found["accuracy"], found["cost"]
    return f"{percent(accuracy)}, {count(cost['macs'])} MACs, {count(cost['params'])} parameters"


class _State(StrEnum):
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    RUNNING = "running"
    WAITING = "waiting"


#: Columns of which more is better, so that the greatest comes first.
_MORE_IS_BETTER = ("reward", "accuracy")


def trials(
    run: RunFolder,
    sort: Annotated[
        str, typer.Option(metavar="COLUMN", help="Best first: reward, accuracy, macs, seconds …")
    ] = "",
    study: Annotated[
        str, typer.Option(help="Only this stage: search, finalists, coefficients, family.")
    ] = "",
    state: Annotated[_State | None, typer.Option(help="Only trials in this state.")] = None,
    most: Annotated[int | None, typer.Option("--top", min=1, help="Only so many.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="All columns, as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """All trials of a run as a table."""
    from reports.load import load
    from reports.search_tables import trials as every
    from reports.text import to_csv

    opened = existing(run)
    table = every(load(opened.folder, opened.storage))
    if study and study not in STUDIES:
        raise one_of("--study", study, STUDIES)
    if sort and sort not in table.columns:
        raise one_of("--sort", sort, list(table.columns))
    table = table[table["study"] == study] if study else table
    table = table[table["state"] == state.value] if state else table
    if sort:
        table = table.sort_values(sort, ascending=sort not in _MORE_IS_BETTER, kind="stable")
    table = table if most is None else table.head(most)
    if as_csv:
        typer.echo(to_csv(table), nl=False)
    elif as_json:
        typer.echo(table.to_json(orient="records", indent=2, force_ascii=False))
    else:
        _print_trials(table)


def _print_trials(table: pd.DataFrame) -> None:
    rows = [
        [
            row["study"],
            str(row["trial"]),
            row["state"],
            _shown(row["reward"], "{:.4f}".format),
            _shown(row["accuracy"], percent),
            _shown(row["macs"], count),
            _shown(row["params"], count),
            _shown(row["epochs"], "{:.0f}".format),
            _shown(row["seconds"], duration),
        ]
        for row in table.to_dict("records")
    ]
    headers = ("study", "trial", "state", "reward", "accuracy", "MACs", "params", "epochs", "time")
    print_rows(headers, rows, numeric=(1, 3, 4, 5, 6, 7, 8))
    err.print(f"{len(table)} trials; --csv has all columns", style="dim")


def _shown(value: Any, form: Any) -> str:
    missing = value is None or value != value  # NaN
    return "" if missing else str(form(value))


# ------------------------------------------------------------------------------- runs, dashboard


def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look.")] = RUNS,
    as_json: AsJson = False,
) -> None:
    """The runs in a folder, the latest first."""
    from reports.load import load

    if not folder.is_dir():
        raise InvalidInput(
            f"{folder}: there is no such folder; give the one that holds your runs, or start one: "
            "phiscale run demo"
        )
    rows = []
    for place in _below(folder):
        try:
            opened = existing(place)
            loaded = load(opened.folder, opened.storage)
        except InvalidInput as error:
            log.remark(f"{place}: passed over: {error}")
            continue
        rows.append(_run_row(place, opened, loaded))
    rows.sort(key=lambda row: row["started"] or "", reverse=True)
    if as_json:
        print_json(rows)
        return
    cells = [
        [
            row["folder"],
            (row["started"] or "")[:16].replace("T", "\N{NO-BREAK SPACE}"),
            row["state"],
            str(row["trials"]),
            count(row["baseline_macs"]) if row["baseline_macs"] else "",
            percent(row["accuracy"]) if row["accuracy"] is not None else "",
        ]
        for row in rows
    ]
    headers = ("run", "started (UTC)", "state", "trials", "baseline", "best member")
    print_rows(headers, cells, numeric=(3, 4, 5))


def _run_row(place: Path, opened: Run, loaded: Loaded) -> dict[str, Any]:
    from search.lease import driver_of

    working = driver_of(opened.storage) is not None
    begun = [name for name in STUDIES if loaded.study(name)]
    finished = loaded.family is not None
    members = (loaded.family or {}).get("members", ())
    starts = loaded.manifest.get("starts", [])
    stage = begun[-1] if begun else "nothing yet"
    return {
        "folder": str(place),
        "name": opened.recipe.name,
        "started": starts[0]["time"] if starts else None,
        "state": _state(stage, finished, working),
        "trials": sum(trial.finished for name in STUDIES for trial in loaded.study(name)),
        "baseline_macs": loaded.baseline["cost"]["macs"] if loaded.baseline else None,
        "accuracy": max((m["accuracy"] for m in members), default=None),
    }


def _state(stage: str, finished: bool, working: bool) -> str:
    if working:
        return f"working: {stage}"
    return "finished" if finished else f"stopped: {stage}"


def dashboard(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8080,
) -> None:
    """Open Optuna's dashboard on a run, on this machine alone."""
    from experiments.progress.dashboard import serve

    opened = existing(run)
    err.print("Ctrl-C stops serving; the run goes on.")
    serve(opened.storage, port, ready=lambda address: out.print(address, soft_wrap=True))
