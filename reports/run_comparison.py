"""Several runs on one page: their families in one figure, and where their recipes differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import tables, templating
from reports.chart_data import comparison_data
from reports.formatting import count, number, percent, to_csv, without_password
from reports.load import Run, load
from reports.schema import frame, glossary, names, rows
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

_RUNS = names(
    "run metric classes images trials seconds baseline_macs baseline_accuracy alpha beta gamma"
)


@dataclass(frozen=True)
class RunComparison:
    """The tables of a comparison, each under the name of its CSV."""

    runs: pd.DataFrame
    families: pd.DataFrame
    recipes: pd.DataFrame


def write(run_dirs: Sequence[Path | str], out: Path | str) -> Path:
    """Writes a page that compares runs, and its tables as CSV, into folder `out`.

    Gives the path of the page. Raises `space.validation.InvalidInput` for fewer than two runs, and
    where one cannot be read.
    """
    if len(run_dirs) < 2:
        raise InvalidInput(f"comparing needs at least two runs, but got {len(run_dirs)}")
    runs = named([load(run_dir) for run_dir in run_dirs])
    found = compare(runs)
    folder = Path(out)
    files = vars(found) | {"columns": glossary()}
    for name, table in files.items():
        write_file(folder / f"{name}.csv", to_csv(table))
    write_file(folder / "index.html", render(runs, found, [f"{name}.csv" for name in files]))
    return folder / "index.html"


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by their names; those that share one by their folders too."""
    shared = Counter(run.name for run in runs)
    found: dict[str, Run] = {}
    for run in runs:
        name = run.name if shared[run.name] == 1 else f"{run.name} ({run.path})"
        if name in found:
            raise InvalidInput(f"{run.path}: this run was given twice; give different runs")
        found[name] = run
    return found


def compare(runs: Mapping[str, Run]) -> RunComparison:
    """What the runs found, all members of all families, and the keys in which recipes differ."""
    every = [{"run": name} | row for name, run in runs.items() for row in rows(tables.family(run))]
    return RunComparison(
        runs=frame([_run_row(name, run) for name, run in runs.items()], _RUNS),
        families=frame(every, ["run", *tables.family(next(iter(runs.values()))).columns]),
        recipes=differences({name: run.recipe for name, run in runs.items()}),
    )


def _run_row(name: str, run: Run) -> dict[str, Any]:
    baseline, chosen = run.baseline or {}, run.coefficients or {}
    members = (run.family or {}).get("members", ())
    every = run.all_trials
    return {
        "run": name,
        "metric": run.metric,
        "classes": run.num_classes or None,
        "images": members[0].get("images") if members else None,
        "trials": sum(trial.finished for trial in run.study("search")),
        "seconds": sum(trial.seconds or 0.0 for trial in every if trial.answered_from is None),
        "baseline_macs": baseline.get("cost", {}).get("macs"),
        "baseline_accuracy": baseline.get("accuracy"),
        **{letter: chosen.get(letter) for letter in ("alpha", "beta", "gamma")},
    }


def differences(recipes: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The keys whose values are not the same in all recipes, a column a run."""
    flat = {name: dict(_flat(recipe)) for name, recipe in recipes.items()}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    found = [
        {"recipe_key": key} | {name: values.get(key, "") for name, values in flat.items()}
        for key in keys
        if len({values.get(key, "") for values in flat.values()}) > 1
    ]
    return frame(found, ["recipe_key", *flat])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", "" if value is None else without_password(str(value))))
    return found


def render(runs: Mapping[str, Run], found: RunComparison, files: list[str]) -> str:
    """The page, with links to `files` beside it."""
    return templating.page(
        "compare.html",
        title=" and ".join(runs) if len(runs) == 2 else number(len(runs), "run"),
        headline=_headline(found),
        warning=_warning(found),
        sections=[("runs", "Runs"), ("families", "Families"), ("recipes", "Recipes")],
        runs=rows(found.runs),
        families=rows(found.families),
        recipes=rows(found.recipes),
        names=list(runs),
        files=files,
        data=comparison_data(runs),
    )


def _headline(found: RunComparison) -> str:
    """The most accurate member of each run."""
    best: dict[str, dict[str, Any]] = {}
    for member in rows(found.families):
        before = best.get(member["run"])
        if member["accuracy"] is not None and (
            before is None or member["accuracy"] > before["accuracy"]
        ):
            best[member["run"]] = member
    if not best:
        return "None of these runs has a family yet."
    told = [
        f"{name} reaches {percent(member['accuracy'])} with {count(member['macs'])} MACs"
        for name, member in sorted(best.items(), key=lambda item: -item[1]["accuracy"])
    ]
    return "; ".join(told) + "."


def _warning(found: RunComparison) -> str:
    """What makes the accuracies of these runs no fair comparison, where something does."""
    unlike = [
        what
        for what, column in (
            ("metrics", "metric"),
            ("numbers of classes", "classes"),
            ("numbers of test images", "images"),
        )
        if len({row[column] for row in rows(found.runs) if row[column] is not None}) > 1
    ]
    sources = [row for row in rows(found.recipes) if row["recipe_key"] == "data.source"]
    unlike += ["data"] if sources else []
    if not unlike:
        return ""
    return f"These runs have different {', '.join(unlike)}: their accuracies are not on one scale."
