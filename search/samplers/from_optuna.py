"""Optuna's own samplers as methods: fresh for every trial, seeded from seed and trial number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.candidates import Candidates, Rows
from search.optuna_internals import (
    BatchedCategoricals,
    MixtureOfProducts,
    default_gamma,
    default_gamma_multiobjective,
    split_trials,
)
from search.samplers.base import History, Method
from search.snapshot import Snapshot
from search.study import FINISHED

Floats = NDArray[np.float64]

#: Proposals for one trial before the last of them is changed until it may be trained (assumed).
_PROPOSALS = 5


class _TPE(samplers.TPESampler):
    """Optuna's TPE, which makes its estimators once for all choices and all proposals of a trial.

    Optuna makes them anew for each choice and proposal, and reads all trials again for it
    (`search.optuna_internals` says what that takes). `together` is multivariate TPE.
    """

    def __init__(self, seed: int, candidates: Candidates, *, together: bool) -> None:
        super().__init__(seed=seed, multivariate=True)
        self._candidates = candidates
        self._together = together
        self._made: list[MixtureOfProducts] = []

    def _sample(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._made = self._made or self._estimators(study, trial, search_space)
        good, bad = self._made
        if self._together:
            values = good.sample(self._rng.rng, self._n_ei_candidates)
            best = values[(good.log_pdf(values) - bad.log_pdf(values)).argmax()].astype(int)
        else:
            pairs = zip(chances(good), chances(bad), strict=True)
            best = np.array([self._drawn(*pair) for pair in pairs])
        return {
            name: choices.to_external_repr(index)
            for (name, choices), index in zip(search_space.items(), best.tolist(), strict=True)
        }

    def _drawn(self, good: Floats, bad: Floats) -> int:
        """Of some values of one choice, drawn by the good trials' chances, the most telling."""
        values = self._rng.rng.choice(len(good), self._n_ei_candidates, p=good)
        return int(values[(good[values] / bad[values]).argmax()])

    def _estimators(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> list[MixtureOfProducts]:
        """Of the good trials and of the others."""
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        trials = [t for t in others if t.state in (*FINISHED, TrialState.RUNNING)]
        ended = sum(t.state in FINISHED for t in trials)
        gamma = default_gamma_multiobjective if len(study.directions) > 1 else default_gamma
        return [
            self._build_parzen_estimator(study, search_space, part, good)._mixture_distribution
            for part, good in zip(
                split_trials(study, trials, gamma(ended)), (True, False), strict=True
            )
        ]

    def _get_internal_repr(
        self,
        trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
        study: Study,  # noqa: ARG002
    ) -> dict[str, Rows]:
        rows = self._candidates.rows(trial.params for trial in trials)
        places = {name: place for place, name in enumerate(self._candidates.distributions)}
        return {name: rows[:, places[name]] for name in search_space}


def chances(mixture: MixtureOfProducts) -> list[Floats]:
    """The chance of each value of each choice by itself."""
    choices = mixture.distributions
    return [mixture.weights @ c.weights for c in choices if isinstance(c, BatchedCategoricals)]


def tpe(seed: int, candidates: Candidates) -> BaseSampler:
    """The tree-structured Parzen estimator, each choice by itself (Bergstra et al. 2011)."""
    return _TPE(seed, candidates, together=False)


def tpe_multivariate(seed: int, candidates: Candidates) -> BaseSampler:
    """The same estimator of all choices together (Falkner et al. 2018)."""
    return _TPE(seed, candidates, together=True)


def nsga2(seed: int, _: Candidates) -> BaseSampler:
    """NSGA-II, a genetic algorithm for several objectives (Deb et al. 2002)."""
    return samplers.NSGAIISampler(seed=seed)


def nsga3(seed: int, _: Candidates) -> BaseSampler:
    """NSGA-III, for many objectives (Deb and Jain 2014)."""
    return samplers.NSGAIIISampler(seed=seed)


def gp(seed: int, _: Candidates) -> BaseSampler:
    """Optuna's Gaussian process of the value; it needs torch and slows down with trials."""
    return samplers.GPSampler(seed=seed, deterministic_objective=False)


def brute_force(seed: int, _: Candidates) -> BaseSampler:
    """Every combination, in random order."""
    return samplers.BruteForceSampler(seed=seed)


def wrapped(create: Callable[[int, Candidates], BaseSampler]) -> Method:
    """The method that asks the sampler `create(seed, candidates)`, a new one for each trial."""

    def method(
        candidates: Candidates, history: History, rng: np.random.Generator
    ) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = create(int(rng.integers(2**31)), candidates)
        for _ in range(_PROPOSALS):
            yield _ask(sampler, candidates, history)

    return method


def _ask(
    sampler: BaseSampler, candidates: Candidates, history: History
) -> tuple[Rows, Mapping[str, Any]]:
    trial = create_trial(state=TrialState.RUNNING)
    trial.number = history.number
    directions = [StudyDirection[name.upper()] for name in candidates.objective.directions]
    snapshot = Snapshot([*history.trials, trial], directions)
    study = snapshot.study("search", sampler)
    sampler.before_trial(study, trial)
    relative = sampler.sample_relative(study, trial, _relative(sampler, candidates))
    for name, distribution in candidates.distributions.items():
        trial.params[name] = (
            relative[name]
            if name in relative
            else sampler.sample_independent(study, trial, name, distribution)
        )
        trial.distributions[name] = distribution
    return candidates.row(trial.params), snapshot.notes


def _relative(sampler: BaseSampler, candidates: Candidates) -> dict[str, BaseDistribution]:
    """The choices that `sampler` draws together.

    Optuna compares the choices of all trials for it, which here are always the whole space (0.3 s
    for 1,000 trials of 28 choices, measured).
    """
    if isinstance(sampler, samplers.BruteForceSampler):
        return {}
    spaces = candidates.distributions.items()
    return {name: choices for name, choices in spaces if not choices.single()}
