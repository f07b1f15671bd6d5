"""The result of finished heats, with its evidence, for coefficients.json."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from scaling.coefficient_result import CoefficientResult
from scaling.comparison import Difference
from scaling.heats import CONFIRMATION, Heats
from scaling.race import Race
from scaling.refine import Refine
from scaling.response_surface import Surface, fit_surface, points_of


def result(heats: Heats, *, phi: float, factor: float) -> CoefficientResult:
    """The result of finished heats and its evidence; raises `AllFailed` if no candidate is left.

    `finalists`: which of them cannot be told from the best of them, and the gaps. `race`: its
    rungs, and the part of the full grid's training that it took. `raw_winner`: the most accurate
    finalist. `gaussian_process`: the expected accuracy of each candidate at equal cost. `surface`:
    the optimum of a quadratic surface, null with too few candidates. `guest`: the accuracy of that
    candidate and its difference from the chosen one. `training_runs`: every result.
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
            "rungs": [rung._asdict() for rung in heats.rungs],
            "part_of_full_grid": heats.part,
        }
    if isinstance(heats, Refine):
        evidence["gaussian_process"] = _posterior(heats)
    evidence |= {
        "surface": _described(fit_surface(points_of(heats.results), heats.level), factor),
        "guest": _guest(heats),
        "training_runs": [
            {"name": each.candidate.label}
            | {key: getattr(each, key) for key in ("heat", "epochs", "seed", "accuracy")}
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
    """Which finalists are tied; earlier heats dropped candidates without statistics."""
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
    """`value`, or None if it is infinite, as with one seed: JSON has no infinity."""
    return value if math.isfinite(value) else None


def _posterior(heats: Refine) -> dict[str, Any] | None:
    if (found := heats.posterior) is None:
        return None
    return {
        "best": heats.trained[int(found.means.argmax())],
        "means": dict(zip(heats.trained, found.means.tolist(), strict=True)),
        "deviations": {label: found.deviation(i) for i, label in enumerate(heats.trained)},
    }


def _guest(heats: Heats) -> dict[str, Any] | None:
    """The guest beside the chosen candidate, on seeds that were not used to choose."""
    guest, found = heats.guest, heats.difference
    if guest is None:
        return None
    accuracies = heats.accuracies(guest, CONFIRMATION) or heats.accuracies(guest)
    difference = dict.fromkeys(Difference._fields)
    if found:
        difference = {**found._asdict(), "half_width": _finite(found.half_width)}
    return {
        "name": guest.label,
        "realised_ratio": guest.realised_ratio,
        "cost": guest.cost._asdict(),
        "accuracy": fmean(accuracies) if accuracies else None,
        **difference,
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
