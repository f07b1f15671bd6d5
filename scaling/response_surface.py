"""A quadratic response surface over the shares of growth, and its maximum at equal cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.comparison import RESERVE

if TYPE_CHECKING:
    from scaling.heats import HeatResult

Array = NDArray[np.float64]

#: Candidates that the surface needs: with nine its optimum is near random (simulated).
MIN_CANDIDATES = 15

#: Below this probability of so large a lack of fit the surface is said not to fit.
LACK_OF_FIT = 0.05

#: Draws of the optimum, and steps of a share on the surface (assumed).
_DRAWS = 2_000
_STEPS = 50

#: What is left of a residual's freedom, at least, by which it is divided (assumed).
_MIN_FREEDOM = 0.1


class SurfacePoint(NamedTuple):
    """A training run as the surface sees it: whose, how growth is shared, its cost, its accuracy.

    `depth` and `width` are their shares of the growth of MACs (resolution has the rest),
    `doublings` is log2 of the MACs over the baseline's, `candidate` a number for each network, and
    `block` one for each combination of epochs and seed.
    """

    depth: float
    width: float
    doublings: float
    candidate: int
    block: int
    accuracy: float


def points_of(results: Iterable[HeatResult]) -> list[SurfacePoint]:
    """The points of the runs that were trained to their end, candidates in order of appearance."""
    candidates: dict[str, int] = {}
    blocks: dict[tuple[int, int], int] = {}
    return [
        SurfacePoint(
            depth=each.candidate.shares.depth,
            width=each.candidate.shares.width,
            doublings=math.log2(each.candidate.realised_ratio),
            candidate=candidates.setdefault(each.candidate.label, len(candidates)),
            block=blocks.setdefault((each.epochs, each.seed), len(blocks)),
            accuracy=each.accuracy,
        )
        for each in results
        if each.accuracy is not None
    ]


@dataclass(frozen=True, slots=True)
class Surface:
    """Where a quadratic surface through all training runs is highest: shares of the growth of MACs.

    `shares` are those of depth, width and resolution. `lack_of_fit` is the probability of residuals
    that lie so far from a quadratic (None where no network was trained twice). If the truth is a
    quadratic, each of `intervals` holds it with probability `level`; there are none where the
    surface does not fit. `deviation` is that of the runs from the surface.
    """

    shares: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    lack_of_fit: float | None
    deviation: float
    level: float

    @property
    def fits(self) -> bool:
        """Whether a lack of fit was not found."""
        return self.lack_of_fit is None or self.lack_of_fit >= LACK_OF_FIT


def fit_surface(points: Sequence[SurfacePoint], level: float = 0.95) -> Surface | None:
    """The quadratic surface over the shares of depth and width, and its optimum at equal cost.

    Beside the quadratic it has a level for each block, and a slope for cost, so that more expensive
    candidates are not taken for better ones. The optimum is sought where all shares are at least 0;
    its intervals are those of surfaces drawn around the fit, with errors that allow for noise that
    differs by candidate. None with fewer than 15 candidates or too few runs to determine it.
    """
    if len({point.candidate for point in points}) < MIN_CANDIDATES:
        return None
    depth, width, doublings, candidate, block, accuracy = np.array(points, dtype=float).T
    levels = (block[:, None] == np.unique(block)).astype(float)
    nuisance = np.column_stack([levels, doublings])
    shape = _quadratic(depth, width)
    design = np.hstack([shape, nuisance])
    rank = np.linalg.matrix_rank(design)
    freedom = int(len(points) - rank)
    if freedom < 1 or rank < np.linalg.matrix_rank(nuisance) + shape.shape[1]:
        return None

    solve = np.linalg.pinv(design)
    solution = solve @ accuracy
    squares = float(((accuracy - design @ solution) ** 2).sum())
    own = (candidate[:, None] == np.unique(candidate)).astype(float)
    lack = _lack_of_fit(squares, freedom, np.hstack([own, levels]), accuracy)
    terms = shape.shape[1]
    found = Surface(
        shares=tuple(_optima(solution[None, :terms])[0].tolist()),
        intervals=(),
        lack_of_fit=lack,
        deviation=math.sqrt(squares / freedom),
        level=level,
    )
    if not found.fits:
        return found
    # MacKinnon and White (1985), HC3: the noise of one run may be larger than that of another.
    leverage = np.einsum("ij,ji->i", design, solve)
    errors = (accuracy - design @ solution) / np.maximum(1 - leverage, _MIN_FREEDOM)
    generator = np.random.default_rng(0)
    normal = generator.standard_normal((_DRAWS, len(points))) * errors
    heavier = np.sqrt(freedom / generator.chisquare(freedom, _DRAWS))
    draws = solution[:terms] + heavier[:, None] * (normal @ solve[:terms].T)
    outside = (1 - RESERVE) * (1 - level) / 2
    low, high = np.quantile(_optima(draws), [outside, 1 - outside], axis=0)
    return replace(found, intervals=tuple(zip(low.tolist(), high.tolist(), strict=True)))


def _lack_of_fit(squares: float, freedom: int, saturated: Array, accuracy: Array) -> float | None:
    """The F test of the surface against a level for each candidate; None without replicates."""
    from scipy.stats import f

    pure_freedom = int(len(accuracy) - np.linalg.matrix_rank(saturated))
    if not 0 < pure_freedom < freedom:
        return None
    solution = np.linalg.pinv(saturated) @ accuracy
    pure = float(((accuracy - saturated @ solution) ** 2).sum())
    more = freedom - pure_freedom
    if pure == 0:
        return 1.0 if squares == 0 else 0.0
    ratio = max(0.0, squares - pure) / more / (pure / pure_freedom)
    return float(f.sf(ratio, more, pure_freedom))


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
