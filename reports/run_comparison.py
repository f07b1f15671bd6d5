"""Several runs on one page: their families in one chart, and where their recipes differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import tables, templating
from reports.chart_data import comparison_data
from reports.formatting import count, number, percent, without_password
from reports.load import Run, load
from reports.page_facts import flat
from reports.schema import frame, names, rows, write_tables
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

_RUNS = names(
    "run metric classes images trials seconds baseline_macs baseline_accuracy alpha beta gamma"
)


def write(run_dirs: Sequence[Path | str], out: Path | str) -> Path:
    """Writes a page that compares runs, and its tables as CSV, into the folder `out`.

    Returns the path of the page. Raises `space.validation.InvalidInput` for fewer than two runs,
    or if one cannot be read.
    """
    if len(run_dirs) < 2:
        raise InvalidInput(f"comparing needs at least two runs, but got {len(run_dirs)}")
    runs = named([load(run_dir) for run_dir in run_dirs])
    found, page = compare(runs), Path(out) / "index.html"
    files = write_tables(page.parent, found)
    write_file(page, render(runs, found, files))
    return page


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by their names; runs of the same name have their folders added."""
    shared = Counter(run.name for run in runs)
    found: dict[str, Run] = {}
    for run in runs:
        name = run.name if shared[run.name] == 1 else f"{run.name} ({run.path})"
        if name in found:
            raise InvalidInput(f"{run.path}: this run was given twice; give different runs")
        found[name] = run
    return found


def compare(runs: Mapping[str, Run]) -> dict[str, pd.DataFrame]:
    """The tables `runs`, `families` (all members) and `recipes` (the keys that differ)."""
    every = [{"run": name} | row for name, run in runs.items() for row in rows(tables.family(run))]
    return {
        "runs": frame([_run_row(name, run) for name, run in runs.items()], _RUNS),
        "families": frame(every, ["run", *tables.family(next(iter(runs.values()))).columns]),
        "recipes": differences({name: run.recipe for name, run in runs.items()}),
    }


def _run_row(name: str, run: Run) -> dict[str, Any]:
    baseline, chosen = run.baseline or {}, run.coefficients or {}
    members = (run.family or {}).get("members", ())
    own = [trial for trial in run.all_trials if trial.answered_from is None]
    return {
        "run": name,
        "metric": run.metric,
        "classes": run.num_classes or None,
        "images": members[0].get("images") if members else None,
        "trials": sum(trial.finished for trial in run.study("search")),
        "seconds": sum(trial.seconds or 0.0 for trial in own),
        "baseline_macs": baseline.get("cost", {}).get("macs"),
        "baseline_accuracy": baseline.get("accuracy"),
        **{letter: chosen.get(letter) for letter in ("alpha", "beta", "gamma")},
    }


def differences(recipes: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The keys whose values are not the same in all recipes, with a column for each run."""
    values = {name: dict(flat(recipe, ".")) for name, recipe in recipes.items()}
    found = []
    for key in dict.fromkeys(key for own in values.values() for key in own):
        row = {
            name: "" if own.get(key) is None else without_password(str(own[key]))
            for name, own in values.items()
        }
        if len(set(row.values())) > 1:
            found.append({"recipe_key": key} | row)
    return frame(found, ["recipe_key", *recipes])


def render(runs: Mapping[str, Run], found: Mapping[str, pd.DataFrame], files: list[str]) -> str:
    """The page, with links to `files` beside it."""
    return templating.page(
        "compare.html",
        title=" and ".join(runs) if len(runs) == 2 else number(len(runs), "run"),
        headline=_headline(found),
        warning=_warning(found),
        sections=[("runs", "Runs"), ("families", "Families"), ("recipes", "Recipes")],
        names=list(runs),
        files=files,
        data=comparison_data(runs),
        **{name: rows(table) for name, table in found.items()},
    )


def _headline(found: Mapping[str, pd.DataFrame]) -> str:
    """The most accurate member of each run, the most accurate first."""
    members = [row for row in rows(found["families"]) if row["accuracy"] is not None]
    best: dict[str, dict[str, Any]] = {}
    for member in sorted(members, key=lambda member: -member["accuracy"]):
        best.setdefault(member["run"], member)
    if not best:
        return "None of these runs has a family yet."
    told = [
        f"{name} reaches {percent(member['accuracy'])} with {count(member['macs'])} MACs"
        for name, member in best.items()
    ]
    return "; ".join(told) + "."


def _warning(found: Mapping[str, pd.DataFrame]) -> str:
    """What makes the accuracies of these runs incomparable; empty if nothing does."""
    what = {
        "metric": "metrics",
        "classes": "numbers of classes",
        "images": "numbers of test images",
    }
    unlike = [each for column, each in what.items() if found["runs"][column].nunique() > 1]
    unlike += ["data"] if found["recipes"]["recipe_key"].eq("data.source").any() else []
    if not unlike:
        return ""
    return f"These runs have different {', '.join(unlike)}: their accuracies are not on one scale."
