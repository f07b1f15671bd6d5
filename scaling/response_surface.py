"""A quadratic response surface over the shares of growth of depth and width, and its optimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Resamplings of the surface, and steps of a share on it (assumed).
_RESAMPLES = 1_000
_STEPS = 50


class SurfacePoint(NamedTuple):
    """A training as the surface sees it: how its growth is shared, its relative cost, its accuracy.

    `depth` and `width` are their shares of the growth of MACs (resolution has the rest),
    `excess` is ln(realised growth) / ln(wanted growth) − 1, and `block` says which trainings had
    the same epochs and seed.
    """

    depth: float
    width: float
    excess: float
    block: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Surface:
    """Where a smooth surface through all trainings is highest: shares of the growth of MACs.

    `shares` are those of depth, width and resolution; `intervals` hold `level` of the bootstrap's
    optima for each. `deviation` is that of the trainings from the surface.
    """

    shares: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    deviation: float
    level: float


def fit_surface(points: Sequence[SurfacePoint], level: float = 0.95) -> Surface | None:
    """The quadratic surface over the shares of depth and width, and its optimum at equal cost.

    Beside the quadratic it has a level for each block, and a slope for cost, so that dearer
    candidates are not taken for better ones. The optimum is sought where all shares are at least 0;
    its intervals come from a bootstrap of the residuals. None where the trainings are too few to
    determine it.
    """
    if not points:
        return None
    depth, width, excess, block, accuracy = np.array(points, dtype=float).T
    nuisance = np.column_stack([block[:, None] == np.unique(block), excess])
    shape = _quadratic(depth, width)
    design = np.hstack([shape, nuisance])
    rank = np.linalg.matrix_rank(design)
    freedom = len(points) - rank
    if freedom < 1 or rank < np.linalg.matrix_rank(nuisance) + shape.shape[1]:
        return None

    solve = np.linalg.pinv(design)
    fitted = design @ (solve @ accuracy)
    residuals = accuracy - fitted
    spread = residuals * math.sqrt(len(points) / freedom)
    resampled = np.random.default_rng(0).choice(spread, (_RESAMPLES, len(points)))
    optima = _optima(((fitted + resampled) @ solve.T)[:, : shape.shape[1]])
    optimum = _optima((solve @ accuracy)[None, : shape.shape[1]])[0]
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(optima, tails, axis=0)
    return Surface(
        shares=tuple(float(share) for share in optimum),
        intervals=tuple((float(least), float(most)) for least, most in zip(low, high, strict=True)),
        deviation=math.sqrt((residuals**2).sum() / freedom),
        level=level,
    )


def _quadratic(depth: Array, width: Array) -> Array:
    return np.column_stack([depth, width, depth**2, width**2, depth * width])


def _optima(coefficients: Array) -> Array:
    """The shares of depth, width and resolution at the top of each surface (rows), to 0.02."""
    steps = np.arange(_STEPS + 1)
    depth, width = (grid.ravel() / _STEPS for grid in np.meshgrid(steps, steps))
    inside = depth + width <= 1
    depth, width = depth[inside], width[inside]
    top = (coefficients @ _quadratic(depth, width).T).argmax(axis=1)
    shares: Array = np.column_stack([depth, width, np.abs(1 - depth - width)])
    highest: Array = shares[top]
    return highest
