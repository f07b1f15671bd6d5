"""The runs that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commands.resolve import RUNS, existing_folder, runs_in
from experiments.commands.shared_options import AsJson
from experiments.commands.status import is_finished
from experiments.commands.terminal import print_json, print_rows
from experiments.progress import log
from experiments.runs.folder import RecipeFolder
from reports.formatting import count, percent
from reports.load import Run as Loaded
from space.validation import InvalidInput


def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look.")] = RUNS,
    as_json: AsJson = False,
) -> None:
    """The runs in a folder, the latest first."""
    from reports.load import load

    if not folder.is_dir():
        raise InvalidInput(
            f"{folder}: not found; give the folder that contains your runs, or start one with: "
            "phiscale run demo"
        )
    rows = []
    for place in runs_in(folder):
        try:
            opened = existing_folder(place)
            loaded = load(opened.folder, opened.storage)
        except InvalidInput as error:
            log.remark(f"{place}: skipped: {error}")
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


def _run_row(place: Path, opened: RecipeFolder, loaded: Loaded) -> dict[str, Any]:
    from search.lease import driver_of

    working = driver_of(opened.storage) is not None
    begun = [name for name, trials in loaded.trials.items() if trials]
    members = (loaded.family or {}).get("members", ())
    starts = loaded.manifest.get("starts", [])
    stage = begun[-1] if begun else "nothing yet"
    return {
        "folder": str(place),
        "name": opened.recipe.name,
        "started": starts[0]["time"] if starts else None,
        "state": _state(stage, is_finished(opened, loaded), working),
        "trials": sum(trial.finished for trial in loaded.all_trials),
        "baseline_macs": loaded.baseline["cost"]["macs"] if loaded.baseline else None,
        "accuracy": max((m["accuracy"] for m in members), default=None),
    }


def _state(stage: str, finished: bool, working: bool) -> str:
    if working:
        return f"working: {stage}"
    return "finished" if finished else f"stopped: {stage}"
