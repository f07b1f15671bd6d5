"""What heats found, as the result of the coefficient stage with all that is known of it."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from scaling.coefficient_result import CoefficientResult
from scaling.heats import CONFIRMATION, Heats
from scaling.race import Race
from scaling.refine import Refine
from scaling.response_surface import Surface, fit_surface, points_of


def result(heats: Heats, *, phi: float, factor: float) -> CoefficientResult:
    """The result of heats that have ended, with its evidence.

    `finalists`: which of them cannot be told from the best of them, and by which gaps. `race`: its
    rungs and which part of the full grid's training it took. `raw_winner`: the most accurate
    finalist; `gaussian_process`: what every candidate is expected to be worth at equal cost.
    `surface`: the optimum of a quadratic surface; null where too few candidates tell. `guest`: that
    candidate's accuracy and its difference to the chosen one. `trainings`: every result. Raises
    `AllFailed` where no candidate is left.
    """
    decision = heats.decision
    raw = heats.ranked(heats.finalists)[0]
    evidence: dict[str, Any] = {
        "decision": decision.reason,
        "raw_winner": {"name": raw.label, "accuracy": heats.mean(raw)},
        "finalists": _finalists(heats),
    }
    if isinstance(heats, Race):
        evidence["race"] = {
            "rungs": [
                {"entrants": rung.entrants, "epochs": rung.epochs, "seeds": rung.seeds}
                for rung in heats.rungs
            ],
            "part_of_full_grid": heats.part,
        }
    if isinstance(heats, Refine):
        evidence["gaussian_process"] = _posterior(heats)
    evidence |= {
        "surface": _described(fit_surface(points_of(heats.results), heats.level), factor),
        "guest": _guest(heats),
        "trainings": [
            {
                "name": each.candidate.label,
                "heat": each.heat,
                "epochs": each.epochs,
                "seed": each.seed,
                "accuracy": each.accuracy,
            }
            for each in heats.results
        ],
    }
    return CoefficientResult(
        chosen=decision.chosen,
        phi=phi,
        factor=factor,
        pinned=False,
        candidates=heats.candidates,
        accuracies=tuple(heats.mean(candidate) for candidate in heats.candidates),
        evidence=evidence,
    )


def _finalists(heats: Heats) -> dict[str, Any]:
    """What is tied, and among which: earlier heats dropped candidates without statistics."""
    found = heats.comparison
    return {
        "tied_among": [candidate.label for candidate in heats.finalists],
        "tied": [candidate.label for candidate in heats.tied],
        "level": heats.level,
        "seeds": heats.seeds,
        "gap": _finite(max(found.gaps)) if found else None,
        "deviation": _finite(found.deviation) if found else None,
        "half_width": _finite(max(found.half_widths)) if found else None,
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity: what one seed cannot tell is null."""
    return value if math.isfinite(value) else None


def _posterior(heats: Refine) -> dict[str, Any] | None:
    if (found := heats.posterior) is None:
        return None
    rows = list(enumerate(heats.trained))
    return {
        "best": heats.trained[int(found.means.argmax())],
        "means": {label: float(found.means[index]) for index, label in rows},
        "deviations": {label: found.deviation(index) for index, label in rows},
    }


def _guest(heats: Heats) -> dict[str, Any] | None:
    """The guest beside the chosen candidate, on seeds that were not used to choose."""
    guest, found = heats.guest, heats.difference
    if guest is None:
        return None
    accuracies = heats.accuracies(guest, CONFIRMATION) or heats.accuracies(guest)
    return {
        "name": guest.label,
        "realised_ratio": guest.realised_ratio,
        "cost": guest.cost._asdict(),
        "accuracy": fmean(accuracies) if accuracies else None,
        "difference": found.difference if found else None,
        "half_width": _finite(found.half_width) if found else None,
        "told_apart": found.told_apart if found else None,
    }


def _described(surface: Surface | None, factor: float) -> dict[str, Any] | None:
    """The surface's optimum as α, β, γ of the nominal product `factor`, each with its interval."""
    if surface is None:
        return None
    powers = dict(zip(("alpha", "beta", "gamma"), (1.0, 0.5, 0.5), strict=True))
    intervals = surface.intervals or (None, None, None)
    rows = zip(powers.items(), surface.shares, intervals, strict=True)
    return {
        "level": surface.level,
        "deviation": surface.deviation,
        "lack_of_fit": surface.lack_of_fit,
        "fits": surface.fits,
        **{
            name: {
                "value": factor ** (share * power),
                "interval": [factor ** (end * power) for end in interval] if interval else None,
            }
            for (name, power), share, interval in rows
        },
    }
