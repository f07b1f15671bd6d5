"""Beside the family: networks that others would have made, trained alike on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from experiments.stages.context import Context
from scaling import rules
from scaling.jobs import InOrder
from scaling.members import Family, family_for
from search.recorded import accuracy
from space import presets
from space.architecture import Architecture
from space.evaluation import Job


def train(context: Context, family: Family) -> None:
    """Trains the recipe's rivals with the family's budget; their trials are the study `rivals`.

    One that fails is recorded with its reason and stops nothing.
    """
    jobs = tuple(_jobs(context, family))
    if jobs:
        evaluate = replace(context.evaluator(final=True), weights=None)
        context.record("rivals", InOrder(jobs), jobs, accuracy, evaluate)


def _jobs(context: Context, family: Family) -> Iterator[Job]:
    """A job a rival, named `RULE MEMBER` or as the preset."""
    settings, baseline = context.recipe.family, context.baseline
    budget = context.budget(settings.epochs, settings.data_fraction)
    grown = [member for member in family.members if member.phi > 0]
    for name in settings.rivals:
        if name in presets.names():
            yield Job(name, _fitted(name, context), budget)
            continue
        rivals = family_for(
            baseline,
            family.coefficients,
            [member.cost.macs for member in grown],
            rule=rules.load(name, family.coefficients),
            multiple=settings.multiple,
        )
        for member, rival in zip(grown, rivals.members, strict=True):
            yield Job(f"{name} {member.name}", rival.architecture, budget)


def _fitted(name: str, context: Context) -> Architecture:
    """A preset for the run's classes and channels, at its own resolution."""
    preset = presets.load(name, num_classes=context.baseline.num_classes)
    return replace(preset, in_channels=context.baseline.in_channels)
