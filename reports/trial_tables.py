"""Tables of trials, and what they say about the search: one function a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.load import Run, Trial
from reports.schema import frame, names
from reports.statistics import interval

if TYPE_CHECKING:
    import pandas as pd

_TRIALS = names(
    "study trial job state reward accuracy low high loss macs params activations resolution epochs "
    "epochs_trained data_fraction seed train_seconds validation_seconds seconds peak_memory images "
    "device answered_from retries pieces rejected reason key"
)
_TIMES = names("stage wall_seconds trainings device_seconds device_hours")
_COUNTS = names(
    "study complete pruned failed answered retried in_pieces rejected unfinished train_seconds "
    "seconds"
)


def trials(run: Run) -> pd.DataFrame:
    """Every trial of every study; the search's choices follow in columns of their own names."""
    choices = dict.fromkeys(name for trial in run.all_trials for name in sorted(trial.choices))
    rows = [_trial_row(trial) | dict(trial.choices) for trial in run.all_trials]
    return frame(rows, [*_TRIALS, *choices])


def _trial_row(trial: Trial) -> dict[str, Any]:
    measured, budget = trial.measurement, trial.budget
    reward = trial.value
    if trial.state == "pruned" and trial.reports:
        reward = trial.reports[max(trial.reports)]
    return {
        "study": trial.study,
        "trial": trial.number,
        "job": trial.job,
        "state": trial.state,
        "reward": reward if trial.study in ("search", "finalists") else None,
        **interval(measured.get("accuracy"), measured.get("images")),
        "loss": measured.get("loss"),
        **{name: trial.cost.get(name) for name in ("macs", "params", "activations")},
        "resolution": budget.get("resolution") or trial.architecture.get("resolution"),
        "epochs": budget.get("epochs"),
        "epochs_trained": len(measured.get("epochs", ())),
        "data_fraction": budget.get("data_fraction"),
        "seed": budget.get("seed"),
        "train_seconds": measured.get("train_seconds"),
        "validation_seconds": measured.get("validation_seconds"),
        "seconds": trial.seconds,
        "peak_memory": measured.get("peak_memory"),
        "device": trial.environment.get("device"),
        "answered_from": trial.answered_from,
        "retries": trial.retries,
        "pieces": _pieces(trial),
        "rejected": trial.rejected,
        "reason": measured.get("reason"),
        "key": trial.key,
    }


def _pieces(trial: Trial) -> int:
    """In how many pieces batches were taken, where a whole one did not fit in memory."""
    return int((trial.measurement.get("details") or {}).get("pieces of a batch", 1))


def pareto(trials: pd.DataFrame, cost: str = "macs") -> pd.DataFrame:
    """The search's trials that no other one beats in accuracy at no more cost, by rising cost.

    Only complete trials of the search compete: they alone were trained on one budget. `cost` is
    macs, params or activations.
    """
    competing = trials[(trials["study"] == "search") & (trials["state"] == "complete")]
    ordered = competing.dropna(subset=["accuracy", cost]).sort_values(
        [cost, "accuracy", "trial"], ascending=[True, False, True]
    )
    before = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["accuracy"] > before].reset_index(drop=True)


def best(trials: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """The search's complete trials with the highest rewards, at most `most` of them."""
    own = trials[(trials["study"] == "search") & (trials["state"] == "complete")]
    own = own[own["answered_from"].isna() & own["reward"].notna()]
    return own.sort_values("reward", ascending=False, ignore_index=True).head(most)


def progress(trials: pd.DataFrame) -> pd.DataFrame:
    """The search's finished training runs by their numbers, with the best reward so far."""
    columns = ["trial", "state", "reward", "best_reward", "accuracy", "macs", "seconds", "key"]
    finished = trials["state"].isin(["complete", "pruned"]) & trials["answered_from"].isna()
    made = trials[(trials["study"] == "search") & finished].copy()
    made["best_reward"] = made["reward"].where(made["state"] == "complete").cummax().ffill()
    return made[columns].reset_index(drop=True)


def counts(run: Run) -> pd.DataFrame:
    """How the trials of each study ended and what they took, a row a study that has begun."""
    rows = []
    for study, made in run.trials.items():
        answered = [trial for trial in made if trial.answered_from is not None]
        own = [trial for trial in made if trial.answered_from is None]
        states = [trial.state for trial in own]
        row = {
            "study": study,
            "complete": states.count("complete"),
            "pruned": states.count("pruned"),
            "failed": states.count("failed"),
            "answered": len(answered),
            "retried": sum(trial.retries > 0 for trial in made),
            "in_pieces": sum(_pieces(trial) > 1 for trial in own),
            "rejected": sum(trial.rejected for trial in made),
            "unfinished": states.count("running") + states.count("waiting"),
            "train_seconds": sum(t.measurement.get("train_seconds") or 0.0 for t in own),
            "seconds": sum(trial.seconds or 0.0 for trial in own),
        }
        rows += [row] if made else []
    return frame(rows, _COUNTS)


def times(run: Run) -> pd.DataFrame:
    """What each stage took: wall-clock over all starts, and the devices' time in its training runs.

    A training run has one device; answered trials took no time.
    """
    wall = run.manifest.get("seconds", {})
    rows = []
    for stage in dict.fromkeys([*map(run.stage_of, run.trials), *wall]):
        own = [
            trial
            for trial in run.all_trials
            if run.stage_of(trial.study) == stage and trial.answered_from is None
        ]
        spent = [
            trial.measurement.get(name) or 0.0
            for trial in own
            for name in ("train_seconds", "validation_seconds")
        ]
        row = {
            "stage": stage,
            "wall_seconds": wall.get(stage),
            "trainings": sum(bool(trial.measurement.get("epochs")) for trial in own),
            "device_seconds": sum(spent),
            "device_hours": sum(spent) / 3600,
        }
        rows += [row] if own or stage in wall else []
    return frame(rows, _TIMES)


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """The failed trials with their reasons."""
    failed = trials[trials["state"] == "failed"]
    return failed[["study", "trial", "job", "macs", "reason", "key"]].reset_index(drop=True)
