"""Sentences about the family and its rivals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reports.formatting import plural, points
from reports.load import Run
from reports.schema import rows
from reports.summary.wording import LETTERS
from space import device

if TYPE_CHECKING:
    import pandas as pd


def intervals(family: pd.DataFrame) -> str:
    """What ± means."""
    if family["low"].isna().all():
        return ""
    return (
        "± is half of the 95 % binomial (Wilson) interval. It covers the choice of test images, "
        "not the variation between training runs."
    )


def over_bounds(run: Run, family: pd.DataFrame) -> Iterator[str]:
    """The members that need more of the device than the search allowed the baseline."""
    if not run.device:
        return
    objective = run.recipe["objective"]
    for member in rows(family.dropna(subset=["sram", "flash"])):
        for clause in device.over_bounds(member, objective["bounds"], objective["overhead"]):
            yield f"In {run.device}, {member['name'].upper()} needs {clause}."


def members(run: Run) -> str:
    """How the members grow."""
    values = (run.family or {}).get("coefficients") or {}
    if not values:
        return ""
    powers = " · ".join(
        f"{what} × {values[name]:.4g}ᵠ" for _, name, what in LETTERS if name in values
    )
    return f"Each member is the baseline scaled by one φ: {powers}, rounded to whole blocks."


def interval(target: Mapping[str, Any]) -> str:
    """The difference between learned growth and compound scaling in points, with its interval."""
    if not target["learned"]["accuracies"]:
        return "the same" if target["half_width"] == 0 else "not compared"
    half = target["half_width"]
    return points(target["difference"], unit=False) + (
        "" if half is None else f" ± {100 * half:.1f}"
    )


def growth(found: Mapping[str, Any] | None) -> Iterator[str]:
    """What learned growth came to beside compound scaling, and what shrank first."""
    if not found:
        return
    table = "table" in found
    runs = f"{found['runs']:,} {plural(found['runs'], 'look-up' if table else 'training run')}"
    where = "" if table else " on held-out images"
    better = [each for each in found["targets"] if each["shipped"] == "learned"]
    names = ", ".join(str(each["name"]).upper() for each in better) or "no member"
    rest = f"; compound scaling makes {'the others' if better else 'all of them'}"
    told = ", ".join(f"{str(each['name']).upper()} {interval(each)}" for each in found["targets"])
    yield (
        f"Learned growth took {runs}{where}. In points of accuracy over compound scaling (paired "
        f"seeds, 95 %): {told}. It is shown to be better at {names}"
        f"{'' if len(better) == len(found['targets']) else rest}."
    )
    smaller = [
        each
        for each in found["targets"]
        if each["learned"].get("shares") and each["learned"]["factor"] < 1
    ]
    if smaller:
        first = max(smaller, key=lambda each: float(each["learned"]["factor"]))
        shares = sorted(first["learned"]["shares"].items(), key=lambda item: -item[1])
        parts = ", ".join(f"{name} {round(100 * share)} %" for name, share in shares)
        yield (
            f"Shrinking to {first['learned']['factor']:.2f} × the baseline's MACs, the learned "
            f"network gave way in {shares[0][0]} first; parts of the change: {parts}."
        )


#: Rivals in words; presets have their names.
_BY = {name: f"Growing by {name} alone" for name in ("depth", "width", "resolution")} | {
    "compound": "Growing by compound scaling",
    "fast": "Growing by pycls' fast scaling",
    "random": "Random networks of the space",
    "base": "The space's base network",
}


def rivals(run: Run, rivals: pd.DataFrame) -> Iterator[str]:
    """How each kind of rival does beside the members of as many MACs, in points of accuracy."""
    for rule, own in rivals.groupby("rule", sort=False):
        told = ", ".join(map(_beside, rows(own[own["difference"].notna()])))
        if told:
            yield f"{_BY.get(str(rule), str(rule))}: {told}, in points of accuracy."
    planned = run.manifest.get("rivals")
    for job, trial in {trial.job: trial for trial in run.study("rivals")}.items():
        if trial.state == "failed" and (planned is None or job in planned):
            yield f"Not compared: {job}, which failed ({trial.measurement.get('reason')})."
    if len(rivals) and run.recipe.get("family", {}).get("grow"):
        yield "Members grow from each other; rivals all begin where the smallest member does."


def _beside(row: Mapping[str, Any]) -> str:
    low, middle, high = (
        points(row[name], unit=False)
        for name in ("difference_low", "difference", "difference_high")
    )
    unclear = "" if row["told_apart"] else ", not told apart"
    return f"{middle} ({low} to {high}{unclear}) at {str(row['member']).upper()}'s MACs"
