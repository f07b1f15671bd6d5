from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.candidates import Candidates
from search.objective import Objective
from search.samplers.observations import observe
from space.choices import Space


@pytest.fixture
def candidates(space: Space) -> Candidates:
    return Candidates(space, Objective(target=200_000, exponent_below=0.0, exponent_above=-1.0))


def _trial(
    candidates: Candidates, row: np.ndarray, curve: list[float], state: TrialState
) -> FrozenTrial:
    """A trial with `curve` as accuracies after each epoch."""
    candidate = candidates.at_row(row)
    values = [candidates.objective.reward(a, candidate.cost) for a in curve]
    return create_trial(
        state=state,
        value=None if state is TrialState.FAIL else values[-1],
        params=candidate.choices,
        distributions=candidates.distributions,
        intermediate_values=dict(enumerate(values, start=1)),
    )


@pytest.fixture
def rows(candidates: Candidates) -> Any:
    return candidates.sample(12, np.random.default_rng(0))


def test_accuracy_is_taken_out_of_the_reward(candidates: Candidates, rows: Any) -> None:
    accuracies = np.linspace(0.3, 0.8, 12)
    trials = [
        _trial(candidates, row, [a / 2, a], TrialState.COMPLETE)
        for row, a in zip(rows, accuracies, strict=True)
    ]
    seen = observe(candidates, trials)
    assert (seen.rows == rows).all()
    assert np.allclose(seen.accuracy, accuracies)
    assert (seen.doubt == 0).all()


def test_pruned_trial_is_foreseen_from_the_complete_ones(candidates: Candidates, rows: Any) -> None:
    noise = 0.01 * np.random.default_rng(1).standard_normal(12)
    trials = [
        _trial(candidates, row, [a, 2 * a + e], TrialState.COMPLETE)
        for row, a, e in zip(rows[:10], np.linspace(0.2, 0.4, 10), noise[:10], strict=True)
    ]
    trials.append(_trial(candidates, rows[10], [0.3], TrialState.PRUNED))
    seen = observe(candidates, trials)
    assert seen.accuracy[10] == pytest.approx(0.6, abs=0.02)
    assert 0 < seen.doubt[10] < 0.02**2


def test_pruned_trial_says_nothing_where_too_few_are_complete(
    candidates: Candidates, rows: Any
) -> None:
    trials = [_trial(candidates, row, [0.3, 0.6], TrialState.COMPLETE) for row in rows[:4]]
    trials.append(_trial(candidates, rows[4], [0.3], TrialState.PRUNED))
    assert len(observe(candidates, trials)) == 4


def test_failed_trials_and_those_of_other_choices_are_no_observations(
    candidates: Candidates, rows: Any
) -> None:
    trials = [_trial(candidates, rows[0], [0.5], TrialState.FAIL), create_trial(value=0.5)]
    assert len(observe(candidates, trials)) == 0
