"""Tables of trials and of the search's progress: one function for each table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reports.load import Run, Trial
from reports.schema import frame, names
from reports.statistics import interval
from space.architecture import Architecture
from space.device import device_memory

if TYPE_CHECKING:
    import pandas as pd

_TRIALS = names(
    "study trial job state reward accuracy low high loss macs params activations resolution epochs "
    "epochs_trained data_fraction seed start inherited teacher train_seconds validation_seconds "
    "seconds peak_memory images device answered_from retries pieces rejected reason key"
)
_OWN = names("study job state seconds answered_from retries rejected key")
_BUDGET = names("epochs data_fraction seed start teacher")
_MEASURED = names("loss train_seconds validation_seconds peak_memory reason")
_TIMES = names("stage wall_seconds training_runs device_seconds device_hours")
_COUNTS = names(
    "study complete pruned failed answered retried in_pieces rejected unfinished train_seconds "
    "seconds"
)


#: Bytes on the device, where the objective bounds them.
DEVICE = names("sram flash")


def trials(run: Run) -> pd.DataFrame:
    """Every trial of every study; the search's choices follow in columns of their own names.

    The choice of a resolution is the network's, which has a column.
    """
    choices = dict.fromkeys(name for trial in run.all_trials for name in sorted(trial.choices))
    rows = [
        _trial_row(trial)
        | on_device(run, trial.architecture, trial.budget.get("resolution"))
        | dict(trial.choices)
        for trial in run.all_trials
    ]
    more = DEVICE if run.device else []
    if any(row["float32_accuracy"] is not None for row in rows):
        more = [*more, "float32_accuracy"]
    return frame(rows, list(dict.fromkeys([*_TRIALS, *more, *choices])))


def on_device(
    run: Run, architecture: Mapping[str, Any], resolution: int | None = None
) -> dict[str, int]:
    """A network's `DEVICE` at `resolution` pixels (its own where None); empty without bounds."""
    if run.device is None or not architecture:
        return {}
    found = device_memory(Architecture.from_dict(architecture), run.device, resolution)
    return {"sram": found.sram, "flash": found.flash}


def _trial_row(trial: Trial) -> dict[str, Any]:
    measured, budget = trial.measurement, trial.budget
    reward = trial.value
    if trial.state == "pruned" and trial.reports:
        reward = trial.reports[max(trial.reports)]
    return {
        **{name: getattr(trial, name) for name in _OWN},
        **{name: trial.cost.get(name) for name in ("macs", "params", "activations")},
        **{name: budget.get(name) for name in _BUDGET},
        **{name: measured.get(name) for name in _MEASURED},
        **interval(measured.get("accuracy"), measured.get("images")),
        "trial": trial.number,
        "reward": reward if trial.study in ("search", "finalists") else None,
        "resolution": budget.get("resolution") or trial.architecture.get("resolution"),
        "epochs_trained": len(measured.get("epochs", ())),
        "inherited": _details(trial).get("inherited share"),
        "float32_accuracy": _details(trial).get("float32 accuracy"),
        "device": trial.environment.get("device"),
        "pieces": _pieces(trial),
    }


def _pieces(trial: Trial) -> int:
    """The number of parts that batches were split into because they did not fit in memory."""
    return int(_details(trial).get("pieces of a batch", 1))


def _details(trial: Trial) -> Mapping[str, float]:
    return trial.measurement.get("details") or {}


def searched(trials: pd.DataFrame, *states: str) -> pd.DataFrame:
    """The search's trials in one of these states."""
    return trials[(trials["study"] == "search") & trials["state"].isin(states)]


def pareto(trials: pd.DataFrame, cost: str = "macs") -> pd.DataFrame:
    """The search's trials that no other one beats in accuracy at no more cost, by rising cost.

    Only complete trials of the search compete, because only they were trained on one budget. `cost`
    is macs, params or activations.
    """
    ordered = (
        searched(trials, "complete")
        .dropna(subset=["accuracy", cost])
        .sort_values([cost, "accuracy", "trial"], ascending=[True, False, True])
    )
    before = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["accuracy"] > before].reset_index(drop=True)


def best(trials: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """The search's complete trials with the highest rewards, at most `most` of them."""
    own = searched(trials, "complete")
    own = own[own["answered_from"].isna() & own["reward"].notna()]
    return own.sort_values("reward", ascending=False, ignore_index=True).head(most)


def progress(trials: pd.DataFrame) -> pd.DataFrame:
    """The search's finished training runs by their numbers, with the best reward so far."""
    columns = ["trial", "state", "reward", "best_reward", "accuracy", "macs", "seconds", "key"]
    made = searched(trials, "complete", "pruned")
    made = made[made["answered_from"].isna()].copy()
    made["best_reward"] = made["reward"].where(made["state"] == "complete").cummax().ffill()
    return made[columns].reset_index(drop=True)


def counts(run: Run) -> pd.DataFrame:
    """How the trials of each study ended and what they took, a row for each study with trials."""
    found = []
    for study, made in run.trials.items():
        own = [trial for trial in made if trial.answered_from is None]
        states = Counter(trial.state for trial in own)
        row = {
            "study": study,
            **{name: states[name] for name in ("complete", "pruned", "failed")},
            "answered": len(made) - len(own),
            "retried": sum(trial.retries > 0 for trial in made),
            "in_pieces": sum(_pieces(trial) > 1 for trial in own),
            "rejected": sum(trial.rejected for trial in made),
            "unfinished": states["running"] + states["waiting"],
            "train_seconds": sum(t.measurement.get("train_seconds") or 0.0 for t in own),
            "seconds": sum(trial.seconds or 0.0 for trial in own),
        }
        found += [row] if made else []
    return frame(found, _COUNTS)


def times(run: Run) -> pd.DataFrame:
    """The wall-clock time of each stage over all starts, and the devices' time in training runs.

    A training run has one device; answered trials took no time.
    """
    wall = run.manifest.get("seconds", {})
    found = []
    for stage in dict.fromkeys([*map(run.stage_of, run.trials), *wall]):
        own = [
            trial.measurement
            for trial in run.all_trials
            if run.stage_of(trial.study) == stage and trial.answered_from is None
        ]
        kinds = ("train_seconds", "validation_seconds")
        spent = sum(measured.get(kind) or 0.0 for measured in own for kind in kinds)
        row = {
            "stage": stage,
            "wall_seconds": wall.get(stage),
            "training_runs": sum(bool(measured.get("epochs")) for measured in own),
            "device_seconds": spent,
            "device_hours": spent / 3600,
        }
        found += [row] if own or stage in wall else []
    return frame(found, _TIMES)


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """The failed trials with their reasons."""
    failed = trials[trials["state"] == "failed"]
    return failed[["study", "trial", "job", "macs", "reason", "key"]].reset_index(drop=True)
