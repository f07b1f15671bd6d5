"""Stage 1: the baseline, found by short trainings and chosen by longer ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from experiments import log
from experiments.config import ObjectiveConfig
from experiments.progress import earlier
from experiments.stages.context import Context, StageFailed
from scaling.jobs import InOrder
from search import pruning, samplers
from search.candidates import Candidates
from search.ledger import job_of, measurement_of
from search.objective import Bounds, Objective
from search.search import Search
from search.study import open_study, ranked, value_of
from space import choices
from space.cost import Cost
from space.evaluation import Job


def run(context: Context) -> dict[str, Any]:
    """Stage 1: the baseline, found by short trainings and chosen by longer ones."""
    recipe, objective = context.recipe, _objective(context.recipe.objective)
    space = choices.load(recipe.space).adapted(
        num_classes=len(context.data.classes),
        resolution=recipe.resolution,
        in_channels=recipe.data.channels,
    )
    pruner = pruning.create(epochs=recipe.search.epochs, **recipe.search.pruner.model_dump())
    study = open_study(context.run.storage, "search", pruner)
    sampler = samplers.create(recipe.search.sampler, Candidates(space, objective), recipe.seed)
    search = Search(
        study,
        sampler,
        context.budget(recipe.search.epochs, recipe.search.data_fraction),
        trials=recipe.search.trials,
        environment=context.environment,
    )
    context.search(
        search, recipe.search.trials, objective.reward, earlier(study), context.evaluator()
    )
    if search.exhausted:
        log.remark(search.exhausted)

    best = ranked(study)[: recipe.search.finalists]
    if not best:
        raise StageFailed("search: no trial was trained to its end, so there is no baseline")
    winner, searched = _final(context, best, objective.reward)
    baseline = _result(winner) | {"choices": searched.params, "study": "finalists"}
    context.run.write("baseline.json", baseline)
    return baseline


def _final(
    context: Context, best: Sequence[FrozenTrial], reward: Callable[[float, Cost], float]
) -> tuple[FrozenTrial, FrozenTrial]:
    """The finalists trained longer: the winner's trial there, and that of the search."""
    budget = context.budget(context.recipe.search.final_epochs, context.recipe.search.data_fraction)
    by_name = {f"finalist of {job_of(trial).name}": trial for trial in best}
    jobs = [Job(name, job_of(trial).architecture, budget) for name, trial in by_name.items()]
    context.record("finalists", InOrder(jobs), jobs, reward, context.evaluator())
    keys = {job.architecture.key for job in jobs}
    finished = [
        trial
        for trial in ranked(open_study(context.run.storage, "finalists"))
        if trial.user_attrs["key"] in keys and job_of(trial).budget.epochs == budget.epochs
    ]
    if not finished:
        raise StageFailed("search: no finalist was trained to its end")
    return finished[0], by_name[finished[0].user_attrs["job"]]


def _objective(settings: ObjectiveConfig) -> Objective:
    return Objective(
        target=settings.target,
        cost=settings.cost,
        exponent_below=settings.exponent_below,
        exponent_above=settings.exponent_above,
        bounds=Bounds(**settings.bounds.model_dump()),
    )


def _result(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial found, as baseline.json says it."""
    attributes = trial.user_attrs
    return {
        "architecture": attributes["architecture"],
        "key": attributes["key"],
        "cost": attributes["cost"],
        "accuracy": measurement_of(trial).accuracy,
        "reward": value_of(trial),
        "trial": trial.number,
    }
