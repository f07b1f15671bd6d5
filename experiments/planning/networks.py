"""The networks that a run may train: candidates, baselines, grid, members."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.config import Recipe
from experiments.data.load import Data
from experiments.runs.folder import OpenRun
from experiments.stages.coefficients import candidates_of
from experiments.stages.search_inputs import objective_of, space_of
from scaling.coefficients import PUBLISHED
from scaling.family import family_at, family_for
from scaling.rules import load as load_rule
from scaling.targets import MEASURES
from search.candidates import Candidates
from space import moves
from space.architecture import Architecture
from space.cost import cost
from space.validation import InvalidInput
from space.within import Within

#: Networks drawn within the bounds, to learn what candidates cost, and at each end of the bounds.
_DRAWS, _EDGE_DRAWS = 400, 64

#: Draws that estimate how many combinations lie within the bounds, to about 5 %.
_COUNT_DRAWS = 500


@dataclass(frozen=True)
class ExpectedNetworks:
    """The networks that a run of `recipe` may train.

    `drawn` are random candidates within the bounds, with the cheapest and the most expensive ones
    found, in order of MACs.
    """

    recipe: Recipe
    candidates: Candidates
    drawn: tuple[Architecture, ...]

    @cached_property
    def macs(self) -> tuple[int, ...]:
        """The MACs of the drawn candidates."""
        return tuple(cost(network).macs for network in self.drawn)

    @cached_property
    def baselines(self) -> tuple[Architecture, ...]:
        """Candidates at the quartiles of MACs, in place of the baseline, which is not known yet."""
        last = len(self.drawn) - 1
        return tuple(self.drawn[round(place * last)] for place in (0.25, 0.5, 0.75))

    @cached_property
    def combinations(self) -> float:
        """How many combinations of choices lie within the bounds (an estimate to about 5 %)."""
        within = self.candidates.grid
        if within is None:
            return float(self.candidates.space.size)
        inside = len(within.draw(_COUNT_DRAWS, np.random.default_rng(0)))
        return within.count * inside / _COUNT_DRAWS

    @cached_property
    def grid(self) -> tuple[Architecture, ...]:
        """The candidates of the coefficients around the median baseline; none if they are fixed."""
        settings = self.recipe.coefficients
        if settings.pinned:
            return ()
        return tuple(each.architecture for each in candidates_of(settings, self.baselines[1]))

    @cached_property
    def families(self) -> tuple[tuple[Architecture, ...], ...]:
        """The members of a family around each of the baselines."""
        return tuple(_members(self.recipe, each) for each in self.baselines)


def expected_networks(recipe: Recipe, data: Data) -> ExpectedNetworks:
    """The networks that a run may train on these images.

    Raises:
        InvalidInput: if no network of the space lies within the bounds.
    """
    with tempfile.TemporaryDirectory() as folder:
        objective = objective_of(OpenRun(Path(folder), recipe))
    candidates = Candidates(space_of(recipe, data), objective)
    rng = np.random.default_rng(recipe.seed)
    rows = [candidates.sample(_DRAWS, rng)]
    for end in objective.bounds.sums.get("macs", (1, 2**62)):
        edge = Within(candidates.table, {"macs": (end, end)}, clip=False).nearest(_EDGE_DRAWS, rng)
        rows.append(edge[candidates.within(edge)])
    if not sum(map(len, rows)):
        somewhere = moves.uniform(candidates.sizes, 1, rng)[0]
        rows = [candidates.unseen(set(), somewhere, rng).row[None]]  # raises an error that says why
    drawn = [candidates.at_row(row).architecture for row in np.concatenate(rows)]
    return ExpectedNetworks(recipe, candidates, tuple(sorted(drawn, key=lambda n: cost(n).macs)))


#: Rules whose networks are not known before their training runs, and which cost about the same.
_ESTIMATED = {"learned": "compound"}


def _members(recipe: Recipe, baseline: Architecture) -> tuple[Architecture, ...]:
    """A family around a baseline.

    Before the coefficients are known, α and β are the published ones, and γ follows from the
    factor.
    """
    grid, settings = recipe.coefficients, recipe.family
    if settings.cost == "latency":
        raise InvalidInput(
            "family.cost: members sized by latency cannot be estimated, because it is measured "
            "during the run; try a cost in macs: --set family.cost=macs --set family.targets=[…]"
        )
    growth = PUBLISHED.alpha * PUBLISHED.beta**2
    expected = replace(PUBLISHED, gamma=max(1.0, grid.factor / growth) ** 0.5)
    coefficients = grid.pinned or expected
    if settings.targets:
        family = family_for(
            baseline,
            coefficients,
            settings.targets,
            rule=load_rule(_ESTIMATED.get(settings.rule, settings.rule), coefficients),
            measure=MEASURES[settings.cost],
            multiple=settings.multiple,
        )
    else:
        family = family_at(baseline, coefficients, settings.phi, multiple=settings.multiple)
    return tuple(member.architecture for member in family.members)
