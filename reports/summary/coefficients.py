"""Sentences about the coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
        f"The product α·β²·γ² is {chosen['nominal_product']:.3f}; the scaled network "
        f"costs {chosen['realised_ratio']:.2f} times the baseline's MACs after rounding."
    )
    if chosen.get("pinned"):
        return f"The recipe gives {names}; nothing was searched. {cost}"
    trained = sum(row["accuracy"] is not None for row in rows(candidates))
    why = f" ({chosen['decision']})" if "decision" in chosen else ""
    return f"Of {number(trained, 'network')} on the grid, {names} is chosen{why}. {cost}"


def evidence(found: Mapping[str, Any]) -> Iterator[str]:
    """What is known beside the answer: the decision first, and among what it holds."""
    race, surface, guest = (found.get(name) for name in ("race", "surface", "guest"))
    if "decision" in found:
        yield f"Decision: {found['decision']}."
    if race:
        rungs = ", then ".join(_rung(rung) for rung in race["rungs"])
        yield (
            f"By successive halving: {rungs}. That took {percent(race['part_of_full_grid'])} of "
            "the training of the full grid."
        )
    if "finalists" in found:
        yield from _finalists(found)
    if surface:
        yield _surface(surface)
    if guest and guest.get("difference") is not None:
        points = 100 * guest["difference"]
        side = "above" if points >= 0 else "below"
        told = "" if guest["told_apart"] else ", which is not told apart"
        yield (
            f"The published coefficients ({guest['name']}), beside the chosen ones on seeds that "
            f"were not used to choose: {percent(guest['accuracy'])}, {abs(points):.1f} "
            f"± {100 * guest['half_width']:.1f} points {side} them{told}, at "
            f"{guest['realised_ratio']:.2f} times the baseline's MACs."
        )
    if design := found.get("design"):
        yield f"Before training: {design['sentence']}."
    if other := found.get("comparison"):
        yield _comparison(other)


def _finalists(found: Mapping[str, Any]) -> Iterator[str]:
    """Which finalists cannot be told from the best of them, and what else was the best."""
    finalists, raw = found["finalists"], found["raw_winner"]
    among, tied = finalists["tied_among"], finalists["tied"]
    if finalists["seeds"] > 1 and len(among) > 1:
        level = f"at the level of {100 * finalists['level']:g} %"
        dropped = ""
        if len(among) < len(found["candidates"]):
            dropped = " The other candidates were dropped after one seed, without statistics."
        if len(tied) == 1:
            yield f"Best of the finalists: told apart from {_others(among)} {level}.{dropped}"
        else:
            gap = finalists["gap"]
            by = f", by {100 * gap:.1f} points or less" if gap is not None else ""
            yield (
                f"Of {number(len(among), 'finalist')}, not told apart from the best {level}{by}: "
                f"{', '.join(tied)}.{dropped}"
            )
    yield f"Most accurate: {raw['name']}, {percent(raw['accuracy'])}."
    if process := found.get("gaussian_process"):
        best = process["best"]
        doubt = 100 * process["deviations"][best]
        yield (
            f"Highest expected at equal cost, by a Gaussian process through all training runs: "
            f"{best}, {100 * process['means'][best]:+.1f} ± {doubt:.1f} points from the mean of "
            "the candidates."
        )


def _others(among: Sequence[str]) -> str:
    return f"the other {number(len(among) - 1, 'finalist')}"


def _surface(surface: Mapping[str, Any]) -> str:
    """The optimum of the quadratic surface, where the surface fits."""
    letters = (("α", "alpha"), ("β", "beta"), ("γ", "gamma"))
    if not surface["fits"]:
        return (
            "A quadratic surface through all training runs does not fit (lack of fit: p = "
            f"{surface['lack_of_fit']:.2g}), so its optimum means nothing."
        )
    optimum = ", ".join(
        f"{sign} {surface[name]['value']:.3g} "
        f"({surface[name]['interval'][0]:.3g} to {surface[name]['interval'][1]:.3g})"
        for sign, name in letters
    )
    return (
        f"A quadratic surface through all training runs has its optimum at {optimum}; in brackets, "
        f"{100 * surface['level']:g} % intervals if the truth is a quadratic."
    )


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


def candidates(run: Run, candidates: pd.DataFrame) -> str:
    """What the marks and bars of the table mean: which candidates are tied, and by what."""
    found = rows(candidates)
    tied = sum(bool(row["tied"]) and not row["winner"] for row in found)
    images = images_of(candidates)
    if not images:
        return ""
    bars = (
        f"Bars are 95 % intervals by {images:,} held-out images; the shaded band is the chosen's."
    )
    finalists = (run.coefficients or {}).get("finalists")
    if finalists and finalists["seeds"] > 1:
        tied = len(finalists["tied"])
        return (
            f"Marked at the left: the {number(tied, 'finalist')} left by the comparison over "
            f"paired seeds. {bars}"
        )
    amount = f"{images:,} held-out images"
    told = (
        f"{amount} do not tell {number(tied, 'other candidate')} apart from the winner "
        "(marked at the left)."
        if tied
        else f"{amount} tell the winner apart from every other candidate."
    )
    return f"{told} {bars}"
