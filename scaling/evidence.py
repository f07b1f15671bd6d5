"""What a race knows of its answer, as the JSON that coefficients.json carries beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import correlation, fmean
from typing import Any

from scaling.coefficients import Answer, Candidate, Coefficients
from scaling.race import Race, Training
from scaling.statistics import Point, Surface, fit_surface


def answer(race: Race, *, phi: float, factor: float) -> Answer:
    """The answer of a race that has ended, with its evidence.

    `race`: the rungs, the level, the gap below which candidates are tied, the tied ones, and which
    part of the full grid's training it took. `surface`: the optimum of the smoothed surface, with
    intervals; null where too few trainings tell. `guest`: that candidate's accuracy and how far it
    is from the winner. `trainings`: every result. Raises `AllFailed` where no candidate is left.
    """
    winner, comparison = race.winner, race.comparison
    evidence = {
        "race": {
            "level": race.level,
            "rungs": [
                {"entrants": rung.entrants, "epochs": rung.epochs, "seeds": rung.seeds}
                for rung in race.rungs
            ],
            "gap": _finite(comparison.gap) if comparison else None,
            "deviation": _finite(comparison.deviation) if comparison else None,
            "half_width": _finite(comparison.half_width) if comparison else None,
            "tied": [candidate.label for candidate in race.tied],
            "part_of_full_grid": race.part,
        },
        "surface": _surface(race, phi, factor),
        "guest": _guest(race, winner),
        "trainings": [
            {
                "name": each.candidate.label,
                "epochs": each.epochs,
                "seed": each.seed,
                "accuracy": each.accuracy,
            }
            for each in race.trainings
        ],
    }
    return Answer(
        chosen=winner,
        phi=phi,
        factor=factor,
        pinned=False,
        candidates=race.candidates,
        accuracies=tuple(race.mean(candidate) for candidate in race.candidates),
        evidence=evidence,
    )


def _finite(value: float) -> float | None:
    """JSON has no infinity: what one seed cannot tell is null."""
    return value if math.isfinite(value) else None


def _guest(race: Race, winner: Candidate) -> dict[str, Any] | None:
    if race.guest is None:
        return None
    own, best = race.mean(race.guest), race.mean(winner)
    difference = None if own is None or best is None else own - best
    gap = race.comparison.gap if race.comparison else math.inf
    return {
        "name": race.guest.label,
        "realised_ratio": race.guest.realised_ratio,
        "cost": race.guest.cost._asdict(),
        "accuracy": own,
        "difference": difference,
        "told_apart": None if difference is None else abs(difference) > gap,
    }


def _surface(race: Race, phi: float, factor: float) -> dict[str, Any] | None:
    blocks: dict[tuple[int, int], int] = {}
    points = [
        _point(each, phi, factor, blocks.setdefault((each.epochs, each.seed), len(blocks)))
        for each in race.trainings
        if each.accuracy is not None
    ]
    surface = fit_surface(points, race.level)
    return None if surface is None else _described(surface, factor)


def _point(training: Training, phi: float, factor: float, block: int) -> Point:
    """The training on the surface; a candidate of several names lies in the middle of them."""
    names = training.candidate.names
    growth = math.log(training.candidate.realised_ratio) / (phi * math.log(factor))
    return Point(
        depth=fmean(math.log(name.alpha) / math.log(name.nominal) for name in names),
        width=fmean(2 * math.log(name.beta) / math.log(name.nominal) for name in names),
        excess=growth - 1,
        block=block,
        accuracy=training.accuracy or 0.0,
    )


def _described(surface: Surface, factor: float) -> dict[str, Any]:
    """The surface's optimum as α, β, γ of the nominal product `factor`, each with its interval."""
    powers = dict(zip(("alpha", "beta", "gamma"), (1.0, 0.5, 0.5), strict=True))
    rows = zip(powers.items(), surface.shares, surface.intervals, strict=True)
    return {
        "level": surface.level,
        "deviation": surface.deviation,
        **{
            name: {
                "value": factor ** (share * power),
                "interval": [factor ** (end * power) for end in interval],
            }
            for (name, power), share, interval in rows
        },
    }


# ------------------------------------------------------------------------------ from small to large


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a cheap grid's answer does on a dearer one, of the `shared` combinations of both.

    `correlation` is Spearman's, of the accuracies. `regret` is how much accuracy the large grid
    loses by taking the small one's winner; None where it did not measure that.
    """

    shared: int
    correlation: float | None
    regret: float | None


def agreement(small: Answer, large: Answer) -> Agreement:
    """Whether the answer of a full grid around a small network holds around a large one.

    The paper searches at φ = 1 because larger is too dear (section 5.3); this says what is lost.
    """
    few, many = _by_name(small), _by_name(large)
    shared = sorted(few.keys() & many.keys())
    best = max(many.values(), default=None)
    taken = [many[name] for name in small.chosen.names if name in many]
    return Agreement(
        shared=len(shared),
        correlation=_spearman([few[name] for name in shared], [many[name] for name in shared]),
        regret=best - fmean(taken) if taken and best is not None else None,
    )


def compared(answer: Answer, other: Answer) -> Answer:
    """`answer` with what a full grid at another φ says of it, as `comparison`.

    `shared`, `correlation` and `regret` are those of `agreement`; `phi`, and α, β and γ as the
    other chose them.
    """
    small, large = sorted((answer, other), key=lambda each: each.phi)
    comparison = {
        "phi": other.phi,
        **asdict(other.chosen.coefficients),
        "candidates": len(other.candidates),
        **asdict(agreement(small, large)),
    }
    return replace(answer, evidence={**answer.evidence, "comparison": comparison})


def _by_name(answer: Answer) -> Mapping[Coefficients, float]:
    return {
        name: accuracy
        for candidate, accuracy in zip(answer.candidates, answer.accuracies, strict=True)
        if accuracy is not None
        for name in candidate.names
    }


def _spearman(first: list[float], second: list[float]) -> float | None:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return correlation(_ranks(first), _ranks(second))


def _ranks(values: list[float]) -> list[float]:
    """Ranks, of equals their mean."""
    return [
        (sum(other < value for other in values) + sum(other <= value for other in values)) / 2
        for value in values
    ]
