"""Which member of a family to take: the cheapest one that no other is shown to beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from reports.formatting import count, half_width, percent, points
from reports.predictions import right
from reports.schema import frame, names, rows
from reports.statistics import LEVEL, AccuracyDifference, paired_difference, unpaired_difference

if TYPE_CHECKING:
    import pandas as pd

_COMPARISONS = names("member other difference low high p_value told_apart images macs_ratio")

#: The difference of accuracy for which the number of test images that it takes is stated.
_WORTHWHILE = 0.005
#: The gain which, if it is possible, makes a member not suffice (assumed).
_MATTERS = 0.02


def compare_members(
    family: pd.DataFrame, answers: pd.DataFrame, metric: str = "top1"
) -> pd.DataFrame:
    """A row for each pair of members, compared on the test images; `member` is the cheaper one.

    `difference` is the accuracy of `other` minus that of `member`. The comparisons of one member
    with all others hold together at 95 %, so the truly most accurate member is called worse than
    another with at most 5 % error. Members are compared image by image if their answers are known.
    `family` is `tables.family`, `answers` is `predictions.answers`.
    """
    members = _measured(family)
    compared = PairedAnswers(answers, metric, len(members) - 1)
    found = []
    for one, other in combinations(members, 2):
        result = compared(one, other)
        if result is not None:
            found.append(
                {"member": one["name"], "other": other["name"]}
                | {"images": min(one["images"], other["images"])}
                | result._asdict()
                | {"macs_ratio": other["macs"] / one["macs"]}
            )
    return frame(found, _COMPARISONS)


class PairedAnswers:
    """Compares networks, rows with name, accuracy and images, image by image by their `answers`.

    Of a network without answers, the accuracy alone is compared.
    """

    def __init__(self, answers: pd.DataFrame, metric: str, comparisons: int) -> None:
        self._known = answers.assign(right=right(answers)).pivot(
            index="image", columns="member", values="right"
        )
        labels = answers.drop_duplicates("image").set_index("image")["label"]
        codes = labels.reindex(self._known.index).astype("category").cat.codes.to_numpy()
        self._classes = codes if metric == "balanced" else None
        self._comparisons = comparisons

    def __call__(
        self, one: Mapping[str, Any], other: Mapping[str, Any]
    ) -> AccuracyDifference | None:
        """The accuracy of `other` minus that of `one`; None if nothing is known of one of them."""
        both, known = [one["name"], other["name"]], self._known
        if set(both) <= set(known.columns) and not known[both].isna().any(axis=None):
            first, second = (known[name].to_numpy(bool) for name in both)
            return paired_difference(
                first, second, classes=self._classes, comparisons=self._comparisons
            )
        if not (one["images"] and other["images"]):
            return None
        measured = [(each["accuracy"], each["images"]) for each in (one, other)]
        return unpaired_difference(*measured, comparisons=self._comparisons)


@dataclass(frozen=True)
class Recommendation:
    """The member to take, and why.

    `headline` states the decision, `alternatives` what more and fewer MACs would change, and
    `undecided` what the test images cannot show. `tied` names the members that are not told apart
    from `member`.
    """

    member: str
    tied: tuple[str, ...]
    headline: str
    alternatives: tuple[str, ...]
    undecided: tuple[str, ...]


def recommend(family: pd.DataFrame, comparisons: pd.DataFrame) -> Recommendation | None:
    """Recommends the cheapest member that no other is shown to beat; None without members.

    `comparisons` comes from `compare_members`.
    """
    members = _measured(family)
    if not members:
        return None
    pairs = [*rows(comparisons), *map(_reversed, rows(comparisons))]
    beaten = {pair["member"] for pair in pairs if pair["told_apart"] and pair["difference"] > 0}
    best = max(members, key=lambda member: member["accuracy"])
    chosen = next((member for member in members if member["name"] not in beaten), best)
    own = [pair for pair in pairs if pair["member"] == chosen["name"]]
    before = [member["name"] for member in members[: members.index(chosen)]]
    cheaper = [pair for pair in own if pair["other"] in before]
    larger = [pair for pair in own if pair["other"] not in before]
    return Recommendation(
        member=str(chosen["name"]),
        tied=tuple(str(pair["other"]) for pair in own if not pair["told_apart"]),
        headline=_headline(chosen, cheaper, larger),
        alternatives=tuple(_alternatives(cheaper, larger)),
        undecided=tuple(_undecided(chosen, own)),
    )


def _measured(family: pd.DataFrame) -> list[dict[str, Any]]:
    """The members with an accuracy, by rising MACs."""
    return rows(family[family["accuracy"].notna()].sort_values("macs", kind="stable"))


def _reversed(pair: Mapping[str, Any]) -> dict[str, Any]:
    """The same comparison from the view of the other member."""
    return dict(pair) | {
        "member": pair["other"],
        "other": pair["member"],
        "difference": -pair["difference"],
        "low": -pair["high"],
        "high": -pair["low"],
        "macs_ratio": 1 / pair["macs_ratio"],
    }


def _headline(
    chosen: Mapping[str, Any], cheaper: list[dict[str, Any]], larger: list[dict[str, Any]]
) -> str:
    name = str(chosen["name"]).upper()
    spread = f" {half_width(chosen['low'], chosen['high'])}" if chosen["low"] is not None else ""
    reached = f"{percent(chosen['accuracy'])}{spread} with {count(chosen['macs'])} MACs"
    if not cheaper and not larger:
        return f"{name} reaches {reached}."
    decision = f"{name} suffices" if not cheaper else f"Take {name}"
    if not larger:
        return f"{decision} ({reached}): it is more accurate than every cheaper member."
    last = larger[-1]
    times = f"{last['macs_ratio']:.2g} times the MACs"
    if last["told_apart"]:  # and `chosen` is unbeaten: accuracy falls
        fall = points(abs(last["difference"]))
        return f"{decision} ({reached}): {last['other'].upper()}, {times}, is {fall} less accurate."
    nothing = f"{times} brought nothing that {last['images']:,} test images can show"
    possible = max(pair["high"] for pair in larger)
    if possible > _MATTERS:
        excluded = f"up to {points(possible)} more are not excluded"
        return f"Start with {name} ({reached}): {nothing}; {excluded}."
    return f"{decision} ({reached}): {nothing}."


def _alternatives(cheaper: list[dict[str, Any]], larger: list[dict[str, Any]]) -> Iterator[str]:
    for what, some in (("More MACs would buy", larger), ("Fewer MACs would cost", cheaper)):
        if some:
            yield f"{what}: {', '.join(map(_interval, some))}."


def _interval(pair: Mapping[str, Any]) -> str:
    low, high = (points(pair[name], unit=False) for name in ("low", "high"))
    change = f"{points(pair['difference'], signed=True)} ({low} to {high})"
    return f"{change} with {pair['other'].upper()}, {pair['macs_ratio']:.2g} times the MACs"


def _undecided(chosen: Mapping[str, Any], own: list[dict[str, Any]]) -> Iterator[str]:
    name = str(chosen["name"]).upper()
    open_ = [pair for pair in own if not pair["told_apart"]]
    if open_:
        widest = max((pair["high"] - pair["low"]) / 2 for pair in open_)
        needed = open_[0]["images"] * (widest / _WORTHWHILE) ** 2
        yield (
            f"Undecided: {open_[0]['images']:,} test images do not tell {name} from "
            f"{', '.join(pair['other'].upper() for pair in open_)}. To tell half a point would "
            f"take about {count(needed)} images."
        )
    if own:
        test = "paired, on the same images; " if own[0]["p_value"] is not None else ""
        yield (
            f"Intervals: {100 * LEVEL:g} % for the comparisons of {name} with all others together "
            f"({test}the choice of images alone). Each member is one training run; what another "
            "seed would change is not measured."
        )
