"""A Gaussian process over how growth is shared: what each candidate is worth at equal cost.

Accuracy = level of the block + slope · cost + smooth function of the shares + effect of the
candidate + noise. The levels have flat priors, and the noise's variance σ² the prior 1/σ², so that
for given length scale and variance ratios all is in closed form (Rasmussen and Williams 2006,
section 2.7; the restricted likelihood: Harville 1974). Those are not fitted but averaged over,
weighted by their likelihood: from a few training runs one best-fit length scale is a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from scaling.response_surface import SurfacePoint

Array = NDArray[np.float64]

#: What is averaged over, each as likely as another (assumed): length scales, where growth in one
#: dimension alone is at a distance of 1 from growth in another; and over the noise's variance,
#: those of the smooth function, of the candidates' effects, and of the slope (for a doubling).
_LENGTHS = (0.15, 0.3, 0.6, 1.2)
_SMOOTH = (0.1, 0.5, 2.0, 8.0, 40.0)
_EFFECTS = (0.0, 0.1, 0.5)
_SLOPES = (3.0, 100.0)


@dataclass(frozen=True, slots=True)
class Posterior:
    """`means` are the candidates' accuracies at equal cost, `covariance` their uncertainty.

    Both are fractions (or their squares), relative to the mean over the candidates.
    """

    means: Array
    covariance: Array

    def deviation(self, one: int, other: int | None = None) -> float:
        """The standard deviation of a candidate's mean, or of its difference to another's."""
        contrast = np.zeros(len(self.means))
        contrast[one] += 1
        if other is not None:
            contrast[other] -= 1
        return float(np.sqrt(contrast @ self.covariance @ contrast))


def posterior(points: Sequence[SurfacePoint]) -> Posterior | None:
    """The posterior of the points' candidates, in order of their number.

    None with fewer than two points more than blocks.
    """
    depth, width, doublings, owner, block, accuracy = np.array(points, dtype=float).reshape(-1, 6).T
    count = len(np.unique(owner))
    levels = (block[:, None] == np.unique(block)).astype(float)
    freedom = len(points) - levels.shape[1]
    if freedom < 2:
        return None
    member = (owner[:, None] == np.arange(count)).astype(float)
    first = member.argmax(axis=0)
    shares = np.column_stack([depth, width, 1 - depth - width])[first]
    excess = doublings - doublings.mean()
    squares = ((shares[:, None] - shares[None]) ** 2).sum(axis=2) / 2

    settings = np.array(list(product(_LENGTHS, _SMOOTH, _EFFECTS, _SLOPES)))
    length, smooth, effect, slope = settings.T[:, :, None, None]
    between = smooth * np.exp(-squares / (2 * length**2)) + effect * np.eye(count)
    prior = member @ between @ member.T + slope * np.outer(excess, excess)
    inverse = np.linalg.inv(prior + np.eye(len(points)))
    information = levels.T @ inverse @ levels
    projected = inverse - inverse @ levels @ np.linalg.solve(information, levels.T @ inverse)
    weighted = projected @ accuracy
    squared = np.maximum(weighted @ accuracy, 1e-30)
    likelihood = (
        np.linalg.slogdet(inverse)[1]
        - np.linalg.slogdet(information)[1]
        - freedom * np.log(squared)
    ) / 2
    weights = np.exp(likelihood - likelihood.max())
    weights /= weights.sum()

    centre = np.eye(count) - 1 / count
    to_points = centre @ between @ member.T
    means = (to_points @ weighted[:, :, None])[:, :, 0]
    left = centre @ between @ centre - to_points @ projected @ to_points.swapaxes(1, 2)
    mean = weights @ means
    off = means - mean
    covariances = left * (squared / freedom)[:, None, None] + off[:, :, None] * off[:, None, :]
    return Posterior(mean, np.tensordot(weights, covariances, axes=1))
