"""What a run has measured, as data frames: one function a table, one vocabulary for all columns.

`COLUMNS` says what each column means and in which unit; the figures and the page draw these
frames, and each is written as a CSV beside them. A frame of a stage that has not begun is empty
and has its columns all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports.load import STUDIES, Run, Trial
from space.architecture import Architecture, Block, Operator, Stage
from space.cost import parts

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Mapping[str, str] = {
    "study": "stage of the run: search, finalists, coefficients or family",
    "trial": "number of the trial in its study",
    "job": "what the run calls this evaluation",
    "state": "complete, pruned, failed, running or waiting",
    "reward": "accuracy · (cost / target)^w; of a pruned trial, after its last epoch",
    "best_reward": "highest reward of a complete trial so far",
    "accuracy": "fraction in [0, 1] by the run's metric, on the images of that stage",
    "low": "lower end of the 95 % binomial (Wilson) interval of the accuracy",
    "high": "upper end of the 95 % binomial (Wilson) interval of the accuracy",
    "images": "images that the accuracy was measured on",
    "loss": "mean cross-entropy on the same images",
    "train_loss": "mean training loss per image of the epoch",
    "macs": "multiply–adds for one image at the evaluated resolution",
    "params": "parameters",
    "activations": "elements of all convolution outputs for one image",
    "resolution": "square input in pixels; in a table of stages, of the stage's output",
    "epochs": "passes over the training images that the budget allows",
    "epoch": "number of the epoch, from 1",
    "epochs_trained": "passes over the training images that were made",
    "data_fraction": "part of the training images that is used",
    "seed": "seed of the initial weights and of the order of batches",
    "train_seconds": "seconds of training",
    "validation_seconds": "seconds of measuring accuracy",
    "seconds": "wall-clock seconds",
    "peak_memory": "bytes",
    "device": "what trained it",
    "answered_from": "trial whose measurement answered this one without training",
    "retries": "times that the trial was begun again after an interruption",
    "rejected": "proposals outside the cost bounds just before this trial",
    "reason": "why the trial failed",
    "key": "equal for two networks if and only if they compute the same",
    "alpha": "depth coefficient α",
    "beta": "width coefficient β",
    "gamma": "resolution coefficient γ",
    "nominal_product": "α·β²·γ²",
    "realised_ratio": "MACs of the scaled network over those of the baseline",
    "combinations": "combinations of α, β, γ that round to this network",
    "winner": "whether this candidate was chosen",
    "tied": "whether its accuracy is within 1.96 standard errors of the winner's",
    "name": "member of the family",
    "phi": "compound coefficient φ",
    "depth": "factor on repeats",
    "width": "factor on channels",
    "network": "baseline, or a member of the family",
    "stage": "stem, number of the stage, or head",
    "operator": "what a block of the stage computes",
    "kernel": "side of its convolution in pixels",
    "stride": "of the first block",
    "expansion": "inner channels over input channels (bottleneck: over output channels)",
    "se": "squeeze-and-excite ratio; 0: none",
    "skip": "how a block's input joins its output",
    "channels": "output channels",
    "repeats": "blocks in the stage",
    "complete": "trainings that ended with a result",
    "pruned": "trainings that were ended early",
    "failed": "trainings that failed",
    "answered": "trials answered from an earlier measurement",
    "retried": "trials begun again after an interruption",
    "unfinished": "trials that are running or waiting",
}


def _names(text: str) -> list[str]:
    return text.split()


_TRIALS = _names(
    "study trial job state reward accuracy loss macs params activations resolution epochs "
    "epochs_trained data_fraction seed train_seconds validation_seconds seconds peak_memory images "
    "device answered_from retries rejected reason key"
)
_COEFFICIENTS = _names(
    "alpha beta gamma nominal_product realised_ratio accuracy low high images macs params "
    "activations combinations winner tied key"
)
_FAMILY = _names(
    "name phi depth width resolution macs params activations accuracy low high images "
    "train_seconds key"
)
_STAGES = _names(
    "stage operator kernel stride expansion se skip channels repeats resolution macs params "
    "activations"
)
_COUNTS = _names(
    "study complete pruned failed answered retried rejected unfinished train_seconds seconds"
)
#: Columns of whole numbers, kept whole where some are missing.
_WHOLE = _names(
    "trial macs params activations resolution epochs epoch epochs_trained seed peak_memory images "
    "answered_from retries rejected kernel stride channels repeats"
)
_FRACTIONAL = _names(
    "reward best_reward accuracy low high loss train_loss data_fraction train_seconds "
    "validation_seconds seconds alpha beta gamma nominal_product realised_ratio phi depth width "
    "expansion se"
)
_EXPANDING = (Operator.INVERTED, Operator.FUSED, Operator.BOTTLENECK)


def wilson(accuracy: float, images: int, z: float = 1.959964) -> tuple[float, float]:
    """The binomial interval of an accuracy measured on `images` images, 95 % at the default z.

    It covers the choice of images alone, not the variation between trainings. Source: Wilson 1927.
    """
    centre = accuracy + z * z / (2 * images)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / images + (z / (2 * images)) ** 2)
    scale = 1 + z * z / images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True)
class Tables:
    """The tables of one run, each under the name of its CSV."""

    trials: pd.DataFrame
    pareto: pd.DataFrame
    best: pd.DataFrame
    search_progress: pd.DataFrame
    coefficients: pd.DataFrame
    family: pd.DataFrame
    stages: pd.DataFrame
    counts: pd.DataFrame
    failures: pd.DataFrame


def collect(run: Run) -> Tables:
    """All tables of a run."""
    every = trials(run)
    return Tables(
        trials=every,
        pareto=pareto(every),
        best=best(every),
        search_progress=progress(every),
        coefficients=coefficients(run),
        family=family(run),
        stages=stages(networks(run)),
        counts=counts(run),
        failures=failures(every),
    )


def trials(run: Run) -> pd.DataFrame:
    """Every trial of every study; the search's choices follow in columns of their own names."""
    found = [trial for study in STUDIES for trial in run.study(study)]
    choices = dict.fromkeys(name for trial in found for name in sorted(trial.choices))
    return _frame(
        [_trial_row(trial) | dict(trial.choices) for trial in found], [*_TRIALS, *choices]
    )


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
        "accuracy": measured.get("accuracy"),
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
        "images": measured.get("images"),
        "device": trial.environment.get("device"),
        "answered_from": trial.answered_from,
        "retries": trial.retries,
        "rejected": trial.rejected,
        "reason": measured.get("reason"),
        "key": trial.key,
    }


