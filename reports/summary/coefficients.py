"""Sentences about the coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reports.formatting import number, percent
from reports.load import Run
from reports.schema import rows
from reports.summary.wording import images_of

if TYPE_CHECKING:
    import pandas as pd


def coefficients(run: Run, candidates: pd.DataFrame) -> str:
    """The answer, and what it was chosen from."""
    chosen = run.coefficients
    if chosen is None:
        return ""
    letters = (("α", "alpha", "depth"), ("β", "beta", "width"), ("γ", "gamma", "resolution"))
    names = ", ".join(f"{sign} {chosen[name]:.4g} ({what})" for sign, name, what in letters)
    cost = (
        f"The product α·β²·γ² is {chosen['nominal_product']:.3f}; the scaled network really costs "
        f"{chosen['realised_ratio']:.2f} times the baseline's MACs."
    )
    if chosen.get("pinned"):
        return f"The recipe gives {names}; nothing was searched. {cost}"
    trained = sum(row["accuracy"] is not None for row in rows(candidates))
    return f"Of {number(trained, 'network')} on the grid, the most accurate has {names}. {cost}"


def evidence(found: Mapping[str, Any]) -> Iterator[str]:
    """What a race knows beside its answer."""
    race, surface, guest = (found.get(name) for name in ("race", "surface", "guest"))
    if race:
        rungs = ", then ".join(_rung(rung) for rung in race["rungs"])
        yield (
            f"By successive halving: {rungs}. That took {percent(race['part_of_full_grid'])} of "
            "the training that the full grid would have taken."
        )
        yield _tied(race)
    if surface:
        optimum = ", ".join(
            f"{sign} {surface[name]['value']:.3g} "
            f"({surface[name]['interval'][0]:.3g} to {surface[name]['interval'][1]:.3g})"
            for sign, name in (("α", "alpha"), ("β", "beta"), ("γ", "gamma"))
        )
        yield (
            f"A smooth surface through all trainings has its optimum at {optimum}; in brackets, "
            f"{100 * surface['level']:g} % intervals."
        )
    if guest and guest.get("difference") is not None:
        points = 100 * guest["difference"]
        side = "above" if points >= 0 else "below"
        told = "" if guest["told_apart"] else ", which is not told apart"
        yield (
            f"The published coefficients ({guest['name']}) on the same footing: "
            f"{percent(guest['accuracy'])}, {abs(points):.1f} points {side} the winner{told}, at "
            f"{guest['realised_ratio']:.2f} times the baseline's MACs."
        )
    if other := found.get("comparison"):
        yield _comparison(other)


def _tied(race: Mapping[str, Any]) -> str:
    """The candidates that the race cannot tell apart, the winner among them."""
    level = f"at the level of {100 * race['level']:g} %"
    if len(race["tied"]) == 1:
        return f"The winner is told apart from the other finalists {level}."
    gap = f", by {100 * race['gap']:.1f} points or less" if race["gap"] is not None else ""
    return f"Not told apart from the best {level}{gap}: {', '.join(race['tied'])}."


def _comparison(other: Mapping[str, Any]) -> str:
    """Whether the answer carries over to another φ."""
    letters = (("α", "alpha"), ("β", "beta"), ("γ", "gamma"))
    names = ", ".join(f"{sign} {other[name]:.4g}" for sign, name in letters)
    rank = other["correlation"]
    ranked = f"; Spearman's correlation of the accuracies is {rank:.2f}" if rank is not None else ""
    lost = other["regret"]
    regret = (
        f", and the larger grid would lose {100 * lost:.1f} points with the smaller one's winner"
        if lost is not None
        else ""
    )
    return (
        f"The same grid at φ = {other['phi']:g}, of {number(other['shared'], 'combination')}, "
        f"chose {names}{ranked}{regret}."
    )


def _rung(rung: Mapping[str, int]) -> str:
    seeds = f", each with {number(rung['seeds'], 'seed')}" if rung["seeds"] > 1 else ""
    return f"{rung['entrants']} for {number(rung['epochs'], 'epoch')}{seeds}"


def candidates(candidates: pd.DataFrame) -> str:
    """Which candidates cannot be told from the winner."""
    found = rows(candidates)
    tied = sum(bool(row["tied"]) and not row["winner"] for row in found)
    images = images_of(candidates)
    if not images:
        return ""
    amount = f"{images:,} held-out images"
    told = (
        f"By {amount}, {number(tied, 'other candidate')} cannot be told apart from the winner "
        "(marked at the left)."
        if tied
        else f"By {amount}, the winner is told apart from every other candidate."
    )
    return f"{told} Bars: 95 % intervals; the shade is the winner's."
