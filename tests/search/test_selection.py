"""Which trial a search goes on with, where measurements are noisy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.candidates import Candidates
from search.objective import Objective
from search.selection import finalists, select
from space.choices import Space


@pytest.fixture
def candidates(space: Space) -> Candidates:
    return Candidates(space, Objective(target=300_000, exponent_below=0.0, exponent_above=0.0))


def _true(candidates: Candidates, row: Any) -> float:
    return 0.3 + 0.04 * float(np.log(candidates.at_row(row).cost.params / 1_000))


def _trials(candidates: Candidates, count: int, noise: float, seed: int) -> list[FrozenTrial]:
    """Random networks measured once each, best measured first."""
    rng = np.random.default_rng(seed)
    trials = []
    for number, row in enumerate(candidates.sample(count, rng)):
        trial = create_trial(
            state=TrialState.COMPLETE,
            value=_true(candidates, row) + noise * rng.standard_normal(),
            params=candidates.at_row(row).choices,
            distributions=candidates.distributions,
        )
        trial.number = number
        trials.append(trial)
    return sorted(trials, key=lambda trial: -(trial.value or 0.0))


def test_selection_under_noise_is_better_than_the_best_measurement(candidates: Candidates) -> None:
    gains, noises = [], []
    for seed in range(8):
        selection = select(_trials(candidates, 40, 0.05, seed), candidates)
        selected, measured = (
            _true(candidates, candidates.row(trial.params))
            for trial in (selection.trial, selection.measured_best)
        )
        gains.append(selected - measured)
        noises.append(selection.noise)
    assert np.mean(gains) > 0.005
    assert np.median(noises) == pytest.approx(0.05, rel=0.3)


def test_clear_lead_is_selected(candidates: Candidates) -> None:
    trials = _trials(candidates, 40, 0.0, 0)
    trials[0].value = (trials[0].value or 0.0) + 0.2
    selection = select(trials, candidates)
    assert selection.trial.number == selection.measured_best.number == trials[0].number


def test_few_trials_are_ranked_by_what_was_measured(candidates: Candidates) -> None:
    trials = _trials(candidates, 7, 0.05, 0)
    assert select(trials, candidates) == (trials[0], trials[0], 0.0)


def test_little_noise_changes_nothing(candidates: Candidates) -> None:
    for seed in range(8):
        selection = select(_trials(candidates, 40, 0.002, seed), candidates)
        assert selection.trial.number == selection.measured_best.number


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [7]), (2, [7, 1]), (3, [7, 3, 1]), (4, [7, 3, 5, 1])]
)
def test_one_of_two_or_more_finalists_needed_no_search(count: int, expected: list[int]) -> None:
    complete = [create_trial(value=value) for value in (0.6, 0.5, 0.4, 0.3, 0.2)]
    for trial, number in zip(complete, (7, 3, 5, 1, 0), strict=True):
        trial.number = number
        trial.set_user_attr("key", f"network {number}")
    candidates: Any = SimpleNamespace(
        unsearched=(0, 1), at_row=lambda row: SimpleNamespace(key=f"network {row}")
    )
    found = finalists(complete, count, candidates)
    assert [trial.number for trial in found] == expected
    candidates.unsearched = ()
    assert finalists(complete, count, candidates) == complete[:count]
