"""Samplers without a model: random search, regularised evolution, hill climbing."""

from __future__ import annotations

import numpy as np

from search.candidates import Candidates
from search.samplers.base import History, Proposals
from space import moves

#: Random draws and children per trial; many are needed only where few networks are left (assumed).
_DRAWS, _CHILDREN = 100, 50

#: Smaller than the source's 100 and 25, since searches here have hundreds of trials (assumed).
_POPULATION, _SAMPLE = 50, 10

#: System attribute: the climb, counted from 0, to which a trial belongs.
_CLIMB = "local:climb"


def uniform(
    candidates: Candidates,
    history: History,  # noqa: ARG001
    rng: np.random.Generator,
) -> Proposals:
    """Random search: independent draws from the networks within the bounds."""
    for _ in range(_DRAWS):
        for row in candidates.sample(1, rng):
            yield row, {}


def evolution(candidates: Candidates, history: History, rng: np.random.Generator) -> Proposals:
    """Regularised evolution: the best of a sample of recent trials, with one choice changed.

    Random until the population is full; the oldest trial leaves it with each new one. Source: Real
    et al. 2019 (Regularized Evolution for Image Classifier Architecture Search), algorithm 1.
    """
    population = history.valued[-_POPULATION:]
    if len(population) < _POPULATION:
        yield from uniform(candidates, history, rng)
        return
    values = np.array([trial.value for trial in population], float)
    for _ in range(_CHILDREN):
        sample = rng.choice(_POPULATION, _SAMPLE, replace=False)
        parent = candidates.row(population[sample[values[sample].argmax()]].params)
        yield moves.mutated(parent[None], candidates.sizes, np.ones(1, int), rng)[0], {}


def local(candidates: Candidates, history: History, rng: np.random.Generator) -> Proposals:
    """Hill climbing: the neighbours of the current climb's best, then a random new start."""
    climb = max((trial.system_attrs.get(_CLIMB, -1) for trial in history.trials), default=-1)
    members = [trial for trial in history.valued if trial.system_attrs.get(_CLIMB) == climb]
    if members:
        best = max(members, key=lambda trial: (trial.value or 0.0, -trial.number))
        around = moves.neighbours(candidates.row(best.params), candidates.sizes)
        for row in rng.permutation(around[candidates.within(around)]):
            yield row, {_CLIMB: climb}
    for row, _ in uniform(candidates, history, rng):
        yield row, {_CLIMB: climb + 1}
