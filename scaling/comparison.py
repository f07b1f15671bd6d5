"""How sure an answer is: candidates compared over paired seeds, and a surface through them all.

Paired means that the candidates are trained with the same seeds, so that what a seed does to all of
them (its batches, its draws of augmentation) cancels. All is for the held-out images that accuracy
was measured on; other images would add their own noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Draws of a bootstrap (assumed: the 95 % quantile then moves by 1 % from seed to seed).
_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Candidates compared: `best` and `tied` are their indices, `means` their accuracies.

    With probability `level` the truly best is in `tied`: those less than `gap` below the best mean.
    `deviation` is what one training varies by, beyond what its seed does to all, and `half_width`
    half the interval of a mean, at the level.
    """

    means: tuple[float, ...]
    best: int
    tied: tuple[int, ...]
    level: float
    deviation: float
    gap: float
    half_width: float


def compare(accuracies: Sequence[Sequence[float]], level: float = 0.95) -> PairedComparison:
    """The comparison of candidates (rows) over the same seeds (columns), at least one of each.

    Multiple comparisons with the best (Hsu 1981), for the two-way model accuracy = candidate + seed
    + noise, its critical value by a parametric bootstrap: two to five seeds are too few to resample
    (the best of three resampled seeds would be called certain as often as a coin falls three times
    alike). With one seed nothing is known of the noise, and all are tied.
    """
    table = np.asarray(accuracies, dtype=float)
    count, seeds = table.shape
    means = table.mean(axis=1)
    best = int(means.argmax())
    freedom = (count - 1) * (seeds - 1)
    if freedom == 0:
        unknown = 0.0 if count == 1 else math.inf
        return PairedComparison(
            _tuple(means), best, tuple(range(count)), level, math.nan, unknown, math.inf
        )

    residuals = table - means[:, None] - table.mean(axis=0) + table.mean()
    deviation = math.sqrt((residuals**2).sum() / freedom)
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((_DRAWS, count)) / math.sqrt(seeds)
    scale = np.sqrt(generator.chisquare(freedom, _DRAWS) / freedom)
    ahead = (noise[:, 1:].max(axis=1) - noise[:, 0]) / scale
    gap = deviation * float(np.quantile(ahead, level))
    half_width = deviation * float(np.quantile(np.abs(noise[:, 0]) / scale, level))
    tied = np.flatnonzero(means[best] - means <= gap)
    return PairedComparison(_tuple(means), best, _indices(tied), level, deviation, gap, half_width)


def half_widths(accuracies: Sequence[Sequence[float]], level: float = 0.95) -> tuple[float, ...]:
    """Half the interval of the mean of each row: a network's accuracies, one a seed.

    Student's, with the deviation of one training pooled over all rows, which are too short to tell
    it alone: it is taken to be the same for all. Infinite where no row has two values.
    """
    rows = [np.asarray(row, dtype=float) for row in accuracies]
    freedom = sum(len(row) - 1 for row in rows)
    if freedom == 0:
        return (math.inf,) * len(rows)
    from scipy.stats import t

    deviation = math.sqrt(sum(float(((row - row.mean()) ** 2).sum()) for row in rows) / freedom)
    width = float(t.ppf((1 + level) / 2, freedom)) * deviation
    return tuple(width / math.sqrt(len(row)) for row in rows)


def _tuple(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _indices(values: NDArray[np.intp]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
