"""A Gaussian process of accuracy over choices and exact costs.

It models −log(error), in which the effects of choices are closer to additive than in accuracy,
which has a ceiling. The covariance is a sum of two parts: one linear in every choice and in the log
costs of each stage and of the whole network; and the product over stages of 1 + k, with k a Matérn
5/2 kernel, which covers stages alone, in pairs, in threes and so on (an ANOVA kernel; Duvenaud et
al. 2011, "Additive Gaussian Processes", section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from space import moves
from space.cost import Cost
from space.cost_table import CostTable, Floats, Integers

_PARAMS = Cost._fields.index("params")

#: Combinations whose features set the scale of all (assumed).
_REFERENCE = 2_000

#: Weight of the product part beside the linear one (measured).
_NEAR = 25.0

#: Length scales of log costs and of stages, and the noise variance, at which a fit starts
#: (measured: about the result of 200 networks).
_LENGTH, _NOISE = 5.0, 0.1

#: Penalties on the logarithms of lengths and of the noise, per squared distance from the start
#: (assumed): half the inverse variance of a normal prior. They stay within a factor of e⁴.
_HELD_LENGTH, _HELD_NOISE, _FARTHEST = 1.0, 0.05, 4.0

#: Weight of a prior's predictions, beside features of unit deviation (assumed).
_PRIOR_WEIGHT = 3.0

#: Evaluations of the likelihood in one fit, and how many of the last rows it uses (measured: more
#: change little).
_FIT_EVALUATIONS, _FIT_ROWS = 20, 600


@dataclass(frozen=True, slots=True)
class DesignMatrix:
    """Features of N rows: `linear`, N × L; `costs`, N × 3; `stages`, N × S.

    Distances are those of `costs` and, for stage s, of the features `points[s][stages[:, s]]`.
    """

    linear: Floats
    costs: Floats
    stages: Integers
    points: tuple[Floats, ...]

    def __getitem__(self, index: slice | NDArray[np.intp]) -> DesignMatrix:
        linear, costs = self.linear[index], self.costs[index]
        return replace(self, linear=linear, costs=costs, stages=self.stages[index])

    def __add__(self, other: DesignMatrix) -> DesignMatrix:
        return replace(
            self,
            linear=np.vstack([self.linear, other.linear]),
            costs=np.vstack([self.costs, other.costs]),
            stages=np.vstack([self.stages, other.stages]),
        )

    def __len__(self) -> int:
        return len(self.linear)


class Features:
    """The features of a space's rows, of mean 0 and deviation 1 over the whole space.

    `prior`, a model of other measurements of the same choices, adds its prediction as a feature.
    """

    def __init__(self, table: CostTable, prior: AccuracyModel | None = None) -> None:
        self._table = table
        self._prior = prior
        rows = moves.uniform(table.sizes, _REFERENCE, np.random.default_rng(0))
        self._mean, self._scale = [], []
        for raw in self._raw(rows, self._entries(rows)):
            self._mean.append(raw.mean(axis=0))
            self._scale.append(np.maximum(raw.std(axis=0), 1e-9))
        self._points = tuple(map(self._points_of, range(len(table.stages))))

    def __call__(self, rows: Integers) -> DesignMatrix:
        """The features of `rows`, N × choices."""
        entries = self._entries(rows)
        values, stages, costs = self._raw(rows, entries)
        values = values - self._mean[0]
        stages = (stages - self._mean[1]) / self._scale[1]
        costs = (costs - self._mean[2]) / self._scale[2]
        design = DesignMatrix(
            linear=np.hstack(
                [values / np.sqrt(rows.shape[1]), stages / np.sqrt(stages.shape[1]), costs]
            ),
            costs=costs,
            stages=entries,
            points=self._points,
        )
        if self._prior is None:
            return design
        predicted = _PRIOR_WEIGHT * self._prior.standardised(design)
        return replace(design, linear=np.column_stack([design.linear, predicted]))

    def _entries(self, rows: Integers) -> Integers:
        return np.column_stack(self._table.entries(rows))

    def _raw(self, rows: Integers, entries: Integers) -> tuple[Floats, Floats, Floats]:
        """Choices one-hot, log costs of each stage, log costs of the whole network."""
        one_hot = [np.eye(size)[rows[:, place]] for place, size in enumerate(self._table.sizes)]
        pairs = zip(self._table.stages, entries.T, strict=True)
        stages = [stage.costs[entry] for stage, entry in pairs]
        return np.hstack(one_hot), np.log(np.hstack(stages)), np.log(sum(stages))

    def _points_of(self, place: int) -> Floats:
        """Choices from 0 to 1 and standardised log parameters of each entry of a stage's table."""
        stage, column = self._table.stages[place], place * len(Cost._fields) + _PARAMS
        ordinal = stage.choices / np.maximum(stage.sizes - 1, 1)
        params = (np.log(stage.costs[:, _PARAMS]) - self._mean[1][column]) / self._scale[1][column]
        return np.column_stack([np.tile(ordinal, (len(params) // len(ordinal), 1)), params])


@dataclass(frozen=True, slots=True)
class Scales:
    """Length scales of log costs and of each stage, and the noise variance, as fitted.

    They are relative to features and targets of unit deviation.
    """

    lengths: tuple[float, ...]
    noise: float

    def stretched(self, factor: float) -> Scales:
        """The same with lengths `factor` times as long."""
        return replace(self, lengths=tuple(factor * length for length in self.lengths))


def usual(design: DesignMatrix) -> Scales:
    """The scales at which a fit to `design` starts, and stays if there are few data."""
    return Scales((_LENGTH,) * (1 + len(design.points)), _NOISE)


class AccuracyModel:
    """Accuracy (a fraction) of networks, learned from `design` and `accuracy`, N each.

    `doubt` is each accuracy's variance beyond the noise that all share; `scales` are fitted by
    default, starting from each of `noises`.
    """

    def __init__(
        self,
        design: DesignMatrix,
        accuracy: Floats,
        *,
        scales: Scales | None = None,
        doubt: Floats | None = None,
        noises: Sequence[float] = (_NOISE,),
    ) -> None:
        error = np.clip(1 - accuracy, 1e-6, 1.0)
        target = -np.log(error)
        self._design, self._accuracy = design, accuracy
        self._doubt = np.zeros(len(design)) if doubt is None else doubt
        self._mean, self._deviation = float(target.mean()), max(float(target.std()), 1e-9)
        standard = (target - self._mean) / self._deviation
        self.scales = scales or fit(design, standard, noises)
        own = self._doubt / (error * self._deviation) ** 2
        covariance = _covariance(design, design, self.scales)
        covariance[np.diag_indices_from(covariance)] += self.scales.noise + own
        self._factor = cholesky(covariance, lower=True, check_finite=False)
        self._whitened = solve_triangular(self._factor, standard, lower=True, check_finite=False)
        self._variance = float(self._whitened @ self._whitened) / len(design)

    def __call__(self, design: DesignMatrix) -> tuple[Floats, Floats]:
        """Expected accuracy of each row, and the standard deviation of that expectation."""
        across = _covariance(self._design, design, self.scales)
        explained = solve_triangular(self._factor, across, lower=True, check_finite=False)
        target = self._mean + self._deviation * (self._whitened @ explained)
        own = (design.linear**2).sum(axis=1) + _NEAR
        variance = np.maximum(own - (explained**2).sum(axis=0), 1e-12) * self._variance
        error = np.exp(-target)
        return 1 - error, error * self._deviation * np.sqrt(variance)

    def standardised(self, design: DesignMatrix) -> Floats:
        """Expected −log(error), standardised, N."""
        return np.asarray(_covariance(design, self._design, self.scales) @ self._weights)

    def expect(self, design: DesignMatrix) -> Floats:
        """Expected accuracy alone, which is faster."""
        return np.asarray(1 - np.exp(-self._mean - self._deviation * self.standardised(design)))

    def believing(self, design: DesignMatrix) -> AccuracyModel:
        """The model after measuring for `design` what this one expects: only more certain."""
        return AccuracyModel(
            self._design + design,
            np.concatenate([self._accuracy, self.expect(design)]),
            scales=self.scales,
            doubt=np.concatenate([self._doubt, np.zeros(len(design))]),
        )

    def noise(self, accuracy: Floats) -> Floats:
        """The fitted standard deviation of one measurement of networks with this `accuracy`."""
        deviation = self._deviation * float(np.sqrt(self.scales.noise * self._variance))
        return (1 - accuracy) * deviation

    @cached_property
    def _weights(self) -> Floats:
        upper = self._factor.T
        return np.asarray(solve_triangular(upper, self._whitened, lower=False, check_finite=False))


def fit(design: DesignMatrix, standard: Floats, noises: Sequence[float] = (_NOISE,)) -> Scales:
    """The scales of greatest posterior probability, by a prior around the usual ones.

    `standard` are the targets, of unit deviation. Of the fits started from each of `noises`, the
    best is returned.
    """
    design, standard = design[-_FIT_ROWS:], standard[-_FIT_ROWS:]
    count = len(standard)
    prior = np.log([*usual(design).lengths, _NOISE])
    held = np.array([*(_HELD_LENGTH for _ in prior[1:]), _HELD_NOISE])
    linear = design.linear @ design.linear.T

    def loss(logs: Floats) -> tuple[float, Floats]:
        """The negative log posterior, with the variance profiled out, and its gradient."""
        *lengths, noise = np.exp(logs).tolist()
        near, slopes = _near(design, design, Scales(tuple(lengths), noise), slopes=True)
        covariance = linear + near
        covariance[np.diag_indices(count)] += noise
        factor = cholesky(covariance, lower=True, check_finite=False)
        inverse = cho_solve((factor, True), np.eye(count), check_finite=False)
        weights = inverse @ standard
        square = float(standard @ weights)
        likelihood = count * np.log(square) / 2 + np.log(factor.diagonal()).sum()
        by_covariance = (inverse - count / square * np.outer(weights, weights)) / 2
        by_near = by_covariance * near
        by_lengths = [float((by_near * slope).sum()) for slope in slopes]
        gradient = np.array([*by_lengths, noise * by_covariance.trace()])
        away = logs - prior
        return float(likelihood + held @ away**2), gradient + 2 * held * away

    fits = [
        minimize(
            loss,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(each - _FARTHEST, each + _FARTHEST) for each in start],
            options={"maxfun": _FIT_EVALUATIONS, "ftol": 1e-4},
        )
        for start in (np.array([*prior[:-1], np.log(noise)]) for noise in noises)
    ]
    best = min(fits, key=lambda fit: float(fit.fun))
    *lengths, noise = np.exp(best.x).tolist()
    return Scales(tuple(lengths), noise)


def _covariance(first: DesignMatrix, second: DesignMatrix, scales: Scales) -> Floats:
    near, _ = _near(first, second, scales)
    near += first.linear @ second.linear.T
    return near


def likeness(first: DesignMatrix, second: DesignMatrix, scales: Scales) -> Floats:
    """∏ (1 + k) / 2 over costs and stages, N × M: 1 for equal rows, less per stage that differs."""
    return _near(first, second, scales)[0] / _NEAR


def _near(
    first: DesignMatrix, second: DesignMatrix, scales: Scales, *, slopes: bool = False
) -> tuple[Floats, list[Floats]]:
    """The product part of the covariance, N × M.

    With `slopes`, also the derivatives of its logarithm by that of each length scale.
    """
    costs, *lengths = scales.lengths
    rows, columns = np.arange(len(first)), np.arange(len(second))
    parts = [(cdist(first.costs, second.costs) / costs, rows, columns)]
    own = zip(first.points, first.stages.T, second.stages.T, lengths, strict=True)
    for points, here, there, length in own:
        # Few forms of a stage occur, so their distances are computed once.
        forms, rows = np.unique(here, return_inverse=True)
        others, columns = np.unique(there, return_inverse=True)
        parts.append((cdist(points[forms], points[others]) / length, rows, columns))
    near, found = np.full((len(first), len(second)), _NEAR), []
    for distance, rows, columns in parts:
        scaled = np.sqrt(5) * distance
        decay = np.exp(-scaled)
        half = 0.5 + 0.5 * (1 + scaled + scaled**2 / 3) * decay
        near *= half[:, columns][rows]
        if slopes:
            slope = scaled**2 * (1 + scaled) * decay / (6 * half)
            found.append(slope[:, columns][rows])
    return near, found
