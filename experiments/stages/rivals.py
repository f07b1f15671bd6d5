"""Beside the family: networks that others would have made, trained alike on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.progress import log
from experiments.stages.context import StageContext, StudyName
from scaling import rules
from scaling.family import PlannedFamily, family_for
from scaling.jobs import InOrder
from space import presets
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Job
from space.validation import InvalidInput


def train(context: StageContext, family: PlannedFamily) -> list[dict[str, Any]]:
    """Trains the recipe's rivals with the family's budget; their trials are the study `rivals`.

    Gives name, resolution, cost and accuracy of each. One that fails is recorded with its reason,
    one that a rule cannot make is left out with a remark, and neither stops anything. Rivals start
    from the run's `start`, if it has one, and never from each other.
    """
    jobs = tuple(_jobs(context, family))
    trained = InOrder(jobs)
    if jobs:
        evaluate = replace(context.evaluator(final=True), weights=None)
        context.record(StudyName("rivals", "family", "Rivals"), trained, jobs, evaluate)
    return [
        {
            "name": job.name,
            "resolution": job.architecture.resolution,
            "cost": cost(job.architecture)._asdict(),
            "accuracy": trained.told[job.name].accuracy,
        }
        for job in jobs
    ]


def _jobs(context: StageContext, family: PlannedFamily) -> Iterator[Job]:
    """A job a rival, named `RULE MEMBER` or as the preset."""
    settings, baseline = context.recipe.family, context.baseline
    budget = context.budget(settings.epochs, settings.data_fraction)
    own = cost(baseline).macs
    grown = [member for member in family.members if member.cost.macs != own]
    for name in settings.rivals:
        if name in presets.names():
            yield Job(name, _fitted(name, context), budget)
            continue
        for member in grown:
            try:
                (rival,) = family_for(
                    baseline,
                    family.coefficients,
                    [member.cost.macs],
                    rule=rules.load(name, family.coefficients),
                    multiple=settings.multiple,
                ).members
            except InvalidInput as error:  # the rule reaches no such cost
                log.remark(f"no rival {name} {member.name}: {error}")
                continue
            yield Job(f"{name} {member.name}", rival.architecture, budget)


def _fitted(name: str, context: StageContext) -> Architecture:
    """A preset for the run's classes and channels, at its own resolution."""
    preset = presets.load(name, num_classes=context.baseline.num_classes)
    return replace(preset, in_channels=context.baseline.in_channels)
