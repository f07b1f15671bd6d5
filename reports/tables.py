"""What a run has measured, as data frames; each of them is written as a CSV.

`reports.schema` says what each column means and in which unit; the figures and the page draw these
frames. The frame of a stage that has not begun is empty, but has its columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reports import predictions, recommendation, search_tables, trial_tables
from reports.load import Run, Trial, readable
from reports.schema import frame, names, rows
from reports.statistics import interval, unpaired_difference
from scaling.coefficients import Coefficients
from scaling.rules import compound
from space.architecture import Architecture, Block, Stage
from space.cost import parts

if TYPE_CHECKING:
    import pandas as pd

_COEFFICIENTS = names(
    "alpha beta gamma depth_share width_share resolution_share nominal_product realised_ratio "
    "accuracy low high images epochs training_runs macs params activations combinations winner "
    "tied key"
)
_FAMILY = names(
    "name phi depth width resolution macs params activations accuracy low high images "
    "train_seconds key"
)
_EIGHT_BITS = names("int8_accuracy float32_accuracy")
_RESOLUTIONS = names(
    "member resolution_factor resolution macs held_out_accuracy accuracy low high images chosen"
)
_GROWTH = names("member rule target macs resolution accuracy seeds shipped")
_STAGES = names(
    "stage operator start_kernel kernel stride expansion se skip channels repeats resolution macs "
    "params activations"
)
_RIVALS = names(
    "rule member difference difference_low difference_high p_value told_apart accuracy low high "
    "images macs params activations resolution epochs seconds key"
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
    test_resolutions: pd.DataFrame
    growth: pd.DataFrame
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
    members = family(run)
    answers = predictions.answers(run)
    mapped = predictions.mapped(answers, predictions.pictures(run.path))
    return Tables(
        trials=every,
        pareto=trial_tables.pareto(every),
        best=trial_tables.best(every),
        search_progress=trial_tables.progress(every),
        coefficients=coefficients(run),
        family=members,
        test_resolutions=test_resolutions(run),
        growth=growth(run),
        stages=stages(networks(run)),
        counts=trial_tables.counts(run),
        times=trial_tables.times(run),
        failures=trial_tables.failures(every),
        learning_curves=search_tables.learning_curves(run),
        choices=search_tables.choices(run),
        importance=search_tables.importance(run),
        ranks=search_tables.ranks(run),
        member_comparisons=recommendation.compare_members(members, answers, run.metric),
        rivals=rivals(run, members, every, answers),
        latency=latency(run),
        class_accuracy=predictions.class_accuracy(answers),
        confusions=predictions.confusions(answers),
        confused=predictions.with_files(run, predictions.confused(answers)),
        activation_maps=predictions.with_files(run, mapped),
    )


def coefficients(run: Run) -> pd.DataFrame:
    """The candidates of the coefficient grid, the longest trained and most accurate first.

    All combinations of α, β, γ that round to the same network share a row.
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
    shares = {}
    if candidate["nominal_product"] > 1:
        shares = compound(Coefficients(*own)).shares._asdict()
    return {
        **{name: candidate.get(name) for name in _COEFFICIENTS},
        **candidate.get("cost", {}),
        **{f"{name}_share": share for name, share in shares.items()},
        "combinations": "; ".join(" × ".join(f"{v:g}" for v in names) for names in combinations),
        "winner": chosen == own or chosen in combinations,
    }


def _trained(trials: Iterable[Trial]) -> dict[str, dict[str, Any]]:
    """For each network, the number of its longest training runs, their epochs and their images."""
    found: dict[str, dict[str, Any]] = {}
    for trial in trials:
        if trial.state == "complete":
            epochs = trial.budget.get("epochs", 0)
            row = found.setdefault(trial.key, {"epochs": 0, "training_runs": 0, "images": None})
            if epochs > row["epochs"]:
                row |= {"epochs": epochs, "training_runs": 0}
            if epochs == row["epochs"]:
                row["training_runs"] += 1
                row["images"] = trial.measurement.get("images")
    return found


def _tied(*two: Mapping[str, Any]) -> bool | None:
    """Whether the images do not tell two accuracies of single training runs apart.

    None if an accuracy or its number of images is unknown.
    """
    if not all(row.get("accuracy") is not None and row.get("images") for row in two):
        return None
    first, second = ((row["accuracy"], row["images"]) for row in two)
    return not unpaired_difference(first, second).told_apart


def family(run: Run) -> pd.DataFrame:
    """The members in the recipe's order, with their accuracy on the test images."""
    built = {trial.key: trial.architecture for trial in run.study("family")}
    members = (run.family or {}).get("members", ())
    rows = [
        {name: member.get(name) for name in _FAMILY}
        | dict(member.get("cost", {}))
        | interval(member.get("accuracy"), member.get("images"))
        | trial_tables.on_device(run, built.get(member.get("key", ""), {}))
        | _eight_bits(member)
        for member in members
    ]
    more = trial_tables.DEVICE if run.device else []
    return frame(rows, [*_FAMILY, *more, *(_EIGHT_BITS if any(map(_eight_bits, members)) else [])])


