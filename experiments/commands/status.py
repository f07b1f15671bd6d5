"""The progress of one run in detail, or of all runs in a folder."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from experiments.commands.running import command_of
from experiments.commands.shared_options import AsJson, RunFolder
from experiments.commands.terminal import out, print_json, print_rows, say, shown, typed
from experiments.commands.trials import result
from experiments.config import Recipe
from experiments.progress import log
from experiments.progress.time_left import Done, Left, left
from experiments.runs.folder import RecipeFolder
from experiments.runs.resolve import RUNS, existing_folder, runs_in
from reports.formatting import count, duration, number, percent, printable
from reports.load import Run as Loaded
from reports.load import Trial, load
from space.validation import InvalidInput

if TYPE_CHECKING:
    from search.lease import Driver


class _Progress(NamedTuple):
    """The progress of one study; `planned` is None if it is not known yet."""

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
    """Show the progress of a run, working or not."""
    from search.lease import driver_of

    opened = existing_folder(run)
    loaded, driver = load(opened.folder), driver_of(opened.storage)
    names = _names(opened, loaded)
    stages = [_stage(opened, loaded, name, driven=driver is not None) for name in names]
    failures = Counter(
        str(trial.measurement.get("reason") or "no reason was given")
        for trial in loaded.all_trials
        if trial.state == "failed"
    )
    if as_json:
        print_json(_as_data(opened, loaded, stages, driver, failures))
        return
    _print_status(opened, loaded, stages, driver)
    if running := [trial for trial in loaded.all_trials if trial.state == "running"]:
        out.print()
        _print_running(running, "running" if driver else "interrupted")
    for reason, times in failures.most_common(5):
        text = f"failed {times} ×: {printable(reason)}"
        out.print(text, style="red", overflow="ellipsis", no_wrap=True)


def _stage(opened: RecipeFolder, loaded: Loaded, name: str, *, driven: bool) -> _Progress:
    trials, planned = loaded.study(name), _planned(opened, loaded, name)
    states = Counter(trial.state for trial in trials)
    done, running = states["complete"] + states["pruned"], states["running"]
    begun = "running" if driven else "stopped"
    over = _is_over(loaded, name) or (not running and done >= (planned or done + 1))
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    own = [trial.seconds for trial in trials if trial.finished and trial.seconds]
    missing = max(0, (planned or 0) - done - running)
    remaining = [1 - _share(trial) for trial in trials if trial.state == "running"]
    pace = [Done(1.0, seconds) for seconds in own]
    return _Progress(
        name=name,
        state="done" if over else begun if running else "started" if trials else "",
        done=done,
        planned=planned,
        pruned=states["pruned"],
        failed=states["failed"],
        running=running,
        best=max(complete, key=lambda trial: trial.value or 0.0, default=None),
        seconds=sum(own),
        left=left(pace, [1.0] * missing + remaining, running) if running else None,
    )


def _names(opened: RecipeFolder, loaded: Loaded) -> list[str]:
    """The studies that the recipe plans and those in the storage, stage by stage."""
    names = list(dict.fromkeys([*_planned_by_recipe(opened), *loaded.trials]))
    stages = list(dict.fromkeys(map(loaded.stage_of, names)))
    return sorted(names, key=lambda name: stages.index(loaded.stage_of(name)))


def _planned_by_recipe(opened: RecipeFolder) -> dict[str, int | None]:
    """The studies that the recipe of a run plans, with the training runs of each, if known."""
    recipe = opened.recipe
    if not isinstance(recipe, Recipe):
        return {}
    return {
        "search": recipe.search.trials,
        "finalists": recipe.search.finalists,
        "coefficients": None,
        "family": len(recipe.family.targets or recipe.family.phi),
        **({"rivals": None} if recipe.family.rivals else {}),
    }


def _planned(opened: RecipeFolder, loaded: Loaded, name: str) -> int | None:
    """What the stage itself noted when it started, or what the recipe says."""
    noted: dict[str, int] = loaded.manifest.get("planned", {})
    return noted.get(name, _planned_by_recipe(opened).get(name))


def _is_finished(opened: RecipeFolder, loaded: Loaded) -> bool:
    """Whether a run has its family, and a study or transfer all its training runs."""
    if isinstance(opened.recipe, Recipe):
        return loaded.family is not None
    planned = loaded.manifest.get("planned", {})
    return bool(planned) and all(
        sum(trial.state == "complete" for trial in loaded.study(name)) >= count
        for name, count in planned.items()
    )


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


def _print_status(
    opened: RecipeFolder, loaded: Loaded, stages: list[_Progress], driver: Driver | None
) -> None:
    starts = loaded.manifest.get("starts", [])
    since = f", started {starts[0]['time'].replace('T', ' ')[:16]} UTC" if starts else ""
    again = f" and continued {number(len(starts) - 1, 'time')}" if len(starts) > 1 else ""
    out.print(f"{opened.recipe.name}{since}{again}", style="bold")
    say(_sentence(opened, loaded, driver))
    rows = [
        [
            stage.name,
            stage.state,
            f"{stage.done}{shown(stage.planned, '/{}'.format)}",
            *(str(number or "") for number in (stage.pruned, stage.failed, stage.running)),
            shown(stage.best, lambda best: percent(best.measurement.get("accuracy") or 0.0)),
            shown(stage.best, lambda best: count(best.cost.get("macs", 0))),
            duration(stage.seconds) if stage.seconds else "",
        ]
        for stage in stages
    ]
    headers = ("stage", "", "done", "pruned", "failed", "running", "best", "MACs", "trained for")
    print_rows(headers, rows, numeric=(2, 3, 4, 5, 6, 7, 8))
    for stage in stages:
        if stage.left and driver:
            out.print(f"{stage.name}: {stage.left}", style="cyan")


def _sentence(opened: RecipeFolder, loaded: Loaded, driver: Driver | None) -> str:
    if driver is not None:
        return f"working: {driver}"
    if _is_finished(opened, loaded):
        what = "family" if loaded.family is not None else "report"
        return f"finished; the {what} is in {typed(opened.folder / what)}"
    start = "stopped; continue" if loaded.all_trials else "nothing is recorded yet; start it"
    return f"{start} with: {command_of(opened)}"


def _print_running(running: list[Trial], header: str) -> None:
    rows = []
    for trial in running:
        since = (datetime.now() - trial.started).total_seconds() if trial.started else 0.0
        epoch = max(trial.reports, default=0)
        value = trial.reports.get(epoch)
        rows.append(
            [
                printable(trial.job) or f"trial {trial.number}",
                count(trial.cost.get("macs", 0)),
                f"{epoch}/{trial.budget.get('epochs', '?')}",
                shown(None if value is None or math.isnan(value) else value, "{:.4f}".format),
                duration(since),
            ]
        )
    print_rows((header, "MACs", "epoch", "value", "for"), rows)


def _as_data(
    opened: RecipeFolder,
    loaded: Loaded,
    stages: list[_Progress],
    driver: Driver | None,
    failures: Counter[str],
) -> dict[str, Any]:
    return {
        "name": opened.recipe.name,
        "folder": str(opened.folder),
        "finished": _is_finished(opened, loaded),
        "driver": driver and {"host": driver.host, "process": driver.process},
        "stages": [
            stage._asdict()
            | {
                "title": loaded.titles.get(stage.name, stage.name.capitalize()),
                "best": stage.best and result(stage.best),
                "left": stage.left and stage.left._asdict(),
            }
            for stage in stages
        ],
        "failures": dict(failures),
    }


def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look.")] = RUNS,
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder, the latest first."""
    if not folder.is_dir():
        raise InvalidInput(
            f"{folder}: not found; give the folder that contains your runs, or start one with: "
            "phiscale run demo"
        )
    rows = []
    for place in runs_in(folder):
        try:
            rows.append(_run_row(place))
        except InvalidInput as error:
            log.remark(f"{place}: skipped: {error}")
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
            shown(row["baseline_macs"], count),
            shown(row["accuracy"], percent),
        ]
        for row in rows
    ]
    headers = ("run", "started (UTC)", "state", "trials", "baseline", "best member")
    print_rows(headers, cells, numeric=(3, 4, 5))


def _run_row(place: Path) -> dict[str, Any]:
    opened = existing_folder(place)
    loaded = load(opened.folder)
    started = [name for name, trials in loaded.trials.items() if trials]
    stage = started[-1] if started else "nothing yet"
    stopped = "finished" if _is_finished(opened, loaded) else f"stopped: {stage}"
    members = (loaded.family or {}).get("members", ())
    starts = loaded.manifest.get("starts", [])
    return {
        "folder": str(place),
        "name": opened.recipe.name,
        "started": starts[0]["time"] if starts else None,
        "state": f"working: {stage}" if loaded.driven else stopped,
        "trials": sum(trial.finished for trial in loaded.all_trials),
        "baseline_macs": loaded.baseline["cost"]["macs"] if loaded.baseline else None,
        "accuracy": max((m["accuracy"] for m in members), default=None),
    }
