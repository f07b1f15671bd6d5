"""Ways from one combination of choices to others.

A combination is a row of indices into the values of a space's choices, in their order; `sizes`
holds how many values each has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def uniform(sizes: Rows, count: int, rng: np.random.Generator) -> Rows:
    """`count` combinations drawn uniformly from all, count × choices."""
    return rng.integers(0, sizes, (count, len(sizes)))


def neighbours(row: Rows, sizes: Rows) -> Rows:
    """Every combination that differs from `row` in one choice."""
    place = np.repeat(np.arange(len(sizes)), sizes - 1)
    first = np.repeat(np.cumsum(sizes - 1) - (sizes - 1), sizes - 1)
    value = np.arange(len(place)) - first
    found = np.tile(row, (len(place), 1))
    found[np.arange(len(place)), place] = value + (value >= row[place])
    return found


def mutated(rows: Rows, sizes: Rows, changes: Rows, rng: np.random.Generator) -> Rows:
    """Each row with `changes` of its choices, which have several values, drawn anew and different.

    `changes` holds a number for each row; more than there are such choices changes all of them.
    """
    free = sizes > 1
    rank = np.where(free, rng.random(rows.shape), np.inf).argsort(axis=1).argsort(axis=1)
    step = rng.integers(1, np.maximum(sizes, 2), rows.shape)
    change = (rank < changes[:, None]) & free
    return np.where(change, (rows + step) % sizes, rows)
