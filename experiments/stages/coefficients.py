"""Stage 2: α, β and γ from the grid around the baseline, or as the recipe pins them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from experiments.conduct import StudyName
from experiments.config import CoefficientsConfig
from experiments.progress import log
from experiments.stages.context import StageContext
from experiments.stages.elastic import measured, trained
from scaling import full_grid, heat_result
from scaling import grid as grids
from scaling.coefficient_result import CoefficientResult, pinned
from scaling.coefficients import PUBLISHED
from scaling.elastic_order import ElasticOrder
from scaling.grid import GridCandidate, equal_cost, realised
from scaling.heats import Heats
from scaling.power import PowerAnalysis
from scaling.race import Race, ladder
from scaling.refine import FINALISTS, Refine
from search.study import find_study, finished
from space.architecture import Architecture
from space.elastic import Elastic
from space.evaluation import Budget
from space.validation import InvalidInput

_STUDY = StudyName("coefficients", "coefficients", "Coefficients")


def run(context: StageContext) -> dict[str, Any]:
    """Stage 2: α, β and γ from the grid around the baseline, or as the recipe pins them."""
    found = _result(context, context.baseline)
    context.run.write("coefficients.json", found)
    return found


def _result(context: StageContext, baseline: Architecture) -> dict[str, Any]:
    settings = context.recipe.coefficients
    phi, factor = settings.phi, settings.factor
    if settings.pinned:
        return pinned(baseline, settings.pinned, phi=phi, factor=factor).to_dict()
    candidates = candidates_of(settings, baseline)
    if settings.method != "grid":
        budget = context.budget(settings.epochs, settings.data_fraction)
        parts: dict[str, Any] = {}
        if settings.method == "elastic":
            order = _elastic_order(context, candidates)
            candidates, parts = order.best(FINALISTS), {"elastic": order.to_dict()}
        heats = heats_of(settings, baseline, candidates, budget)
        design = _design(context, len(candidates), heats.most_finalists, heats.seeds)
        context.record(_STUDY, heats, heats.most, context.evaluator())
        chosen = heat_result.result(heats, phi=phi, factor=factor)
        return chosen.to_dict() | {"design": design.to_dict()} | parts
    design = _design(context, len(candidates), len(candidates), 1)
    trained = _trained(context, _STUDY, candidates, phi)
    found = replace(trained, evidence={**trained.evidence, "design": design.to_dict()})
    if settings.compare_phi is None:
        return found.to_dict()
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
    return full_grid.compared(found, other).to_dict()


def _trained(
    context: StageContext, study: StudyName, candidates: tuple[GridCandidate, ...], phi: float
) -> CoefficientResult:
    """The result of a full grid at φ, recorded in `study`."""
    settings = context.recipe.coefficients
    grid = full_grid.FullGrid(candidates, context.budget(settings.epochs, settings.data_fraction))
    context.record(study, grid, grid.jobs, context.evaluator())
    return grid.result(phi=phi, factor=settings.factor)


def _elastic_order(context: StageContext, candidates: tuple[GridCandidate, ...]) -> ElasticOrder:
    """All candidates, measured as parts of elastic networks of several seeds."""
    settings, parts = context.recipe.coefficients, {c.label: c.architecture for c in candidates}
    spent = context.budget(context.recipe.evaluator.epochs, settings.data_fraction)
    study = StudyName("elastic coefficients", _STUDY.stage, "Elastic networks around the baseline")
    weights = trained(context, Elastic(tuple(parts.values())), study, spent, settings.seeds)
    study = StudyName("coefficients of parts", _STUDY.stage, "Candidates as parts")
    accuracies = measured(context, study, parts, weights, 0, settings.data_fraction)
    return ElasticOrder(candidates, accuracies)


def heats_of(
    settings: CoefficientsConfig,
    baseline: Architecture,
    candidates: tuple[GridCandidate, ...],
    budget: Budget,
) -> Heats:
    """The proposer of training runs, with the published coefficients as guest."""
    (published,) = grids.candidates(baseline, [PUBLISHED], phi=settings.phi, factor=settings.factor)
    if settings.method == "race":
        rungs = ladder(len(candidates), settings.epochs, settings.seeds)
        return Race(candidates, rungs, budget, guest=published)
    return Refine(candidates, budget, settings.seeds, guest=published)


def _design(context: StageContext, candidates: int, finalists: int, seeds: int) -> PowerAnalysis:
    """What the comparison can show, by the noise measured so far; the log says it."""
    noise = _repeated(context)
    source = "networks that the search trained with several seeds"
    if noise is None:
        found, images = context.run.read("baseline.json"), len(context.data.held_out)
        noise = math.sqrt(max(found["accuracy"] * (1 - found["accuracy"]), 1 / images) / images)
        source = f"the binomial error of {images:,} held-out images; no network was trained twice"
    design = PowerAnalysis(candidates, finalists, seeds, noise, source)
    log.note(f"coefficients: {design.sentence}")
    return design


def _repeated(context: StageContext) -> float | None:
    """The deviation of accuracy over seeds, pooled over what earlier stages trained repeatedly."""
    groups: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    for trial in _searched(context):
        found = trial.user_attrs
        budget = found["budget"]
        key = (found["key"], budget["epochs"], budget["data_fraction"], budget.get("start"))
        groups[key][budget["seed"]] = found["measurement"]["accuracy"]
    repeated = [list(each.values()) for each in groups.values() if len(each) > 1]
    freedom = sum(len(each) - 1 for each in repeated)
    if not freedom:
        return None
    return math.sqrt(sum((one - fmean(each)) ** 2 for each in repeated for one in each) / freedom)


def _searched(context: StageContext) -> Iterator[FrozenTrial]:
    """The trials of the search and its finalists that were trained to their end."""
    for name in ("search", "finalists"):
        with suppress(InvalidInput):  # without finalists there is no such study
            trials = find_study(context.run.storage, name).get_trials(deepcopy=False)
            yield from (each for each in finished(trials) if each.state is TrialState.COMPLETE)


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