def pareto(trials: pd.DataFrame) -> pd.DataFrame:
    """The search's trials that no other one beats in accuracy at no more MACs, by rising MACs.

    Only complete trials of the search compete: they alone were trained on one budget.
    """
    competing = trials[(trials["study"] == "search") & (trials["state"] == "complete")]
    ordered = competing.dropna(subset=["accuracy", "macs"]).sort_values(
        ["macs", "accuracy", "trial"], ascending=[True, False, True]
    )
    before = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["accuracy"] > before].reset_index(drop=True)


def best(trials: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """The search's complete trials with the highest rewards, at most `most` of them."""
    own = trials[(trials["study"] == "search") & (trials["state"] == "complete")]
    own = own[own["answered_from"].isna() & own["reward"].notna()]
    return own.sort_values("reward", ascending=False, ignore_index=True).head(most)


def progress(trials: pd.DataFrame) -> pd.DataFrame:
    """The search's finished trainings by their numbers, with the best reward so far."""
    columns = ["trial", "state", "reward", "best_reward", "accuracy", "macs", "seconds", "key"]
    finished = trials["state"].isin(["complete", "pruned"]) & trials["answered_from"].isna()
    made = trials[(trials["study"] == "search") & finished].copy()
    made["best_reward"] = made["reward"].where(made["state"] == "complete").cummax().ffill()
    return made[columns].reset_index(drop=True)


def coefficients(run: Run) -> pd.DataFrame:
    """The candidates of the coefficient grid, the most accurate first.

    A candidate stands once, for all combinations of α, β, γ that round to its network.
    """
    stage = run.coefficients or {}
    images = _images(run.study("coefficients"))
    chosen = tuple(stage.get(name) for name in ("alpha", "beta", "gamma"))
    rows = []
    for candidate in stage.get("candidates", ()):
        combinations = [tuple(names) for names in candidate.get("names", ())]
        own = tuple(candidate.get(name) for name in ("alpha", "beta", "gamma"))
        rows.append(
            {name: candidate.get(name) for name in _COEFFICIENTS}
            | dict(candidate.get("cost", {}))
            | _interval(candidate.get("accuracy"), images.get(candidate.get("key", "")))
            | {
                "combinations": "; ".join(_combination(names) for names in combinations),
                "winner": chosen == own or chosen in combinations,
            }
        )
    best = next((row for row in rows if row["winner"]), {})
    for row in rows:
        row["tied"] = _tied(row, best)
    frame = _frame(rows, _COEFFICIENTS)
    return frame.sort_values("accuracy", ascending=False, na_position="last", ignore_index=True)


def _tied(one: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Whether the images cannot tell two accuracies apart: within 1.96 standard errors.

    Conservative: the images are the same for both, and are treated as two independent draws.
    """
    if not all(row.get("accuracy") is not None and row.get("images") for row in (one, best)):
        return False
    variance = sum(row["accuracy"] * (1 - row["accuracy"]) / row["images"] for row in (one, best))
    return bool(abs(best["accuracy"] - one["accuracy"]) <= 1.96 * math.sqrt(variance))


def _combination(names: Iterable[float]) -> str:
    return " × ".join(f"{value:g}" for value in names)


def family(run: Run) -> pd.DataFrame:
    """The members in the recipe's order, with their accuracy on the test images."""
    rows = [
        {name: member.get(name) for name in _FAMILY}
        | dict(member.get("cost", {}))
        | _interval(member.get("accuracy"), member.get("images"))
        for member in (run.family or {}).get("members", ())
    ]
    return _frame(rows, _FAMILY)


def networks(run: Run) -> dict[str, Architecture]:
    """The networks that a run has chosen, by name: the baseline, then the family's members."""
    found = {}
    if run.baseline and run.baseline.get("architecture"):
        found["baseline"] = run.baseline["architecture"]
    built = {trial.key: trial.architecture for trial in run.study("family") if trial.architecture}
    for member in (run.family or {}).get("members", ()):
        if member.get("key") in built:
            found[str(member["name"])] = built[member["key"]]
    return {
        name: Architecture.from_dict(data, source=f"{run.path}: {name}")
        for name, data in found.items()
    }


def stages(networks: Mapping[str, Architecture]) -> pd.DataFrame:
    """The stem, each stage and the head of each network, with its output resolution and cost."""
    rows = [
        {"network": name} | row
        for name, architecture in networks.items()
        for row in stage_rows(architecture)
    ]
    return _frame(rows, ["network", *_STAGES])


def stage_rows(architecture: Architecture) -> list[dict[str, Any]]:
    """A row for the stem, each stage and the head; their costs add up to the network's."""
    stem, head = architecture.stem, architecture.head
    first = {"stage": "stem", "operator": "conv", "kernel": stem.kernel, "stride": stem.stride}
    named: list[dict[str, Any]] = [first]
    for number, (stage, blocks) in enumerate(
        zip(architecture.stages, architecture.blocks(), strict=True), start=1
    ):
        named.append({"stage": str(number)} | _stage_row(stage, blocks[0]))
    named.append({"stage": "head", "operator": "conv" if head.channels else "linear"})
    channels = [stem.channels, *(stage.channels for stage in architecture.stages)]
    return [
        row | {"channels": width, "resolution": part.resolution} | part.cost._asdict()
        for row, width, part in zip(
            named, [*channels, architecture.out_channels], parts(architecture), strict=True
        )
    ]


def _stage_row(stage: Stage, block: Block) -> dict[str, Any]:
    """What a stage is made of; what has no effect on its blocks is left out."""
    return {
        "operator": str(block.operator),
        "kernel": block.kernel,
        "stride": block.stride,
        "expansion": stage.expansion if block.operator in _EXPANDING else None,
        "se": stage.se.ratio if stage.se and block.squeeze_channels else 0.0,
        "skip": str(stage.skip),
        "repeats": stage.repeats,
    }


def counts(run: Run) -> pd.DataFrame:
    """How the trials of each study ended and what they took, a row a study that has begun."""
    rows = []
    for study in STUDIES:
        made = run.study(study)
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
            "rejected": sum(trial.rejected for trial in made),
            "unfinished": states.count("running") + states.count("waiting"),
            "train_seconds": sum(t.measurement.get("train_seconds") or 0.0 for t in own),
            "seconds": sum(trial.seconds or 0.0 for trial in own),
        }
        rows += [row] if made else []
    return _frame(rows, _COUNTS)


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """The failed trials with their reasons."""
    failed = trials[trials["state"] == "failed"]
    return failed[["study", "trial", "job", "macs", "reason", "key"]].reset_index(drop=True)


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain values, None for what is missing."""
    return [
        {str(name): _plain(cell) for name, cell in row.items()} for row in frame.to_dict("records")
    ]


def _plain(cell: Any) -> Any:
    cell = cell.item() if hasattr(cell, "item") else cell
    missing = type(cell).__name__ == "NAType" or (isinstance(cell, float) and math.isnan(cell))
    return None if missing else cell


def _images(trials: Iterable[Trial]) -> dict[str, int]:
    """How many images each network's accuracy was measured on."""
    return {
        trial.key: trial.measurement["images"]
        for trial in trials
        if trial.measurement.get("images")
    }


def _interval(accuracy: float | None, images: int | None) -> dict[str, Any]:
    if accuracy is None or not images:
        return {"images": images}
    low, high = wilson(accuracy, images)
    return {"low": low, "high": high, "images": images}


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(
        {name: "Int64" for name in columns if name in _WHOLE}
        | {name: "float64" for name in columns if name in _FRACTIONAL}
    )
