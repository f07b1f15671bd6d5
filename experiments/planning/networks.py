"""Networks that a run can meet, before any is trained: candidates, grid, members."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from experiments.config import Recipe
from experiments.data.load import Data
from experiments.runs.folder import OpenRun
from experiments.stages.coefficients import candidates_of
from experiments.stages.search_inputs import objective_of
from scaling.coefficients import PUBLISHED, Coefficients
from scaling.family import family_at, family_for
from scaling.rules import load as load_rule
from scaling.targets import MEASURES
from search.candidates import Candidates
from space import choices
from space.architecture import Architecture
from space.cost import cost
from space.within import Within

#: Networks drawn within the bounds, to learn what candidates cost.
_DRAWS = 400


def draw_candidates(recipe: Recipe, data: Data) -> tuple[Candidates, list[Architecture]]:
    """The candidates, and some of them with the cheapest and the dearest found, by MACs."""
    space = choices.load(recipe.space).adapted(
        num_classes=len(data.classes),
        resolution=recipe.resolution,
        in_channels=recipe.data.channels,
    )
    with tempfile.TemporaryDirectory() as folder:
        objective = objective_of(OpenRun(Path(folder), recipe))
    candidates = Candidates(space, objective)
    rng = np.random.default_rng(recipe.seed)
    rows = [candidates.sample(_DRAWS, rng)]
    bounds = objective.bounds.counts
    least, most = bounds.get("macs", (1, 2**62))
    for end in (least, most):
        edge = Within(candidates.table, {"macs": (end, end)}, clip=False).nearest(64, rng)
        rows.append(edge[candidates.within(edge)])
    if not sum(map(len, rows)):
        rows = [candidates.unseen(set(), rows[0], rng).row[None]]  # which says why there is none
    found = [candidates.at_row(row).architecture for row in np.concatenate(rows)]
    return candidates, sorted(found, key=lambda network: cost(network).macs)


def count_combinations(candidates: Candidates) -> float:
    """How many combinations of choices lie within the bounds (an estimate to about 5 %)."""
    bounds = candidates.objective.bounds.counts
    if not bounds:
        return float(candidates.space.size)
    within = Within(candidates.table, bounds)
    draws = 500
    inside = len(within.draw(draws, np.random.default_rng(0)))
    return within.count * inside / draws


def coefficient_grid(recipe: Recipe, baseline: Architecture) -> list[Architecture]:
    """The candidates of the coefficient stage around a baseline; none where they are pinned."""
    if recipe.coefficients.pinned:
        return []
    return [each.architecture for each in candidates_of(recipe.coefficients, baseline)]


def family_members(recipe: Recipe, baseline: Architecture) -> list[Architecture]:
    """A family around a network that might become the baseline.

    Until they are found, α and β are the published ones, and γ what they leave of the factor.
    """
    grid, settings = recipe.coefficients, recipe.family
    alpha, beta = PUBLISHED.alpha, PUBLISHED.beta
    gamma = math.sqrt(max(1.0, grid.factor / (alpha * beta**2)))
    coefficients = Coefficients(alpha, beta, gamma)
    if grid.alpha and grid.beta and grid.gamma:
        coefficients = Coefficients(grid.alpha, grid.beta, grid.gamma)
    if not settings.targets:
        family = family_at(baseline, coefficients, settings.phi, multiple=settings.multiple)
    else:
        family = family_for(
            baseline,
            coefficients,
            settings.targets,
            rule=load_rule(settings.rule, coefficients),
            measure=MEASURES[settings.cost],
            multiple=settings.multiple,
        )
    return [member.architecture for member in family.members]
