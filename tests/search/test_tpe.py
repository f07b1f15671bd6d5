"""Our TPE makes its estimators once, and they are Optuna's."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from search.candidates import Candidates
from search.objective import Objective
from search.optuna_internals import default_gamma, split_trials
from search.samplers import from_optuna
from space.choices import Space


@pytest.fixture
def candidates(space: Space) -> Candidates:
    return Candidates(space, Objective(target=500_000))


@pytest.fixture
def study(candidates: Candidates) -> optuna.Study:
    """Trials that are complete, pruned and running; the last of them is the next one."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3), direction="maximize")
    for number in range(40):
        trial = study.ask(candidates.distributions)
        if number % 7 == 3:
            continue
        trial.report(number % 11, step=1)
        pruned = number % 5 == 2
        state = TrialState.PRUNED if pruned else None
        study.tell(trial, None if pruned else number % 13, state)
    study.ask(candidates.distributions)
    return study


def _optunas(seed: int) -> TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True)


def test_multivariate_proposal_is_optunas(study: optuna.Study, candidates: Candidates) -> None:
    trial, space = study.trials[-1], candidates.distributions
    for seed in range(5):
        own = from_optuna.SAMPLERS["tpe_multivariate"](seed, candidates).sample_relative(
            study, trial, space
        )
        assert own == _optunas(seed).sample_relative(study, trial, space)


def test_univariate_chances_are_optunas(study: optuna.Study, candidates: Candidates) -> None:
    trial, space = study.trials[-1], candidates.distributions
    others = study.trials[:-1]
    ended = sum(other.state is not TrialState.RUNNING for other in others)
    parts = split_trials(study, others, default_gamma(ended))
    own = from_optuna._TPE(0, candidates, together=False)._estimators(study, trial, space)
    for part, mixture in zip(parts, own, strict=True):
        for (name, choices), found in zip(space.items(), from_optuna.chances(mixture), strict=True):
            alone = _optunas(0)._build_parzen_estimator(
                study, {name: choices}, part, handle_below=part is parts[0]
            )
            expected = alone.log_pdf({name: np.arange(len(choices.choices))})
            assert np.allclose(np.log(found), expected)


def test_univariate_proposals_follow_the_good_trials(candidates: Candidates) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize")
    for _ in range(60):
        trial = study.ask(candidates.distributions)
        study.tell(trial, float(trial.params["stage1.kernel"] == 5))
    trial = study.ask(candidates.distributions)
    drawn = [
        from_optuna.SAMPLERS["tpe"](seed, candidates).sample_relative(
            study, study.trials[-1], candidates.distributions
        )
        for seed in range(20)
    ]
    assert trial.params
    assert sum(choices["stage1.kernel"] == 5 for choices in drawn) == 20