def _eight_bits(member: Mapping[str, Any]) -> dict[str, float]:
    """A member's `_EIGHT_BITS`; empty if it was not measured in 8 bits."""
    measured = member.get("int8", {}).get("onnx")
    if not measured:
        return {}
    return {"int8_accuracy": measured["accuracy"], "float32_accuracy": measured["full_accuracy"]}


def test_resolutions(run: Run) -> pd.DataFrame:
    """Each member's weights at the resolutions that they were tested at."""
    found = [
        tested | {"member": member["name"]} | interval(tested["accuracy"], member.get("images"))
        for member in (run.family or {}).get("members", ())
        for tested in member.get("resolutions", ())
    ]
    return frame(found, _RESOLUTIONS)


def growth(run: Run) -> pd.DataFrame:
    """What learned growth found for each target and what compound scaling gives, compared."""
    found = [
        {"member": target["name"], "rule": rule, "target": target["target"]}
        | {"macs": network["cost"]["macs"], "resolution": network["resolution"]}
        | {"seeds": len(network["accuracies"]), "shipped": target["shipped"] == rule}
        | ({"accuracy": fmean(network["accuracies"])} if network["accuracies"] else {})
        for target in (run.growth or {}).get("targets", ())
        for rule, network in ((rule, target[rule]) for rule in ("learned", "compound"))
    ]
    return frame(found, _GROWTH)


def rivals(
    run: Run, members: pd.DataFrame, trials: pd.DataFrame, answers: pd.DataFrame
) -> pd.DataFrame:
    """Networks of others at the MACs of a member, trained like the family.

    `difference` is the rival's accuracy minus the member's, with its interval; the comparisons of a
    member with all of its rivals hold together at 95 %. `members` is `family`, `trials` is
    `trial_tables.trials`, `answers` is `predictions.answers`.
    """
    import pandas as pd

    by_name = {row["name"]: row for row in rows(members) if row["accuracy"] is not None}
    complete = trials[(trials["study"] == "rivals") & (trials["state"] == "complete")]
    planned = run.manifest.get("rivals")  # of a family that was planned anew, those of this plan
    made = [
        row | dict(zip(("rule", "member"), row["job"].rsplit(" ", 1), strict=True))
        for row in rows(complete.drop_duplicates(["job", "key"], keep="last"))
        if planned is None or planned.get(row["job"]) == row["key"]
    ]
    made = [*{row["job"]: row for row in made}.values()]
    beside = Counter(row["member"] for row in made)
    every = pd.concat([answers, predictions.answers(run, rivals=True)], ignore_index=True)
    found = []
    for row in made:
        compared = recommendation.PairedAnswers(every, run.metric, beside[row["member"]])
        member = by_name.get(row["member"])
        result = member and compared(member, row | {"name": row["job"]})
        if result:
            row |= {"difference_low": result.low, "difference_high": result.high}
            row |= {key: getattr(result, key) for key in ("difference", "p_value", "told_apart")}
        found.append(row)
    return frame(found, _RIVALS)


def latency(run: Run) -> pd.DataFrame:
    """The members' latencies by backend, device and batch, as far as they were measured.

    Raises `InvalidInput` if `family/latency.csv` cannot be read.
    """
    import pandas as pd

    path = run.path / "family" / "latency.csv"
    if not path.is_file():
        return frame([], _LATENCY)
    with readable(path, "latencies", "measure them again: phiscale latency"):
        return frame(rows(pd.read_csv(path)[_LATENCY]), _LATENCY)


def networks(run: Run) -> dict[str, Architecture]:
    """The networks that a run has found, by name: the baseline, then the family's members.

    A member may take more or fewer pixels than its training run did.
    """
    found = {}
    if run.baseline and run.baseline.get("architecture"):
        found["baseline"] = run.baseline["architecture"]
    built = {trial.key: trial.architecture for trial in run.study("family") if trial.architecture}
    for member in (run.family or {}).get("members", ()):
        if network := built.get(member.get("key")) or _resized(run, member):
            found[str(member["name"])] = network
    return {
        name: Architecture.from_dict(data, source=f"{run.path}: {name}")
        for name, data in found.items()
    }


def _resized(run: Run, member: Mapping[str, Any]) -> dict[str, Any]:
    """The network of a member's training run at the member's resolution; empty if it is not."""
    for trial in run.study("family"):
        if trial.job == member.get("name") and trial.architecture:
            data = {**trial.architecture, "resolution": member["resolution"]}
            if Architecture.from_dict(data, source=f"{run.path}: {trial.job}").key == member["key"]:
                return data
    return {}


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
    stages = zip(architecture.stages, architecture.blocks(), strict=True)
    named: list[dict[str, Any]] = [
        {"stage": "stem", "operator": "conv", "kernel": stem.kernel, "stride": stem.stride},
        *(
            {"stage": str(n)} | _stage_row(stage, blocks[0])
            for n, (stage, blocks) in enumerate(stages, 1)
        ),
        {
            "stage": "head",
            "operator": "conv" if head.channels else "linear",
            "channels": architecture.out_channels,
        },
    ]
    return [
        {"channels": part.channels, "resolution": part.resolution} | part.cost._asdict() | row
        for row, part in zip(named, parts(architecture), strict=True)
    ]


def _stage_row(stage: Stage, block: Block) -> dict[str, Any]:
    """The choices of a stage; those without effect on its blocks are None."""
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
