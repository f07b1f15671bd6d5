"""Regularised evolution: the old die, the best of a few have a child with one changed choice.

Source: Real et al. 2019 (Regularized Evolution for Image Classifier Architecture Search), algorithm
1; a population of 50 and samples of 10, since searches here have hundreds of trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from search.candidates import Candidates, Rows
from search.samplers.base import History
from search.samplers.random_search import uniform
from space import moves

POPULATION = 50
SAMPLE = 10

#: Children for one trial, most of which are for where many are known already (assumed).
_CHILDREN = 50


def evolution(
    candidates: Candidates, history: History, rng: np.random.Generator
) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
    """A `Method`: random until a population is there, then children of its better members."""
    population = history.valued[-POPULATION:]
    if len(population) < POPULATION:
        yield from uniform(candidates, history, rng)
        return
    values = np.array([trial.value for trial in population], float)
    for _ in range(_CHILDREN):
        sample = rng.choice(POPULATION, SAMPLE, replace=False)
        parent = candidates.row(population[sample[values[sample].argmax()]].params)
        yield moves.mutated(parent[None], candidates.sizes, np.ones(1, int), rng)[0], {}
