"""Latency as a cost: in the reward, as a bound, as an objective."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from search import samplers
from search.candidates import Candidates
from search.executors.local import Local
from search.objective import Bounds, Objective
from search.search import Search
from search.study import open_study, value_of
from space.architecture import Architecture
from space.choices import Space
from space.evaluation import Budget
from space.validation import InvalidInput


def _seconds(architecture: Architecture) -> float:
    """Deep is slow, whatever its MACs."""
    return 1e-3 * sum(stage.repeats * stage.kernel for stage in architecture.stages)


def test_latency_needs_something_that_gives_it() -> None:
    with pytest.raises(ValueError, match="`seconds` gives it"):
        Objective(target=0.01, cost="latency")
    with pytest.raises(ValueError, match="`seconds` gives it"):
        Objective(target=1e6, bounds=Bounds(latency=(0.001, 0.01)))


def test_reward_is_of_seconds_and_they_are_recorded(
    storage: str, space: Space, evaluate: Any
) -> None:
    aim = Objective(target=0.02, cost="latency", exponent_above=-1.0, seconds=_seconds)
    study = open_study(storage, "search")
    sampler = samplers.create("random", Candidates(space, aim), 0)
    Local().run(Search(study, sampler, Budget(epochs=3), trials=6), evaluate)
    for trial in study.trials:
        seconds = _seconds(space.decode(trial.params))
        assert trial.user_attrs["latency"] == seconds
        exponent = -0.07 if seconds <= 0.02 else -1.0
        accuracy = trial.user_attrs["measurement"]["accuracy"]
        assert value_of(trial) == pytest.approx(accuracy * (seconds / 0.02) ** exponent)


@pytest.mark.parametrize("counted", [None, (200_000, 600_000)])
@pytest.mark.parametrize("name", ["random", "predictor", "tpe"])
def test_bound_on_latency_holds(
    name: str, counted: Any, storage: str, space: Space, evaluate: Any
) -> None:
    bounds = Bounds(macs=counted, latency=(0.015, 0.025))
    aim = Objective(target=500_000, bounds=bounds, seconds=_seconds)
    candidates = Candidates(space, aim)
    study = open_study(storage, "search")
    sampler = samplers.create(name, candidates, 0)
    Local().run(Search(study, sampler, Budget(epochs=3), trials=20), evaluate)
    latencies = [_seconds(space.decode(trial.params)) for trial in study.trials]
    assert 0.015 <= min(latencies) <= max(latencies) <= 0.025


def test_impossible_latency_is_refused_with_the_nearest(space: Space) -> None:
    aim = Objective(target=500_000, bounds=Bounds(latency=(1e-6, 2e-6)), seconds=_seconds)
    with pytest.raises(InvalidInput, match=r"the nearest found has 0\.00.* seconds"):
        samplers.create("random", Candidates(space, aim), 0).propose([], 0)


def test_drawn_rows_are_those_within_the_bound_on_latency(space: Space) -> None:
    aim = Objective(target=500_000, bounds=Bounds(latency=(0.015, 0.02)), seconds=_seconds)
    candidates = Candidates(space, aim)
    rows = candidates.sample(100, np.random.default_rng(0))
    assert len(rows) == 100
    assert candidates.within(rows).all()
