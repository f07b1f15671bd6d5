"""Comparison of networks over paired seeds: which ones cannot be told from the best.

Paired means that all are trained with the same seeds, so that the effects of a seed on all of them
(its batches and augmentation) cancel. Everything holds for the held-out images that accuracy was
measured on; other images would add their own noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Draws of the parametric bootstrap (assumed: the 95 % quantile then moves by 1 % from seed to
#: seed).
_DRAWS = 20_000

#: Degrees of freedom that the variance pooled over all candidates adds to each candidate's own
#: (assumed: the deviations of two candidates then differ by a factor of 1.8 in the median).
_PRIOR_FREEDOM = 2.0

#: The part of the error that critical values leave for variances that differ by more (measured: see
#: `experiments.benchmarks.coverage`).
RESERVE = 0.2


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Candidates compared: `best` and `tied` are their indices, `means` their accuracies.

    With probability `level` the truly best *of these candidates* is in `tied`: each candidate that
    is less than its gap of `gaps` below the best mean. `deviations` are what one training run of
    each varies by beyond what its seed does to all, `deviation` is that pooled over all, and
    `half_widths` are half the intervals of the means.
    """

    means: tuple[float, ...]
    best: int
    tied: tuple[int, ...]
    level: float
    deviation: float
    deviations: tuple[float, ...]
    gaps: tuple[float, ...]
    half_widths: tuple[float, ...]


def compare(accuracies: Sequence[Sequence[float]], level: float = 0.95) -> PairedComparison:
    """The comparison of candidates (rows) over the same seeds (columns), at least one of each.

    Multiple comparisons with the best (Hsu 1981) for the layout accuracy = candidate + seed +
    noise, where the variance of the noise may differ by candidate: each is its own shrunk towards
    the pooled one (Smyth 2004), since two to five seeds are too few to estimate it alone. The
    critical value comes from a parametric bootstrap of the same model. With one seed the noise is
    unknown, and all are tied.
    """
    table = np.asarray(accuracies, dtype=float)
    count, seeds = table.shape
    means = table.mean(axis=1)
    best = int(means.argmax())
    deviation, deviations = math.nan, np.full(count, math.nan)
    gaps, half = np.full(count, 0.0 if count == 1 else math.inf), np.full(count, math.inf)
    if count > 1 and seeds > 1:
        (variances,), (pooled,) = moderated_variances(table[None])
        deviation, deviations = math.sqrt(pooled), np.sqrt(variances)
        ahead, around = critical_values(count, seeds, level)
        gaps = ahead * np.sqrt((variances + variances[best]) / seeds)
        half = around * deviations / math.sqrt(seeds)
    return PairedComparison(
        means=tuple(means.tolist()),
        best=best,
        tied=tuple(np.flatnonzero(means[best] - means <= gaps).tolist()),
        level=level,
        deviation=deviation,
        deviations=tuple(deviations.tolist()),
        gaps=tuple(gaps.tolist()),
        half_widths=tuple(half.tolist()),
    )


def moderated_variances(tables: Array) -> tuple[Array, Array]:
    """The variance of each row of each table (tables × rows × seeds), moderated, and the pooled."""
    _, rows, seeds = tables.shape
    residuals = (
        tables
        - tables.mean(axis=2, keepdims=True)
        - tables.mean(axis=1, keepdims=True)
        + tables.mean(axis=(1, 2), keepdims=True)
    )
    own = (residuals**2).sum(axis=2) / ((seeds - 1) * (1 - 1 / rows))
    pooled: Array = own.mean(axis=1)
    weight = (seeds - 1) / (seeds - 1 + _PRIOR_FREEDOM)
    moderated: Array = weight * own + (1 - weight) * pooled[:, None]
    return moderated, pooled


@lru_cache(maxsize=256)
def critical_values(candidates: int, seeds: int, level: float = 0.95) -> tuple[float, float]:
    """Critical values in standard errors: of the largest lead over the best, and of one mean.

    Quantiles over tables whose variances follow the prior that `moderated_variances` shrinks with.
    """
    generator = np.random.default_rng(0)
    shape = (_DRAWS, candidates)
    true = _PRIOR_FREEDOM / generator.chisquare(_PRIOR_FREEDOM, shape)
    tables = generator.standard_normal((*shape, seeds)) * np.sqrt(true)[:, :, None]
    variances, _ = moderated_variances(tables)
    means = tables.mean(axis=2)
    within = 1 - (1 - RESERVE) * (1 - level)
    around = float(np.quantile(np.abs(means[:, 0]) / np.sqrt(variances[:, 0] / seeds), within))
    errors = np.sqrt((variances[:, 1:] + variances[:, :1]) / seeds)
    ahead = ((means[:, 1:] - means[:, :1]) / errors).max(axis=1)
    return float(np.quantile(ahead, within)), around


class Difference(NamedTuple):
    """A mean difference, half its interval, and whether the interval excludes 0."""

    difference: float
    half_width: float
    told_apart: bool


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    known: PairedComparison | None = None,
    level: float = 0.95,
) -> Difference:
    """The mean of `first` − `second`, two networks trained with the same seeds.

    Student's interval; the variance of the difference is shrunk towards the one that `known` has
    from other networks (Smyth 2004). With one seed the half width is infinite.
    """
    differences = np.subtract(first, second)
    mean, freedom = float(differences.mean()), len(differences) - 1
    if freedom == 0:
        return Difference(mean, math.inf, False)
    from scipy.stats import t

    squares = float(((differences - mean) ** 2).sum())
    if known is not None and math.isfinite(known.deviation):
        squares += _PRIOR_FREEDOM * 2 * known.deviation**2
        freedom += int(_PRIOR_FREEDOM)
    error = math.sqrt(squares / freedom / len(differences))
    half_width = float(t.ppf((1 + level) / 2, freedom)) * error
    return Difference(mean, half_width, abs(mean) > half_width)


def half_widths(accuracies: Sequence[Sequence[float]], level: float = 0.95) -> tuple[float, ...]:
    """Half the interval of the mean of each row: a network's accuracies, one a seed.

    Student's interval, with the deviation of one training run pooled over all rows, because each is
    too short to estimate it. Infinite if no row has two values.
    """
    rows = [np.asarray(row, dtype=float) for row in accuracies]
    freedom = sum(len(row) - 1 for row in rows)
    if freedom == 0:
        return (math.inf,) * len(rows)
    from scipy.stats import t

    deviation = math.sqrt(sum(float(((row - row.mean()) ** 2).sum()) for row in rows) / freedom)
    width = float(t.ppf((1 + level) / 2, freedom)) * deviation
    return tuple(width / math.sqrt(len(row)) for row in rows)
