"""Search by a model of accuracy, times the exact factor of cost.

Cost is exact before training, so only accuracy is modelled: a model of the reward itself would have
to learn the bend at the target. Candidates are changed copies of the best so far (a trust region in
choices), improved by single choices on the model. How much uncertainty is favoured is drawn anew
for every trial, so that some trials explore and most do not; under noisy accuracies this works
where always taking the expected best gets stuck.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from optuna.trial import TrialState
from threadpoolctl import ThreadpoolController

from search.accuracy_model import AccuracyModel, Features, Scales, likeness, usual
from search.candidates import Candidates, Floats, Rows
from search.objective import Price
from search.samplers.base import History, Proposals
from search.samplers.model_free import uniform
from search.samplers.observations import Observations, observe
from space import moves

#: Random trials before there is a model (assumed), and the same with a prior.
_START, _START_WITH_PRIOR = 16, 4

#: A search of fewer trials begins with the space's base network, and random trials up to a quarter
#: of its trials, within these limits, and one. Longer searches gain nothing by that (both measured:
#: experiments/results/samplers.json).
_SHORT = 50
_LEAST_START, _MOST_START = 4, 15

#: Mean of the exponential distribution from which the weight of one standard deviation is drawn
#: (measured: with noise 3 to 5 beat 1 and 2, and without it they were level).
_BOLDNESS = 4.0

#: Length scales, relative to the usual ones, for likeness to failed networks, which is avoided
#: (assumed).
_ALIKE = 0.3

#: Best trials whose copies are changed, copies of them all together, and the chance that a copy has
#: no further change (assumed; twice as many of each made no difference).
_PARENTS, _COPIES, _LAST_CHANGE = 5, 1_000, 0.4

#: Steps of the search on the model, each to the neighbours of this many.
_STEPS, _CLIMBERS = 8, 3

#: Random candidates if every copy lies outside the bounds.
_FEW = 32

#: Observations in the model: the best and the last of each half as many (measured: 0.1 s a trial).
_ROWS = 500

#: Weight of the sum of losses beside the largest (Knowles 2006).
_SUM_WEIGHT = 0.05

#: Length scales are fitted again when there are this many times more observations (assumed).
_REFIT = 1.15

#: What a trial should maximise, from N rows and their accuracies.
Aim = Callable[[Rows, Floats], Floats]


class Predictor:
    """A `Method`; `prior` is what earlier searches of the same choices measured.

    `trials` is the length of the search, None if unknown: a short one begins with networks that one
    need not search for (`Candidates.unsearched`) and few random ones. The predictor caches what it
    computed and keeps no other state: the same history always gives the same proposals.
    """

    def __init__(self, prior: Observations | None = None, trials: int | None = None) -> None:
        self._prior = prior
        self._is_short = prior is None and trials is not None and trials < _SHORT
        self._start = _START_WITH_PRIOR if prior is not None else random_starts(trials)
        self._features: Features | None = None
        self._scales: dict[bytes, Scales] = {}
        # With matrices this small, threads only wait for each other: twice the time on two idle
        # cores (measured), and beside training runs they slow those down.
        self._threads = ThreadpoolController()

    def __call__(
        self, candidates: Candidates, history: History, rng: np.random.Generator
    ) -> Proposals:
        """Candidates with the greatest optimistic reward, best first."""
        if self._is_short and history.number < len(candidates.unsearched):
            yield candidates.unsearched[history.number], {}
            return
        seen = observe(candidates, history.valued)
        if len(seen) < self._start + self._is_short:
            yield from uniform(candidates, history, rng)
            return
        with self._threads.limit(limits=1, user_api="blas"):
            proposals = self._proposals(candidates, history, seen, rng)
        for row in proposals:
            yield row, {}

    def _proposals(
        self,
        candidates: Candidates,
        history: History,
        seen: Observations,
        rng: np.random.Generator,
    ) -> Rows:
        features = self._features_of(candidates)
        scales = self._scales_of(features, seen)
        aim = _aim(candidates, seen, rng)
        seen = _relevant(aim, seen)
        design = features(seen.rows)
        model = AccuracyModel(design, seen.accuracy, scales=scales, doubt=seen.doubt)
        parents = seen.rows[np.argsort(-aim(seen.rows, model.expect(design)))]
        if len(pending := history.rows(candidates, TrialState.RUNNING)):
            model = model.believing(features(pending))  # so that a batch spreads out
        failed = features(history.rows(candidates, TrialState.FAIL))
        alike = usual(design).stretched(_ALIKE)
        boldness = rng.exponential(_BOLDNESS)

        def optimism(rows: Rows) -> Floats:
            new = features(rows)
            accuracy, deviation = model(new)
            reward = aim(rows, accuracy + boldness * deviation)
            if len(failed):
                ill, well = (likeness(new, of, alike).sum(axis=1) for of in (failed, design))
                reward /= 1 + ill / (1 + well)
            return reward

        return _best(candidates, optimism, parents[:_PARENTS], rng)

    def _features_of(self, candidates: Candidates) -> Features:
        if self._features is None:
            self._features = Features(candidates.table)
            if self._prior is not None:
                known = AccuracyModel(self._features(self._prior.rows), self._prior.accuracy)
                self._features = Features(candidates.table, known)
        return self._features

    def _scales_of(self, features: Features, seen: Observations) -> Scales:
        """Fitted to as many of the first complete trials as there were at the last refit."""
        complete = seen[seen.doubt == 0]
        count = float(_START_WITH_PRIOR)
        if len(complete) < count:
            return usual(features(seen.rows))
        while count * _REFIT <= len(complete):
            count *= _REFIT
        first = complete[: int(count)]
        name = first.rows.tobytes() + first.accuracy.tobytes()
        if name not in self._scales:
            self._scales[name] = AccuracyModel(features(first.rows), first.accuracy).scales
        return self._scales[name]


def random_starts(trials: int | None) -> int:
    """Random trials before there is a model, in a search of so many `trials`; None if unknown."""
    if trials is None or trials >= _SHORT:
        return _START
    return min(max(trials // 4, _LEAST_START), _MOST_START)


def _aim(candidates: Candidates, seen: Observations, rng: np.random.Generator) -> Aim:
    """The reward; with several objectives a random scalarization, drawn anew for each trial.

    It is the augmented Chebyshev function (Knowles 2006, ParEGO, equation 2) of the losses, each
    scaled to the range seen, so that together the trials cover the front.
    """
    objective = candidates.objective
    if not objective.pareto:
        return lambda rows, accuracy: accuracy * candidates.factors(rows)
    columns = [Price._fields.index(name) for name in objective.pareto]
    weights = rng.dirichlet(np.ones(1 + len(columns)))

    def losses(rows: Rows, accuracy: Floats) -> Floats:
        return np.column_stack([-accuracy, np.log(candidates.prices(rows)[:, columns])])

    known = losses(seen.rows, seen.accuracy)
    least, span = known.min(axis=0), np.maximum(np.ptp(known, axis=0), 1e-9)

    def joined(rows: Rows, accuracy: Floats) -> Floats:
        weighted = weights * (losses(rows, accuracy) - least) / span
        return np.asarray(np.exp(-weighted.max(axis=1) - _SUM_WEIGHT * weighted.sum(axis=1)))

    return joined


def _relevant(aim: Aim, seen: Observations) -> Observations:
    """At most `_ROWS` observations: the best and the last."""
    if len(seen) <= _ROWS:
        return seen
    order = np.argsort(-aim(seen.rows, seen.accuracy), kind="stable")
    best = order[: _ROWS // 2]
    last = np.setdiff1d(np.arange(len(seen)), best)[-(_ROWS // 2) :]
    return seen[np.sort(np.concatenate([best, last]))]


def _best(
    candidates: Candidates,
    optimism: Callable[[Rows], Floats],
    parents: Rows,
    rng: np.random.Generator,
) -> Rows:
    """Candidates of great optimism, best first.

    These are changed copies of the parents and the neighbours of the first of them, and then what a
    climb by single choices finds from the best.
    """
    sizes = candidates.sizes
    copies = parents[rng.integers(len(parents), size=_COPIES)]
    changes = rng.geometric(_LAST_CHANGE, _COPIES)
    found = np.vstack(
        [moves.neighbours(parents[0], sizes), moves.mutated(copies, sizes, changes, rng)]
    )
    found = _within(candidates, found)
    if len(found) == 0:
        found = candidates.sample(_FEW, rng)
    values = optimism(found)
    for _ in range(_STEPS):
        climbers = found[np.argsort(-values, kind="stable")[:_CLIMBERS]]
        around = _within(candidates, np.vstack([moves.neighbours(c, sizes) for c in climbers]))
        height = values.max()
        found, values = np.vstack([found, around]), np.concatenate([values, optimism(around)])
        if values.max() <= height:
            break
    return found[np.argsort(-values, kind="stable")]


def _within(candidates: Candidates, rows: Rows) -> Rows:
    """The distinct `rows` within the bounds."""
    rows = np.unique(rows, axis=0)
    return np.asarray(rows[candidates.within(rows)])
