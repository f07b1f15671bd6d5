"""The rule `learned`: the search over growth, with the model of accuracy that searches use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.conduct import StudyName
from experiments.stages.context import StageContext
from scaling.coefficients import Coefficients
from scaling.family import PlannedFamily, PlannedMember, family_for, regularised, stage_means
from scaling.growth import (
    Candidates,
    Expectation,
    Floats,
    LearnedGrowth,
    Model,
    extremes,
    pool,
    search,
    settings,
)
from scaling.rules import Shares
from scaling.targets import Measure, macs
from search.accuracy_model import AccuracyModel, DesignMatrix
from search.study import find_study, finished
from space.architecture import MAX_RESOLUTION, Architecture
from space.cost import cost
from space.evaluation import Budget
from space.validation import InvalidInput

#: What was found for each target, beside compound scaling.
FILE = "growth.json"


def growth_model(candidates: Candidates) -> Model:
    """The Gaussian process of the sampler `predictor`, over multipliers and the cost."""
    columns = candidates.settings[:, candidates.settings.std(axis=0) > 0]
    every = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    costs = np.log(candidates.costs)[:, None]
    costs = (costs - costs.mean()) / max(costs.std(), 1e-9)
    forms = [np.unique(column, return_inverse=True) for column in every.T]
    design = DesignMatrix(
        linear=np.hstack([every / np.sqrt(every.shape[1]), costs]),
        costs=costs,
        stages=np.column_stack([entries for _, entries in forms]),
        points=tuple(values[:, None] for values, _ in forms),
    )

    def expect(known: Sequence[int], accuracy: Floats) -> Expectation:
        if np.ptp(accuracy) == 0:  # nothing to learn from, such as a single network
            return Expectation(np.full(len(design), accuracy[0]), np.ones(len(design)))
        return Expectation(*AccuracyModel(design[np.array(known)], accuracy)(design))

    return expect


def learned_growth(
    baseline: Architecture,
    compound: PlannedFamily,
    budget: Budget,
    *,
    runs: int,
    seeds: int,
    measure: Measure = macs,
    multiple: int = 1,
    finest: int = MAX_RESOLUTION,
) -> tuple[LearnedGrowth, list[Architecture]]:
    """What searches beside a family of compound scaling, and the candidates by number.

    A training run may spend `budget`; its seed is also that of the search. No candidate has more
    than `finest` pixels, unless compound scaling's has.
    """
    rng = np.random.default_rng(budget.seed)
    networks: list[Architecture] = []
    pools = []
    for member in compound.members:
        assert member.target is not None
        plain = replace(
            member.architecture,
            dropout=baseline.dropout,
            stochastic_depth=baseline.stochastic_depth,
        )
        some = pool(
            baseline,
            plain,
            member.target,
            measure=measure,
            multiple=multiple,
            finest=finest,
            rng=rng,
        )
        pools.append(tuple(range(len(networks), len(networks) + len(some))))
        networks += some
    growth, costs = settings(baseline, networks), [measure(each) for each in networks]
    starts = tuple(extremes(growth, each) for each in pools)
    candidates = Candidates(growth, np.array(costs), tuple(pools), starts)
    model = growth_model(candidates)
    rounds = search(candidates, model, runs=runs, seeds=seeds, seed=budget.seed)
    return LearnedGrowth(rounds, networks, budget), networks


def learned(context: StageContext, coefficients: Coefficients, measure: Measure) -> PlannedFamily:
    """The family that short training runs on held-out images find; growth.json says how.

    A member is compound scaling's where these do not tell what was found to be better.
    """
    recipe, baseline = context.recipe, context.baseline
    grid, family = recipe.coefficients, recipe.family
    compound = family_for(
        baseline, coefficients, family.targets, measure=measure, multiple=family.multiple
    )
    growth, networks = learned_growth(
        baseline,
        compound,
        context.budget(grid.epochs, grid.data_fraction),
        runs=family.runs,
        seeds=grid.seeds,
        measure=measure,
        multiple=family.multiple,
        finest=context.data.train.resolution,
    )
    study = StudyName("growth", "family", "Learned growth")
    context.record(study, growth, family.runs, context.evaluator())
    pairs = list(zip(compound.members, growth.grown, strict=True))
    facts = [
        {"name": member.name, "target": member.target}
        | answer.to_dict(*(_description(baseline, networks[each]) for each in answer[:2]))
        for member, answer in pairs
    ]
    spent = {"runs": growth.runs, "compound_runs": _runs_for_coefficients(context)}
    context.run.write(FILE, {**spent, "targets": facts})
    members = [
        _shipped(member, networks[answer.shipped], baseline, measure) for member, answer in pairs
    ]
    return replace(compound, members=tuple(members))


def _runs_for_coefficients(context: StageContext) -> int:
    """The training runs that compound scaling took; none where the recipe gives α, β and γ."""
    if context.recipe.coefficients.pinned:
        return 0
    with suppress(InvalidInput):  # coefficients.json may have come without a study
        trials = find_study(context.run.storage, "coefficients").get_trials(deepcopy=False)
        return len(finished(trials))
    return 0


def _shipped(
    member: PlannedMember, network: Architecture, baseline: Architecture, measure: Measure
) -> PlannedMember:
    """Compound scaling's member, or another network in its place, regularised as it is."""
    network = regularised(network, member.phi)
    if network.key == member.architecture.key:
        return member
    assert member.target is not None
    depth, width = stage_means(network, baseline)
    miss = measure(network) / member.target - 1
    return replace(member, architecture=network, depth=depth, width=width, miss=miss)


def _description(baseline: Architecture, network: Architecture) -> dict[str, Any]:
    """What growth.json says of a network: multipliers of the baseline's stages, pixels, cost.

    `shares` are the parts of the growth in nominal MACs that the dimensions take.
    """
    stages, price = len(network.stages), cost(network)
    multipliers = np.exp(settings(baseline, [network])[0]).tolist()
    depth, width = stage_means(network, baseline)
    terms = [math.log(depth), 2 * math.log(width), 2 * math.log(multipliers[-1])]
    total = sum(terms)
    return {
        "depth": multipliers[:stages],
        "width": multipliers[stages:-1],
        "resolution": network.resolution,
        "cost": price._asdict(),
        "factor": price.macs / cost(baseline).macs,
        "shares": Shares(*(term / total for term in terms))._asdict() if total else None,
        "key": network.key,
    }
