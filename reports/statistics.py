"""How certain a measured accuracy is, and whether test images tell two networks apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from scaling.intervals import wilson

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

#: The level of all intervals and comparisons.
LEVEL = 0.95


def quantile(level: float) -> float:
    """The z for which a normal variable lies between −z and z with probability `level`."""
    return NormalDist().inv_cdf((1 + level) / 2)


def interval(accuracy: float | None, images: int | None) -> dict[str, float | int | None]:
    """The columns accuracy and images of a row and, if both are known, low and high."""
    row: dict[str, float | int | None] = {"accuracy": accuracy, "images": images}
    if accuracy is None or not images:
        return row
    low, high = wilson(accuracy, images)
    return row | {"low": low, "high": high}


def mean_interval(accuracies: Sequence[float], half_width: float) -> dict[str, float | int]:
    """The columns accuracy and seeds of a row and, if `half_width` is finite, low and high."""
    mean = fmean(accuracies)
    row: dict[str, float | int] = {"accuracy": mean, "seeds": len(accuracies)}
    if math.isinf(half_width):
        return row
    return row | {"low": max(0.0, mean - half_width), "high": min(1.0, mean + half_width)}


class AccuracyDifference(NamedTuple):
    """The accuracy of a second network minus that of a first one, with its interval.

    `p_value` is None if there is only an interval and no test. `told_apart`: the interval excludes
    0, and the test rejects equality.
    """

    difference: float
    low: float
    high: float
    p_value: float | None
    told_apart: bool


def paired_difference(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    *,
    classes: NDArray[np.integer] | None = None,
    comparisons: int = 1,
) -> AccuracyDifference:
    """Compares two networks by whether each was right on each of the same images.

    The statements of `comparisons` comparisons hold together with probability `LEVEL` (Bonferroni).
    The test is McNemar's exact one, the interval Bonett and Price's (2012). With the `classes` of
    the images, the difference is of balanced accuracy (the mean over classes), and both are
    large-sample.
    """
    import numpy as np

    better, worse = (second & ~first), (first & ~second)
    tail = (1 - LEVEL) / comparisons
    z = quantile(1 - tail)
    if classes is None:
        from scipy.stats import binom

        images, gained, lost = len(first), int(better.sum()), int(worse.sum())
        difference = (gained - lost) / images
        p_value = min(1.0, 2 * float(binom.cdf(min(gained, lost), gained + lost, 0.5)))
        up, down = (gained + 1) / (images + 2), (lost + 1) / (images + 2)
        middle = up - down
        half = z * math.sqrt((up + down - middle**2) / (images + 2))
    else:
        _, place, sizes = np.unique(classes, return_inverse=True, return_counts=True)
        change = (better.astype(float) - worse) / (len(sizes) * sizes[place])
        by_class = np.bincount(place, weights=change)
        difference = middle = float(change.sum())
        spread = math.sqrt(float((change**2).sum()))
        p_value = 2 * NormalDist().cdf(-abs(difference) / spread) if spread else 1.0
        half = z * math.sqrt(max(0.0, spread**2 - float((by_class**2 / sizes).sum())))
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    told_apart = p_value <= tail and not low <= 0 <= high
    if not told_apart:  # the interval never says more than the test
        low, high = min(low, 0.0), max(high, 0.0)
    return AccuracyDifference(difference, low, high, p_value, told_apart)


def unpaired_difference(
    first: tuple[float, int], second: tuple[float, int], *, comparisons: int = 1
) -> AccuracyDifference:
    """Compares two accuracies, each with its number of images (Newcombe 1998, method 10).

    Conservative if the images are the same: they are treated as two independent draws.
    """
    level = 1 - (1 - LEVEL) / comparisons
    (one, _), (other, _) = first, second
    (one_low, one_high), (other_low, other_high) = (
        wilson(*each, level) for each in (first, second)
    )
    difference = other - one
    low = difference - math.hypot(other - other_low, one_high - one)
    high = difference + math.hypot(other_high - other, one - one_low)
    return AccuracyDifference(difference, low, high, None, not low <= 0 <= high)


class Estimate(NamedTuple):
    """A statistic of `n` rows with its interval, which is infinite where nothing says its noise."""

    value: float
    low: float
    high: float
    n: int

    @property
    def told_apart(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


def clustered(
    statistic: Callable[[NDArray[np.bool_]], float],
    *clusters: pd.Series[Any],
    comparisons: int = 1,
) -> Estimate:
    """The statistic of all rows, where rows of one cluster share what moves them.

    `statistic` takes which rows to keep; `clusters`, one or two, name each row's. The variance is
    the jackknife's that leaves out one cluster at a time (Hansen 2022, "Jackknife standard errors
    for clustered regression"), for two kinds of clusters their sum without that of the rows that
    share both (Cameron, Gelbach and Miller 2011), and not below either. Student's interval, with
    the clusters of the kind that has fewest; `comparisons` hold together (Bonferroni).
    """
    import numpy as np

    labels = [np.unique(each, return_inverse=True)[1] for each in clusters]
    count, half = len(clusters[0]), math.inf
    value = statistic(np.ones(count, dtype=bool))
    freedom = min(int(each.max()) for each in labels)
    if freedom:
        from scipy.stats import t

        singles = [_jackknifed(statistic, each) for each in labels]
        variance = singles[0]
        if len(labels) > 1:
            both = np.unique(np.stack(labels), axis=1, return_inverse=True)[1].reshape(-1)
            variance = max(*singles, sum(singles) - _jackknifed(statistic, both))
        tail = (1 - LEVEL) / comparisons / 2
        half = float(t.isf(tail, freedom)) * math.sqrt(variance)
    return Estimate(value, value - half, value + half, count)


def _jackknifed(
    statistic: Callable[[NDArray[np.bool_]], float], labels: NDArray[np.integer]
) -> float:
    """The variance of a statistic by leaving out the rows of one label at a time.

    Infinite where the statistic cannot do without one of them, and is not a number.
    """
    values = [statistic(labels != cluster) for cluster in range(int(labels.max()) + 1)]
    mean = fmean(values)
    variance = (len(values) - 1) / len(values) * sum((each - mean) ** 2 for each in values)
    return math.inf if math.isnan(variance) else variance
