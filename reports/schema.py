"""The vocabulary of all tables: what each column means, in which unit, and how it is stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Mapping[str, str] = {
    "study": "stage of the run: search, finalists, coefficients, family or rivals",
    "trial": "number of the trial in its study",
    "job": "what the run calls this evaluation",
    "state": "complete, pruned, failed, running or waiting",
    "reward": "accuracy · (cost / target)^w; of a pruned trial, after its last epoch",
    "best_reward": "highest reward of a complete trial so far",
    "accuracy": "fraction in [0, 1] by the run's metric, on the images of that stage",
    "low": "lower end of its 95 % interval: binomial (Wilson), of a mean over seeds Student's",
    "high": "upper end of its 95 % interval",
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
    "pieces": "pieces of a batch that did not fit in memory; of 2 and more, batch norm saw fewer "
    "images at a time, and the accuracy compares less well",
    "rejected": "proposals outside the cost bounds just before this trial",
    "reason": "why the trial failed",
    "key": "equal for two networks if and only if they compute the same",
    "alpha": "depth coefficient α",
    "beta": "width coefficient β",
    "gamma": "resolution coefficient γ",
    "nominal_product": "α·β²·γ²",
    "realised_ratio": "MACs of the scaled network over those of the baseline",
    "combinations": "combinations of α, β, γ that round to this network",
    "depth_share": "part of the growth in nominal MACs that depth takes: ln α / ln(α·β²·γ²)",
    "width_share": "part of it that width takes: 2 ln β / ln(α·β²·γ²)",
    "resolution_share": "part of it that resolution takes: 2 ln γ / ln(α·β²·γ²)",
    "trainings": "trainings with as many epochs, of which the accuracy is the mean",
    "winner": "whether this candidate was chosen",
    "tied": "whether it was as long trained as the winner and is not told apart from it",
    "layer": "what a point of the figure is: complete, pruned, finalists, coefficients …",
    "note": "on which images, after how much training, the accuracy was measured",
    "name": "member of the family, trial or other point",
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
    "run": "name of the run",
    "metric": "what accuracy means: top1 over all images, or balanced (the mean over classes)",
    "classes": "classes that the networks tell apart",
    "trials": "finished trainings of the search, complete or pruned",
    "baseline_macs": "multiply–adds of the baseline for one image",
    "baseline_accuracy": "accuracy of the baseline on the held-out images",
    "recipe_key": "a key of the recipe; the columns beside it are the runs' values",
    "choice": "a choice of the search space",
    "value": "a value of that choice",
    "among_best": "part of the search's best complete trials that made this choice",
    "among_all": "part of all its complete trials that did",
    "importance": "part of what decides whether a trial is among the best tenth (PED-ANOVA)",
    "short_reward": "reward of the search's short training",
    "long_reward": "reward of the finalist's long training",
    "short_rank": "place among the finalists by the short training, 1 the best",
    "long_rank": "place among the finalists by the long training, 1 the best",
    "complete": "trainings that ended with a result",
    "pruned": "trainings that were ended early",
    "failed": "trainings that failed",
    "answered": "trials answered from an earlier measurement",
    "retried": "trials begun again after an interruption",
    "in_pieces": "trainings whose batches did not fit in memory and were taken in pieces",
    "unfinished": "trials that are running or waiting",
    "baseline": "network that a scaling study starts from",
    "rule": "how it has grown: baseline (not at all), depth, width … fast; or a preset",
    "factor": "MACs that were asked for over the baseline's",
    "target": "MACs that were asked for",
    "way": "how a family's member was trained on other images: fine-tuned, or from scratch",
    "seeds": "trainings, one a seed, of which the accuracy is the mean",
    "wall_seconds": "wall-clock seconds of a stage, over all starts of the run",
    "device_seconds": "seconds for which trainings had a device",
    "device_hours": "the same in hours",
    "section": "part of the page",
    "fact": "what is stated there",
    "statement": "a sentence of the page",
    "difference": "accuracy less that of the member with as many MACs; of a pair of members, the "
    "accuracy of `other` less that of `member`",
    "told_apart": "whether the images tell the two accuracies apart, at 95 %",
    "other": "the more expensive member of a pair",
    "p_value": "of McNemar's exact test on the pair's answers to the same images",
    "macs_ratio": "MACs of the second network over those of the first",
    "made": "finished trainings so far",
    "runs": "repeats that have made so many",
    "median": "their best rewards so far: the median",
    "lower_quartile": "their lower quartile",
    "upper_quartile": "their upper quartile",
    "member": "member of the family",
    "class": "class of the images, by its name",
    "image": "number of a test image, from 0",
    "file": "what the data's source calls the image: for files the path in it",
    "label": "class of the image, by its name",
    "predicted": "class that the member took it for",
    "probability": "what the member gave for that class, a fraction",
    "backend": "what ran the network: eager, compile, graph or onnxruntime",
    "batch": "images of one call",
    "threads": "threads of the CPU",
    "median_seconds": "seconds of one call, the median of many",
    "low_seconds": "lower quartile of the seconds of one call",
    "high_seconds": "upper quartile of the seconds of one call",
    "images_per_second": "images answered in a second",
}


def names(text: str) -> list[str]:
    """The names in a text, which stand apart by spaces."""
    return text.split()


#: Columns of whole numbers, kept whole where some are missing.
_WHOLE = names(
    "trial macs params activations resolution epochs epoch epochs_trained seed peak_memory images "
    "answered_from retries pieces rejected kernel stride channels repeats short_rank long_rank "
    "trainings classes trials baseline_macs seeds image batch threads made runs"
)
_FRACTIONAL = names(
    "reward best_reward accuracy low high loss train_loss data_fraction train_seconds "
    "validation_seconds seconds alpha beta gamma nominal_product realised_ratio phi depth width "
    "expansion se among_best among_all importance short_reward long_reward baseline_accuracy "
    "depth_share width_share resolution_share factor target difference wall_seconds device_seconds "
    "device_hours probability median lower_quartile upper_quartile median_seconds low_seconds "
    "high_seconds images_per_second p_value macs_ratio"
)


def frame(rows: Iterable[Mapping[str, Any]], columns: list[str]) -> pd.DataFrame:
    """A frame of exactly these columns, each with its own type, even where there is no row."""
    import pandas as pd

    made = pd.DataFrame(list(rows), columns=columns)
    return made.astype(
        {name: "Int64" for name in columns if name in _WHOLE}
        | {name: "float64" for name in columns if name in _FRACTIONAL}
    )


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain values, None for what is missing."""
    return [
        {str(name): _plain(cell) for name, cell in row.items()} for row in table.to_dict("records")
    ]


def _plain(cell: Any) -> Any:
    cell = cell.item() if hasattr(cell, "item") else cell
    missing = type(cell).__name__ == "NAType" or (isinstance(cell, float) and math.isnan(cell))
    return None if missing else cell


def glossary() -> pd.DataFrame:
    """`COLUMNS` as a table."""
    return frame([{"column": k, "meaning": v} for k, v in COLUMNS.items()], ["column", "meaning"])
