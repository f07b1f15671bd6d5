"""Beside the family: networks that others would have made, at its members' MACs, trained alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.conduct import StudyName
from experiments.evaluators.training import TrainingEvaluator, training_id
from experiments.families.predictions import Predictions
from experiments.progress import log
from experiments.stages.context import StageContext
from experiments.stages.search_inputs import objective_of
from scaling import rules
from scaling.family import PlannedFamily, PlannedMember, family_for
from scaling.jobs import InOrder
from scaling.study_design import narrowed
from scaling.targets import HIT, reach
from search.candidates import Candidates
from space import presets
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget, Job, Status
from space.validation import InvalidInput

#: Pixels of a published network, at least: it halves an image five times, so that fewer leave no
#: map.
_LEAST_PIXELS = 32

#: Sets the draws of `random` apart from those of the search. A sampler seeds trial N by the seed
#: and N alone, so without this the rival of the member bN is what the search drew for trial N.
_OWN_DRAWS = 1


def train(
    context: StageContext,
    family: PlannedFamily,
    budget: Budget,
    evaluate: TrainingEvaluator,
    predictions: Predictions,
) -> list[dict[str, Any]]:
    """Trains the recipe's rivals, each with `budget`; their trials are the study `rivals`.

    Gives name, resolution, cost and accuracy of each. One that fails is recorded with its reason,
    one that cannot be made is left out with a remark, and neither stops anything. Rivals begin
    where the smallest member does and learn from the members' teacher, but never grow.
    """
    jobs = tuple(_jobs(context, family, budget))
    trained = InOrder(jobs)
    # The study also has those of families that were planned before.
    context.run.note(rivals={job.name: job.architecture.key for job in jobs})
    if jobs:
        context.record(StudyName("rivals", "family", "Rivals"), trained, jobs, evaluate)
    for job in jobs:
        if trained.told[job.name].status is Status.COMPLETE:
            predictions.record(job.name, evaluate.network(job))
    return [
        {
            "name": job.name,
            "resolution": job.architecture.resolution,
            "cost": cost(job.architecture)._asdict(),
            "accuracy": trained.told[job.name].accuracy,
        }
        for job in jobs
    ]


def _jobs(context: StageContext, family: PlannedFamily, budget: Budget) -> Iterator[Job]:
    """A job for each rival of each member, named `RIVAL MEMBER`."""
    for name in context.recipe.family.rivals:
        for number, member in enumerate(family.members):
            if name in rules.NAMES and member.cost.macs == cost(context.baseline).macs:
                continue  # nothing grows
            try:
                rival = _rival(name, number, member, family, context)
            except InvalidInput as error:
                log.remark(f"no rival {name} {member.name}: {error}")
                continue
            yield Job(f"{name} {member.name}", rival, budget)


def budget_of(context: StageContext, family: PlannedFamily) -> Budget:
    """What a rival of `family` may spend, as it was trained: it learns from the same teacher."""
    budget, teacher = context.family_budget, context.recipe.family.teacher
    if teacher is None:
        return budget
    (best,) = (job for job in family.jobs(budget) if job.name == teacher)
    return replace(budget, teacher=training_id(best.architecture, best.budget))


def _rival(
    name: str, number: int, member: PlannedMember, family: PlannedFamily, context: StageContext
) -> Architecture:
    """The rival with about as many MACs as the member; raises `InvalidInput` if there is none."""
    settings, target = context.recipe.family, member.cost.macs
    if name in presets.names():
        return _published(presets.load(name), target, context)
    if name == "start" and context.start:
        return _published(context.start.architecture, target, context)
    if name in rules.NAMES:
        baseline, rule = context.baseline, name
    else:
        baseline = _of_space(name, number, context)
        rule = settings.rule if settings.rule in rules.NAMES else "compound"
    (rival,) = family_for(
        baseline,
        family.coefficients,
        [target],
        rule=rules.load(rule, family.coefficients),
        multiple=settings.multiple,
    ).members
    return rival.architecture


def _published(network: Architecture, target: int, context: StageContext) -> Architecture:
    """The network at `target` MACs: first its resolution is solved, then its width for the rest."""
    baseline = context.baseline
    network = replace(network, num_classes=baseline.num_classes, in_channels=baseline.in_channels)
    stored = max(_LEAST_PIXELS, context.data.train.resolution)
    least, most = (replace(network, resolution=pixels) for pixels in (_LEAST_PIXELS, stored))
    solved = most if cost(most).macs < target else least
    if cost(least).macs < target < cost(most).macs:
        solved = reach(rules.RESOLUTION, network, target).architecture
    hit = abs(cost(solved).macs / target - 1) <= HIT
    return solved if hit else narrowed(solved, target)


def _of_space(name: str, number: int, context: StageContext) -> Architecture:
    """The space's base network, or one drawn from those within the bounds, for each member anew."""
    space = context.space
    if name == "base":
        return space.base
    candidates = Candidates(space, objective_of(context.run))
    rng = np.random.default_rng((context.recipe.seed, number, _OWN_DRAWS))
    rows = candidates.sample(1, rng)
    if not len(rows):
        raise InvalidInput("no network of the space was drawn within the bounds")
    return candidates.at_row(rows[0]).architecture
