"""Stage 1: the baseline, found by short training runs and chosen by longer ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from experiments.conduct import StageFailed, StudyName
from experiments.config import Recipe
from experiments.evaluators.training import InitialWeights, TrainingEvaluator
from experiments.progress import log
from experiments.runs.environment import environment
from experiments.stages.context import StageContext
from experiments.stages.elastic import SEED_PARTS, measured, trained
from experiments.stages.lookup import lookup
from experiments.stages.search_inputs import objective_of, prior_of
from scaling.jobs import InOrder
from search import pruning, samplers
from search.candidates import Candidates
from search.ledger import Value, job_of, measurement_of
from search.pareto import front
from search.search import Search
from search.selection import finalists, select
from search.study import finished, open_study, ranked, value_of
from space import choices
from space.choices import Space
from space.elastic import Elastic
from space.evaluation import Budget, Evaluate, Job


def run(context: StageContext) -> dict[str, Any]:
    """Stage 1: the baseline, found by short training runs and chosen by longer ones.

    Where the recipe looks networks up, there is nothing to train longer.
    """
    recipe, objective = context.recipe, objective_of(context.run)
    known = lookup(recipe) if recipe.evaluator.kind == "records" else None
    # Records have their own images, to which nothing is adapted.
    space = choices.load(recipe.space) if known else context.space
    candidates = Candidates(space, objective)
    budget = context.budget(recipe.search.epochs, recipe.search.data_fraction)
    evaluate: Evaluate = known.evaluate if known else _evaluator(context)
    weights: dict[int, InitialWeights] = {}
    if recipe.evaluator.kind == "elastic":
        budget, weights, evaluate = _elastic(context, candidates.space)
    settings = recipe.search.pruner.model_dump()
    if recipe.tune_prunes:
        settings["kind"] = "none"
    epochs = max(1, budget.epochs)  # a part that trains for none is never judged
    pruner = pruning.create(epochs=epochs, **settings)
    named = StudyName("search", "search", "Search")
    study = context.conductor.open_study(named, pruner, objective.directions)
    search = Search(
        study,
        samplers.create(
            recipe.search.sampler,
            candidates,
            recipe.seed,
            prior_of(context.run, candidates),
            recipe.search.trials,
        ),
        budget,
        trials=recipe.search.trials,
        environment=environment(),
    )
    context.conductor.conduct(
        study,
        search,
        evaluate,
        recipe.search.trials,
        objective.value,
        halving=_halving(recipe, study, objective.value, epochs) if recipe.tune_prunes else None,
    )
    if search.exhausted:
        log.remark(search.exhausted)

    complete = ranked(study)
    best = finalists(complete, recipe.search.finalists, candidates)
    if not best:
        raise StageFailed("search: no trial finished training, so there is no baseline")
    if recipe.search.finalists == 1 and known is None and not objective.pareto:
        best = [_selected(complete, candidates)]
    if weights:
        _measured_again(context, complete, budget, weights)
    if known:
        baseline = _result(best[0]) | {"choices": best[0].params, "study": "search"}
        baseline["lookup"] = known.about(job_of(best[0]).architecture, objective, ranked(study))
    else:
        winner, searched = _final(context, best, objective.value)
        baseline = _result(winner) | {"choices": searched.params, "study": "finalists"}
    if objective.pareto:
        baseline["pareto"] = front(study, candidates)
        context.run.write("pareto.json", baseline["pareto"])
    context.run.write("baseline.json", baseline)
    return baseline


def _halving(recipe: Recipe, study: optuna.Study, value: Value, epochs: int) -> pruning.Halving:
    """How Ray Tune prunes the search; it knows what an earlier start has seen."""
    pruner = recipe.search.pruner
    seen = [trial.intermediate_values for trial in finished(study.get_trials(deepcopy=False))]
    first = min(pruner.warmup_epochs + 1, epochs)
    return pruning.Halving(epochs, first, pruner.reduction, value, seen)


def _selected(complete: Sequence[FrozenTrial], candidates: Candidates) -> FrozenTrial:
    """The only finalist: no other run will correct what one noisy measurement says."""
    selection = select(complete, candidates)
    if selection.trial.number != selection.measured_best.number:
        log.remark(
            f"Trial {selection.trial.number} is the finalist: the model expects the most of it. "
            f"Trial {selection.measured_best.number} measured best, by less than the noise of a "
            f"measurement (standard deviation of the reward {selection.noise:.3f})."
        )
    return selection.trial


def _evaluator(context: StageContext) -> TrainingEvaluator:
    """What trains candidates and finalists; it keeps weights that finalists go on from."""
    return context.evaluator(keeps_weights=context.recipe.search.continue_finalists)


def _elastic(
    context: StageContext, space: Space
) -> tuple[Budget, dict[int, InitialWeights], TrainingEvaluator]:
    """The elastic networks of the space, trained.

    Returns what a part of the first may spend, their weights by seed, and what measures the parts
    of the first.
    """
    settings, fraction = context.recipe.evaluator, context.recipe.search.data_fraction
    study = StudyName("elastic", "search", "Elastic network")
    spent = context.budget(settings.epochs, fraction)
    weights = trained(context, Elastic(space), study, spent, settings.seeds)
    first, evaluate = weights[spent.seed], _evaluator(context)
    budget = Budget(settings.refine, fraction, seed=spent.seed, start=first.name)
    return budget, weights, replace(evaluate, starts=(*evaluate.starts, first))


def _measured_again(
    context: StageContext,
    complete: Sequence[FrozenTrial],
    budget: Budget,
    weights: Mapping[int, InitialWeights],
) -> None:
    """Parts of the search, measured by the other elastic networks, for the report.

    They are a random sample, since keys are hashes, which stays the same as the search grows.
    """
    others = {seed: each for seed, each in weights.items() if seed != budget.seed}
    jobs = {job.architecture.key: job for job in map(job_of, complete)}
    sample = [jobs[key] for key in sorted(jobs)[:SEED_PARTS]]
    if others:
        study = StudyName("elastic seeds", "search", "Parts by other elastic seeds")
        parts = {job.name: job.architecture for job in sample}
        measured(context, study, parts, others, budget.epochs, budget.data_fraction)


def _final(
    context: StageContext, best: Sequence[FrozenTrial], reward: Value
) -> tuple[FrozenTrial, FrozenTrial]:
    """The finalists trained longer: the winner's trial there, and that of the search."""
    budget = context.budget(context.recipe.search.final_epochs, context.recipe.search.data_fraction)
    evaluate = replace(_evaluator(context), precision=context.recipe.objective.precision)
    by_name = {f"finalist of {job_of(trial).name}": trial for trial in best}
    jobs = [Job(name, job_of(trial).architecture, budget) for name, trial in by_name.items()]
    if context.recipe.search.continue_finalists:
        starts = [evaluate.trained(job_of(trial)) for trial in best]
        evaluate = replace(evaluate, starts=(*evaluate.starts, *starts))
        jobs = [
            replace(job, budget=replace(budget, start=start.name))
            for job, start in zip(jobs, starts, strict=True)
        ]
    study = StudyName("finalists", "search", "Finalists")
    context.record(study, InOrder(jobs), jobs, evaluate, reward)
    keys = {job.architecture.key for job in jobs}
    finished = [
        trial
        for trial in ranked(open_study(context.run.storage, "finalists"))
        if trial.user_attrs["key"] in keys and job_of(trial).budget.epochs == budget.epochs
    ]
    if not finished:
        raise StageFailed("search: no finalist finished training")
    return finished[0], by_name[finished[0].user_attrs["job"]]


def _result(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial found, as baseline.json says it."""
    attributes = trial.user_attrs
    latency = {"latency": attributes["latency"]} if "latency" in attributes else {}
    return {
        "architecture": attributes["architecture"],
        "key": attributes["key"],
        "cost": attributes["cost"] | latency,
        "accuracy": measurement_of(trial).accuracy,
        "reward": value_of(trial),
        "trial": trial.number,
    }
