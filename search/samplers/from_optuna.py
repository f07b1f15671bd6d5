"""Optuna's own samplers as methods: fresh for every proposal, seeded from seed and trial number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from optuna import samplers
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from search.candidates import Candidates, Rows
from search.samplers.base import History, Method
from search.snapshot import Snapshot

#: Proposals for one trial before the last of them is changed until it may be trained (assumed).
_PROPOSALS = 5


def tpe(seed: int) -> BaseSampler:
    """The tree-structured Parzen estimator, each choice by itself (Bergstra et al. 2011)."""
    return samplers.TPESampler(seed=seed, multivariate=False)


def tpe_multivariate(seed: int) -> BaseSampler:
    """The same estimator of all choices together (Falkner et al. 2018)."""
    return samplers.TPESampler(seed=seed, multivariate=True)


def nsga2(seed: int) -> BaseSampler:
    """NSGA-II, a genetic algorithm for several objectives (Deb et al. 2002)."""
    return samplers.NSGAIISampler(seed=seed)


def nsga3(seed: int) -> BaseSampler:
    """NSGA-III, for many objectives (Deb and Jain 2014)."""
    return samplers.NSGAIIISampler(seed=seed)


def gp(seed: int) -> BaseSampler:
    """Optuna's Gaussian process of the value; it needs torch and slows down with trials."""
    return samplers.GPSampler(seed=seed, deterministic_objective=False)


def brute_force(seed: int) -> BaseSampler:
    """Every combination, in random order."""
    return samplers.BruteForceSampler(seed=seed)


def wrapped(create: Callable[[int], BaseSampler]) -> Method:
    """The method that asks the sampler `create(seed)`, a new one for each proposal."""

    def method(
        candidates: Candidates, history: History, rng: np.random.Generator
    ) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
        for _ in range(_PROPOSALS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                sampler = create(int(rng.integers(2**31)))
            yield _ask(sampler, candidates, history)

    return method


def _ask(
    sampler: BaseSampler, candidates: Candidates, history: History
) -> tuple[Rows, Mapping[str, Any]]:
    trial = create_trial(state=TrialState.RUNNING)
    trial.number = history.number
    snapshot = Snapshot([*history.trials, trial], [StudyDirection.MAXIMIZE])
    study = snapshot.study("search", sampler)
    sampler.before_trial(study, trial)
    space = sampler.infer_relative_search_space(study, trial)
    relative = sampler.sample_relative(study, trial, space)
    for name, distribution in candidates.distributions.items():
        trial.params[name] = (
            relative[name]
            if name in relative
            else sampler.sample_independent(study, trial, name, distribution)
        )
        trial.distributions[name] = distribution
    return candidates.row(trial.params), snapshot.notes
