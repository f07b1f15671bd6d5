"""What a run has measured, as data frames, each of which is written as a CSV.

`reports.schema` says what each column means and in which unit; the figures and the page draw these
frames. A frame of a stage that has not begun is empty and has its columns all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports import predictions, recommendation, search_analysis, trial_tables
from reports.load import Run, Trial
from reports.schema import frame, names, rows
from reports.statistics import interval, unpaired_difference
from scaling.coefficients import Coefficients
from scaling.rules import compound
from space.architecture import Architecture, Block, Stage
from space.cost import parts
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

_COEFFICIENTS = names(
    "alpha beta gamma depth_share width_share resolution_share nominal_product realised_ratio "
    "accuracy low high images epochs trainings macs params activations combinations winner tied key"
)
_FAMILY = names(
    "name phi depth width resolution macs params activations accuracy low high images "
    "train_seconds key"
)
_STAGES = names(
    "stage operator start_kernel kernel stride expansion se skip channels repeats resolution macs "
    "params activations"
)
_RIVALS = names(
    "rule member difference told_apart accuracy low high images macs params activations resolution "
    "epochs seconds key"
)
_LATENCY = names(
    "member accuracy backend device batch threads median_seconds low_seconds high_seconds "
    "images_per_second"
)
_LETTERS = ("alpha", "beta", "gamma")


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
    times: pd.DataFrame
    failures: pd.DataFrame
    learning_curves: pd.DataFrame
    choices: pd.DataFrame
    importance: pd.DataFrame
    ranks: pd.DataFrame
    member_comparisons: pd.DataFrame
    rivals: pd.DataFrame
    latency: pd.DataFrame
    class_accuracy: pd.DataFrame
    confusions: pd.DataFrame
    confused: pd.DataFrame
    activation_maps: pd.DataFrame


def collect(run: Run) -> Tables:
    """All tables of a run."""
    every = trial_tables.trials(run)
    answers = predictions.answers(run)
    members = family(run)
    return Tables(
        trials=every,
        pareto=trial_tables.pareto(every),
        best=trial_tables.best(every),
        search_progress=trial_tables.progress(every),
        coefficients=coefficients(run),
        family=members,
        stages=stages(networks(run)),
        counts=trial_tables.counts(run),
        times=trial_tables.times(run),
        failures=trial_tables.failures(every),
        learning_curves=search_analysis.learning_curves(run),
        choices=search_analysis.choices(run),
        importance=search_analysis.importance(run),
        ranks=search_analysis.ranks(run),
        member_comparisons=recommendation.compare_members(members, answers, run.metric),
        rivals=rivals(run, every),
        latency=latency(run),
        class_accuracy=predictions.class_accuracy(answers),
        confusions=predictions.confusions(answers),
        confused=predictions.with_files(run, predictions.confused(answers)),
        activation_maps=predictions.with_files(
            run, predictions.mapped(answers, predictions.pictures(run))
        ),
    )


def coefficients(run: Run) -> pd.DataFrame:
    """The candidates of the coefficient grid, the longest trained and most accurate first.

    A candidate stands once, for all combinations of α, β, γ that round to its network.
    """
    stage = run.coefficients or {}
    finalists = stage.get("finalists")
    trained = _trained(run.study("coefficients"))
    found = [
        _candidate(each, stage) | trained.get(each.get("key", ""), {})
        for each in stage.get("candidates", ())
    ]
    for row in found:
        row |= interval(row.get("accuracy"), row.get("images"))
    best = next((row for row in found if row["winner"]), {})
    for row in found:
        label = str(Coefficients(*(row[name] for name in _LETTERS)))  # as the stage calls it
        row["tied"] = label in finalists["tied"] if finalists else _tied(row, best) is True
    return frame(found, _COEFFICIENTS).sort_values(
        ["epochs", "accuracy"], ascending=False, na_position="last", ignore_index=True
    )


def _candidate(candidate: Mapping[str, Any], stage: Mapping[str, Any]) -> dict[str, Any]:
    own, chosen = ([float(each[name]) for name in _LETTERS] for each in (candidate, stage))
    combinations = [[float(value) for value in name] for name in candidate.get("names", ())]
    shares = compound(Coefficients(*own)).shares if candidate["nominal_product"] > 1 else None
    return {
        **{name: candidate.get(name) for name in _COEFFICIENTS},
        **candidate.get("cost", {}),
        **{f"{name}_share": share for name, share in (shares._asdict() if shares else {}).items()},
        "combinations": "; ".join(" × ".join(f"{v:g}" for v in names) for names in combinations),
        "winner": chosen == own or chosen in combinations,
    }


def _trained(trials: Iterable[Trial]) -> dict[str, dict[str, Any]]:
    """For each network: its longest training's epochs, how many there were, and the images."""
    complete = [trial for trial in trials if trial.state == "complete"]
    found: dict[str, dict[str, Any]] = {}
    for trial in complete:
        epochs = trial.budget.get("epochs", 0)
        row = found.setdefault(trial.key, {"epochs": 0, "trainings": 0, "images": None})
        if epochs > row["epochs"]:
            row |= {"epochs": epochs, "trainings": 0}
        if epochs == row["epochs"]:
            row["trainings"] += 1
            row["images"] = trial.measurement.get("images")
    return found


