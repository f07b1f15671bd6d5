from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search import samplers
from search.candidates import Candidates
from search.objective import Bounds, Objective
from search.samplers.base import Sampler
from search.samplers.observations import Observations
from search.samplers.predictor import random_starts
from space import presets
from space.around import space_around
from space.choices import Space, parse
from space.cost import cost
from space.moves import neighbours
from space.validation import InvalidInput


@pytest.fixture
def candidates(space: Space) -> Candidates:
    return Candidates(space, Objective(target=300_000))


def _accuracy(candidates: Candidates, row: np.ndarray) -> float:
    cost = candidates.at_row(row).cost
    return float(0.3 + 0.03 * np.log(cost.params) + 0.01 * (row.sum() % 5))


def _run(sampler: Sampler, trials: int, fails: Any = lambda _: False) -> list[FrozenTrial]:
    done: list[FrozenTrial] = []
    for number in range(trials):
        candidate = sampler.propose(done, number).candidate
        reward = sampler.candidates.objective.reward
        failed = fails(candidate.row)
        trial = create_trial(
            state=TrialState.FAIL if failed else TrialState.COMPLETE,
            value=None
            if failed
            else reward(_accuracy(sampler.candidates, candidate.row), candidate.cost),
            params=candidate.choices,
            distributions=sampler.candidates.distributions,
        )
        trial.number = number
        done.append(trial)
    return done


def _best(trials: list[FrozenTrial]) -> float:
    return max(trial.value for trial in trials if trial.value is not None)


def test_predictor_finds_better_networks_than_chance(candidates: Candidates) -> None:
    predicted = _best(_run(samplers.create("predictor", candidates, 0), 50))
    drawn = _best(_run(samplers.create("random", candidates, 0), 200))
    assert predicted > drawn


def test_predictor_keeps_away_from_what_fails(candidates: Candidates) -> None:
    def large(row: np.ndarray) -> bool:
        return candidates.at_row(row).cost.params > 30_000

    always = Candidates(candidates.space, replace(candidates.objective, exponent_below=0.0,
                                                  exponent_above=0.0))  # fmt: skip
    trials = _run(samplers.create("predictor", always, 0), 70, fails=large)
    late = [trial.state is TrialState.FAIL for trial in trials[40:]]
    assert sum(late) < 0.5 * len(late)


def test_batch_of_pending_trials_spreads_out(candidates: Candidates) -> None:
    sampler = samplers.create("predictor", candidates, 0)
    trials = _run(sampler, 30)
    for _ in range(6):
        candidate = sampler.propose(trials, len(trials)).candidate
        trial = create_trial(
            state=TrialState.RUNNING,
            params=candidate.choices,
            distributions=candidates.distributions,
        )
        trial.number = len(trials)
        trials.append(trial)
    keys = {candidates.at(trial.params).key for trial in trials[30:]}
    assert len(keys) == 6


def test_prior_makes_the_first_trials_good(candidates: Candidates) -> None:
    rows = candidates.sample(300, np.random.default_rng(5))
    accuracy = np.array([_accuracy(candidates, row) for row in rows])
    prior = Observations(rows, 0.8 * accuracy, np.zeros(300))
    with_prior = _best(_run(samplers.create("predictor", candidates, 0, prior), 14))
    without = _best(_run(samplers.create("predictor", candidates, 0), 14))
    assert with_prior > without


def test_short_search_begins_with_the_base_network(candidates: Candidates) -> None:
    sampler = samplers.create("predictor", candidates, 0, trials=10)
    assert sampler.propose([], 0).candidate.key == candidates.space.base.key
    [first, *_] = _run(sampler, 3)
    assert sampler.propose([first], 0).candidate.key == candidates.space.base.key


def test_base_network_out_of_bounds_is_replaced_by_one_that_is_near(candidates: Candidates) -> None:
    base = candidates.at_row(candidates.unsearched[0])
    bounds = Bounds(macs=(1, base.cost.macs - 1))
    bounded = Candidates(candidates.space, replace(candidates.objective, bounds=bounds))
    proposal = samplers.create("predictor", bounded, 0, trials=10).propose([], 0)
    around = [bounded.at_row(row) for row in neighbours(base.row, bounded.sizes)]
    nearest = max(filter(bounded.admits, around), key=lambda each: each.cost.macs)
    assert proposal.candidate.key == nearest.key


@pytest.mark.parametrize(
    ("trials", "random"), [(8, 4), (10, 4), (20, 5), (40, 10), (49, 12), (50, 16), (None, 16)]
)
def test_random_trials_before_the_model_follow_the_length_of_the_search(
    trials: int | None, random: int
) -> None:
    assert random_starts(trials) == random


def test_short_search_asks_its_model_after_the_random_trials(candidates: Candidates) -> None:
    short, long = (samplers.create("predictor", candidates, 0, trials=t) for t in (10, 50))
    trials = _run(short, 6)
    assert len(trials) == 1 + random_starts(10) + 1
    assert short.propose(trials[:5], 5).candidate.key != long.propose(trials[:5], 5).candidate.key
    drawn = [long.propose(trials[:n], n).candidate.key for n in range(1, 5)]
    assert [candidates.at(trial.params).key for trial in trials[1:5]] == drawn


def test_sampler_that_cannot_learn_from_a_prior_refuses_it(candidates: Candidates) -> None:
    prior = Observations(np.zeros((1, 15), np.int64), np.zeros(1), np.zeros(1))
    with pytest.raises(InvalidInput, match=r"search\.warm_start: the sampler tpe cannot learn"):
        samplers.create("tpe", candidates, 0, prior)


def test_a_space_around_a_network_begins_with_uniform_widths_and_depths_at_pixels_that_fit():
    lite0 = presets.load("efficientnet_lite0")
    space = parse("around", space_around(lite0, ""), source="around").adapted(
        num_classes=10, resolution=72
    )
    bounds = Bounds(macs=(12_500_000, 25_000_000))
    candidates = Candidates(space, Objective(target=25_000_000, bounds=bounds))
    sampler = samplers.create("predictor", candidates, 0, trials=10)
    begun = [sampler.propose([], number).candidate for number in range(6)]
    assert [each.architecture.resolution for each in begun] == [48, 72, 64, 72, 64, 64]
    depths = [[stage.repeats for stage in each.architecture.stages] for each in begun]
    assert depths == 3 * [[1, 2, 2, 3, 3, 4, 1]] + 3 * [[1, 1, 1, 2, 2, 3, 1]]
    for each, width in zip(begun, (1.0, 0.5, 0.75, 0.5, 0.75, 1.0), strict=True):
        networks = [
            space.decode({**each.choices, "resolution": pixels}) for pixels in space.resolutions
        ]
        most = max((n for n in networks if cost(n).macs <= 25_000_000), key=lambda n: cost(n).macs)
        assert each.architecture == most
        assert each.architecture.stages[6].channels == 320 * width


def test_a_space_of_resolutions_alone_is_begun_with_the_base_network() -> None:
    base = presets.load("efficientnet_lite0")
    space = Space("pixels", base, {"resolution": (32, 64, base.resolution)})
    candidates = Candidates(space, Objective(target=1e9))
    assert [candidates.at_row(row).architecture for row in candidates.unsearched] == [base]
