"""Stage 2: α, β and γ from the grid around the baseline, or as the recipe pins them."""

from __future__ import annotations

from typing import Any

from experiments.config import CoefficientsConfig
from experiments.stages.context import StageContext, StudyName
from scaling import full_grid, race_result
from scaling import grid as grids
from scaling.coefficient_result import CoefficientResult, pinned
from scaling.coefficients import PUBLISHED, Coefficients
from scaling.grid import GridCandidate, equal_cost, realised
from scaling.race import Race, ladder
from space.architecture import Architecture

_STUDY = StudyName("coefficients", "coefficients", "Coefficients")


def run(context: StageContext) -> dict[str, Any]:
    """Stage 2: α, β and γ from the grid around the baseline, or as the recipe pins them."""
    found = _answer(context, context.baseline).to_dict()
    context.run.write("coefficients.json", found)
    return found


def _answer(context: StageContext, baseline: Architecture) -> CoefficientResult:
    settings = context.recipe.coefficients
    phi, factor = settings.phi, settings.factor
    if settings.alpha and settings.beta and settings.gamma:
        given = Coefficients(settings.alpha, settings.beta, settings.gamma)
        return pinned(baseline, given, phi=phi, factor=factor)
    if settings.method == "race":
        return _raced(context, baseline)
    candidates = candidates_of(settings, baseline)
    found = _trained(context, _STUDY, candidates, phi)
    if settings.compare_phi is None:
        return found
    same = grids.candidates(
        baseline,
        [name for candidate in candidates for name in candidate.names],
        phi=settings.compare_phi,
        factor=factor,
    )
    compared = StudyName(
        "coefficients to compare", _STUDY.stage, f"Coefficients at φ = {settings.compare_phi:g}"
    )
    other = _trained(context, compared, same, settings.compare_phi)
    return full_grid.compared(found, other)


def _trained(
    context: StageContext, study: StudyName, candidates: tuple[GridCandidate, ...], phi: float
) -> CoefficientResult:
    """The answer of a full grid at φ, recorded in `study`."""
    settings = context.recipe.coefficients
    grid = full_grid.FullGrid(candidates, context.budget(settings.epochs, settings.data_fraction))
    context.record(study, grid, grid.jobs, context.evaluator())
    return grid.answer(phi=phi, factor=settings.factor)


def _raced(context: StageContext, baseline: Architecture) -> CoefficientResult:
    settings = context.recipe.coefficients
    phi, factor = settings.phi, settings.factor
    candidates = candidates_of(settings, baseline)
    rungs = ladder(len(candidates), settings.epochs, settings.seeds)
    (published,) = grids.candidates(baseline, [PUBLISHED], phi=phi, factor=factor)
    budget = context.budget(settings.epochs, settings.data_fraction)
    race = Race(candidates, rungs, budget, guest=published)
    most = sum(rung.entrants * rung.seeds for rung in rungs) + settings.seeds
    context.record(_STUDY, race, most, context.evaluator())
    return race_result.answer(race, phi=phi, factor=factor)


def candidates_of(
    settings: CoefficientsConfig, baseline: Architecture
) -> tuple[GridCandidate, ...]:
    """The networks that the coefficients are chosen from."""
    step, tolerance = settings.step, settings.tolerance
    factor, phi = settings.factor, settings.phi
    match settings.constraint:
        case "nominal":
            combinations = grids.grid(step, tolerance, factor)
            return grids.candidates(baseline, combinations, phi=phi, factor=factor)
        case "realised":
            return realised(baseline, step, tolerance, factor, phi=phi)
        case "equal_cost":
            return equal_cost(baseline, step, tolerance, factor, phi=phi)