def _tied(*two: Mapping[str, Any]) -> bool | None:
    """Whether the images do not tell two accuracies apart; None where they are not known.

    For what was trained once; the coefficient stage says itself which candidates are tied.
    """
    if not all(row.get("accuracy") is not None and row.get("images") for row in two):
        return None
    first, second = ((row["accuracy"], row["images"]) for row in two)
    return not unpaired_difference(first, second).told_apart


def family(run: Run) -> pd.DataFrame:
    """The members in the recipe's order, with their accuracy on the test images."""
    rows = [
        {name: member.get(name) for name in _FAMILY}
        | dict(member.get("cost", {}))
        | interval(member.get("accuracy"), member.get("images"))
        for member in (run.family or {}).get("members", ())
    ]
    return frame(rows, _FAMILY)


def rivals(run: Run, trials: pd.DataFrame) -> pd.DataFrame:
    """What others would have made, trained as the family: by rule, at the MACs of a member.

    `difference` is its accuracy less the member's; `told_apart` whether the images tell the two
    accuracies apart (see `_tied`). Presets have no member beside them, and are never told apart.
    """
    members = {str(row["name"]): row for row in rows(family(run))}
    found = []
    for row in rows(trials[(trials["study"] == "rivals") & (trials["state"] == "complete")]):
        rule, _, name = row["job"].partition(" ")
        member = members.get(name, {})
        known = member.get("accuracy") is not None
        found.append(
            row
            | {
                "rule": rule,
                "member": name or None,
                "difference": row["accuracy"] - member["accuracy"] if known else None,
                "told_apart": _tied(row, member) is False,
            }
        )
    return frame(found, _RIVALS)


def latency(run: Run) -> pd.DataFrame:
    """How long the members took to answer, by backend, device and batch, as far as it was measured.

    Raises `InvalidInput` where `family/latency.csv` is not the table that it is to be.
    """
    import pandas as pd

    path = run.path / "family" / "latency.csv"
    if not path.is_file():
        return frame([], _LATENCY)
    try:
        return frame(rows(pd.read_csv(path)[_LATENCY]), _LATENCY)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(
            f"{path}: cannot read latencies ({error}); measure them again: phiscale latency"
        ) from None


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
    return frame(rows, ["network", *_STAGES])


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
        "start_kernel": block.start_kernel or None,
        "kernel": block.kernel or None,
        "stride": block.stride,
        "expansion": stage.expansion if block.operator.expands else None,
        "se": stage.se.ratio if stage.se and block.squeeze_channels else 0.0,
        "skip": str(stage.skip),
        "repeats": stage.repeats,
    }
