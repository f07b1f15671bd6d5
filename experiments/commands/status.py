"""How far a run is."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.commands.resolve import existing_folder
from experiments.commands.shared_options import AsJson, RunFolder
from experiments.commands.terminal import out, print_json, print_rows, typed
from experiments.commands.trials import result
from experiments.config import Recipe
from experiments.progress.time_left import Done, Left, left
from experiments.runs.folder import RecipeFolder
from experiments.studies.recipes import StudyRecipe, TransferRecipe
from reports.formatting import count, duration, number, percent, printable
from reports.load import Run as Loaded
from reports.load import Trial

if TYPE_CHECKING:
    from search.lease import Driver


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

    opened = existing_folder(run)
    loaded = load(opened.folder, opened.storage)
    driver = driver_of(opened.storage)
    stages = [_stage(opened, loaded, name) for name in _names(opened, loaded)]
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
        out.print(text, style="red", markup=False, overflow="ellipsis", no_wrap=True)


def _stage(opened: RecipeFolder, loaded: Loaded, name: str) -> _Stage:
    trials = loaded.study(name)
    done = [trial for trial in trials if trial.state in ("complete", "pruned")]
    running = [trial for trial in trials if trial.state == "running"]
    planned = _planned(opened, loaded, name)
    over = _is_over(loaded, name) or (not running and len(done) >= (planned or len(done) + 1))
    state = "done" if over else "running" if running else "started" if trials else ""
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


def _names(opened: RecipeFolder, loaded: Loaded) -> list[str]:
    """The studies that the recipe foresees and those that the storage holds, stage by stage."""
    names = list(dict.fromkeys([*_foreseen(opened), *loaded.trials]))
    stages = list(dict.fromkeys(map(loaded.stage_of, names)))
    return sorted(names, key=lambda name: stages.index(loaded.stage_of(name)))


def _foreseen(opened: RecipeFolder) -> dict[str, int | None]:
    """The studies that a run will have by its recipe, with the training runs of each, if known."""
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
    """What the stage itself has noted when it began, or what the recipe says."""
    noted = loaded.manifest.get("planned", {}).get(name)
    return _foreseen(opened).get(name) if noted is None else int(noted)


def is_finished(opened: RecipeFolder, loaded: Loaded) -> bool:
    """Whether a run has its family; whether a study or transfer has all that it planned."""
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
    opened: RecipeFolder, loaded: Loaded, stages: list[_Stage], driver: Driver | None
) -> None:
    starts = loaded.manifest.get("starts", [])
    since = f", started {starts[0]['time'].replace('T', ' ')[:16]} UTC" if starts else ""
    again = f" and continued {number(len(starts) - 1, 'time')}" if len(starts) > 1 else ""
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


def _sentence(opened: RecipeFolder, loaded: Loaded, driver: Driver | None) -> str:
    if driver is not None:
        return f"working: {driver}"
    if is_finished(opened, loaded):
        what = "family" if loaded.family is not None else "report"
        return f"finished; the {what} is in {typed(opened.folder / what)}"
    begun = "stopped; continue" if loaded.all_trials else "nothing is recorded yet; start it"
    return f"{begun} with: {_command(opened)}"


def _command(opened: RecipeFolder) -> str:
    """What continues the run, study or transfer."""
    match opened.recipe:
        case StudyRecipe():
            return f"phiscale study {typed(opened.folder)}"
        case TransferRecipe() as recipe:
            run, out = recipe.family.parent, typed(opened.folder)
            return f"phiscale transfer {typed(run)} --data {recipe.data.source} --out {out}"
        case _:
            return f"phiscale run {typed(opened.folder)}"


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
    opened: RecipeFolder,
    loaded: Loaded,
    stages: list[_Stage],
    driver: Driver | None,
    failures: Counter[str],
) -> dict[str, Any]:
    return {
        "name": opened.recipe.name,
        "folder": str(opened.folder),
        "finished": is_finished(opened, loaded),
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
