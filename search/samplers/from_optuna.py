"""Optuna's own samplers as methods: fresh for every proposal, seeded from seed and trial number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.candidates import Candidates, Rows
from search.samplers.base import History, Method
from search.snapshot import Snapshot

#: Proposals for one trial before the last of them is changed until it may be trained (assumed).
_PROPOSALS = 5


def tpe(seed: int) -> BaseSampler:
    """The tree-structured Parzen estimator, each choice by itself (Bergstra et al. 2011)."""
    return TPESampler(seed=seed, multivariate=False)


def wrapped(create: Callable[[int], BaseSampler]) -> Method:
    """The method that asks the sampler `create(seed)`, a new one for each proposal."""

    def method(
        candidates: Candidates, history: History, rng: np.random.Generator
    ) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
        for _ in range(_PROPOSALS):
            yield _ask(create(int(rng.integers(2**31))), candidates, history)

    return method


def _ask(
    sampler: BaseSampler, candidates: Candidates, history: History
) -> tuple[Rows, Mapping[str, Any]]:
    snapshot = Snapshot(history.trials, [StudyDirection.MAXIMIZE])
    study = snapshot.study("search", sampler)
    trial = FrozenTrial(
        number=history.number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=-1,
    )
    sampler.before_trial(study, trial)
    space = sampler.infer_relative_search_space(study, trial)
    choices = sampler.sample_relative(study, trial, space)
    for name, distribution in candidates.distributions.items():
        if name not in choices:
            choices[name] = sampler.sample_independent(study, trial, name, distribution)
    return candidates.row(choices), snapshot.notes
