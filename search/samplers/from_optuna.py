"""Optuna's own samplers as methods: fresh for every trial, seeded from seed and trial number."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from optuna import samplers
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.candidates import Candidates, Floats, Rows
from search.optuna_internals import (
    MixtureOfProducts,
    default_gamma,
    default_gamma_multiobjective,
    split_trials,
)
from search.samplers.base import History, Method, Proposals
from search.snapshot import Snapshot
from search.study import FINISHED

#: Proposals per trial, before the last of them is changed until it may be trained (assumed).
_PROPOSALS = 5


class _TPE(samplers.TPESampler):
    """Optuna's TPE, with its estimators fitted once for all choices and proposals of a trial.

    Optuna fits them for each choice and proposal, and reads all trials each time
    (`search.optuna_internals` has the times). `together` is multivariate TPE.
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
        """The value of one choice that sets the good trials apart most, of some drawn from them."""
        values = self._rng.rng.choice(len(good), self._n_ei_candidates, p=good)
        return int(values[(good[values] / bad[values]).argmax()])

    def _estimators(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> list[MixtureOfProducts]:
        """The estimators of the good trials and of the others."""
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
    """The probability of each value of each choice by itself."""
    # All of them are categorical.
    return [mixture.weights @ each.weights for each in mixture.distributions]  # type: ignore[union-attr]


#: Each sampler by name, made from a seed and the candidates.
SAMPLERS: dict[str, Callable[[int, Candidates], BaseSampler]] = {
    # The tree-structured Parzen estimator, each choice by itself (Bergstra et al. 2011).
    "tpe": lambda seed, candidates: _TPE(seed, candidates, together=False),
    # The same estimator of all choices together (Falkner et al. 2018).
    "tpe_multivariate": lambda seed, candidates: _TPE(seed, candidates, together=True),
    # Genetic algorithms for several and for many objectives (Deb et al. 2002; Deb and Jain 2014).
    "nsga2": lambda seed, _: samplers.NSGAIISampler(seed=seed),
    "nsga3": lambda seed, _: samplers.NSGAIIISampler(seed=seed),
    # A Gaussian process of the value; it needs torch and slows down with trials.
    "gp": lambda seed, _: samplers.GPSampler(seed=seed, deterministic_objective=False),
    # Every combination, in random order.
    "brute_force": lambda seed, _: samplers.BruteForceSampler(seed=seed),
}


def wrapped(create: Callable[[int, Candidates], BaseSampler]) -> Method:
    """The method that asks the sampler `create(seed, candidates)`, a new one for each trial."""

    def method(candidates: Candidates, history: History, rng: np.random.Generator) -> Proposals:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = create(int(rng.integers(2**31)), candidates)
        for _ in range(_PROPOSALS):
            trial = create_trial(state=TrialState.RUNNING)
            trial.number = history.number
            directions = [StudyDirection[name.upper()] for name in candidates.objective.directions]
            snapshot = Snapshot([*history.trials, trial], directions)
            _fill(trial, snapshot.study("search", sampler), candidates)
            yield candidates.row(trial.params), snapshot.notes

    return method


def _fill(trial: FrozenTrial, study: Study, candidates: Candidates) -> None:
    """Gives `trial` a value for each choice, drawn by the study's sampler as `study.ask` does.

    The choices to draw together are not inferred from all trials, as in Optuna (0.3 s for 1,000
    trials of 28 choices, measured): here every trial has the whole space.
    """
    sampler, distributions = study.sampler, candidates.distributions
    sampler.before_trial(study, trial)
    one_by_one = isinstance(sampler, samplers.BruteForceSampler)
    together = {} if one_by_one else {n: d for n, d in distributions.items() if not d.single()}
    drawn = sampler.sample_relative(study, trial, together)
    for name, distribution in distributions.items():
        trial.params[name] = (
            drawn[name]
            if name in drawn
            else sampler.sample_independent(study, trial, name, distribution)
        )
        trial.distributions[name] = distribution
