"""What a race knows of its answer, as the JSON that coefficients.json carries beside it."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from scaling.coefficient_result import CoefficientResult
from scaling.grid import GridCandidate
from scaling.race import Race, TrainingResult
from scaling.response_surface import Surface, SurfacePoint, fit_surface


def answer(race: Race, *, phi: float, factor: float) -> CoefficientResult:
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
    return CoefficientResult(
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


def _guest(race: Race, winner: GridCandidate) -> dict[str, Any] | None:
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


def _point(training: TrainingResult, phi: float, factor: float, block: int) -> SurfacePoint:
    """The training on the surface; a candidate of several names lies in the middle of them."""
    names = training.candidate.names
    growth = math.log(training.candidate.realised_ratio) / (phi * math.log(factor))
    return SurfacePoint(
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
