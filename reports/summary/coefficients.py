"""Sentences about the coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reports.formatting import number, percent
from reports.load import Run
from reports.schema import rows
from reports.summary.wording import LETTERS, images_of, letters, own_runs_agree, seeds_agree
from scaling.coefficients import Coefficients

if TYPE_CHECKING:
    import pandas as pd


def coefficients(run: Run, candidates: pd.DataFrame) -> str:
    """The chosen coefficients, and what they were chosen from."""
    chosen = run.coefficients
    if chosen is None:
        return ""
    names = ", ".join(f"{sign} {chosen[name]:.4g} ({what})" for sign, name, what in LETTERS)
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
    """What supports the choice: the decision, the race, the finalists, other methods."""
    race, surface, guest = (found.get(name) for name in ("race", "surface", "guest"))
    if "decision" in found:
        yield f"Decision: {found['decision']}."
    if elastic := found.get("elastic"):
        yield _elastic(elastic)
        if agreed := elastic.get("agreement"):
            yield seeds_agree(agreed)
        yield from _own_runs(elastic["accuracies"], found["candidates"])
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
        side = "above" if guest["difference"] >= 0 else "below"
        told = "" if guest["told_apart"] else ", which is not told apart"
        yield (
            f"The published coefficients ({guest['name']}), beside the chosen ones on seeds that "
            f"were not used to choose: {percent(guest['accuracy'])}, "
            f"{100 * abs(guest['difference']):.1f} ± {100 * guest['half_width']:.1f} points {side} "
            f"them{told}, at {guest['realised_ratio']:.2f} times the baseline's MACs."
        )
    if design := found.get("design"):
        yield f"Before training: {design['sentence']}."
    if other := found.get("comparison"):
        yield _comparison(other)


def _elastic(found: Mapping[str, Any]) -> str:
    """What elastic networks measured before the finalists were trained."""
    ranges = ", ".join(
        f"{sign} {low:.4g} – {high:.4g}"
        for sign, name, _ in LETTERS
        for low, high in [found["interval"][name]]
    )
    return (
        f"{number(len(found['accuracies']), 'candidate').capitalize()} were measured as parts of "
        f"{number(found['seeds'], 'elastic network')}, whose best ones lie within {ranges}. The "
        "best on average were trained by themselves."
    )


def _own_runs(
    parts: Mapping[str, Sequence[float | None]], candidates: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """How far the order of the parts may be trusted, by the candidates that were trained."""
    alone = {
        str(Coefficients(*(each[name] for _, name, _ in LETTERS))): each["accuracy"]
        for each in candidates
    }
    pairs = [
        (fmean(each or 0.0 for each in seeds), accuracy)
        for name, seeds in parts.items()
        if (accuracy := alone.get(name)) is not None and None not in seeds
    ]
    if len(pairs) > 1:
        yield own_runs_agree(pairs)


def _finalists(found: Mapping[str, Any]) -> Iterator[str]:
    """Which finalists are not told apart from the best of them, and other kinds of best."""
    finalists, raw = found["finalists"], found["raw_winner"]
    among, tied = finalists["tied_among"], finalists["tied"]
    if finalists["seeds"] > 1 and len(among) > 1:
        level = f"at the level of {100 * finalists['level']:g} %"
        dropped = ""
        if len(among) < len(found["candidates"]):
            dropped = " The other candidates were dropped after one seed, without statistics."
        if len(tied) == 1:
            others = f"the other {number(len(among) - 1, 'finalist')}"
            yield f"Best of the finalists: told apart from {others} {level}.{dropped}"
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
        ahead, doubt = 100 * process["means"][best], 100 * process["deviations"][best]
        yield (
            "Highest expected at equal cost, by a Gaussian process through all training runs: "
            f"{best}, {ahead:+.1f} ± {doubt:.1f} points from the mean of the candidates."
        )


def _surface(surface: Mapping[str, Any]) -> str:
    """The optimum of the quadratic surface, if the surface fits."""
    if not surface["fits"]:
        return (
            "A quadratic surface through all training runs does not fit (lack of fit: p = "
            f"{surface['lack_of_fit']:.2g}), so its optimum means nothing."
        )
    optimum = ", ".join(
        f"{sign} {surface[name]['value']:.3g} "
        f"({surface[name]['interval'][0]:.3g} to {surface[name]['interval'][1]:.3g})"
        for sign, name, _ in LETTERS
    )
    return (
        f"A quadratic surface through all training runs has its optimum at {optimum}; in brackets, "
        f"{100 * surface['level']:g} % intervals if the truth is a quadratic."
    )


def _comparison(other: Mapping[str, Any]) -> str:
    """Whether the choice carries over to another φ."""
    combinations = number(other["shared"], "combination")
    told = f"The same grid at φ = {other['phi']:g}, of {combinations}, chose {letters(other)}"
    if (rank := other["correlation"]) is not None:
        told += f"; Spearman's correlation of the accuracies is {rank:.2f}"
    if (lost := other["regret"]) is not None:
        points = f"{100 * lost:.1f} points"
        told += f", and the larger grid would lose {points} with the smaller one's winner"
    return f"{told}."


def _rung(rung: Mapping[str, int]) -> str:
    seeds = f", each with {number(rung['seeds'], 'seed')}" if rung["seeds"] > 1 else ""
    return f"{rung['entrants']} for {number(rung['epochs'], 'epoch')}{seeds}"


def candidates(run: Run, candidates: pd.DataFrame) -> str:
    """What the marks and bars of the table of candidates mean."""
    count = images_of(candidates)
    if not count:
        return ""
    images = f"{count:,} held-out images"
    bars = f"Bars are 95 % intervals by {images}; the shaded band is the chosen's."
    finalists = (run.coefficients or {}).get("finalists")
    if finalists and finalists["seeds"] > 1:
        tied = number(len(finalists["tied"]), "finalist")
        return f"Marked at the left: the {tied} left by the comparison over paired seeds. {bars}"
    others = sum(bool(row["tied"]) and not row["winner"] for row in rows(candidates))
    if not others:
        return f"{images} tell the winner apart from every other candidate. {bars}"
    told = f"{images} do not tell {number(others, 'other candidate')} apart from the winner"
    return f"{told} (marked at the left). {bars}"
