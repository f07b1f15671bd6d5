"""A search of several objectives: what it records, what it finds, who can do it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial

from search import samplers
from search.candidates import Candidates
from search.executors.local import Local
from search.objective import Bounds, Objective
from search.pareto import front
from search.samplers.observations import observe
from search.search import Search
from search.study import open_study, ranked, value_of
from space.choices import Space
from space.cost import cost
from space.evaluation import Budget
from space.validation import InvalidInput

ONE_REWARD = ("controller", "evolution", "local")
SEVERAL = [name for name in samplers.names() if name not in ONE_REWARD]


@pytest.fixture
def aim(objective: Objective) -> Objective:
    return replace(objective, pareto=("macs", "params"))


def _searched(
    storage: str, candidates: Candidates, evaluate: Any, trials: int, sampler: str = "random"
) -> optuna.Study:
    study = open_study(storage, "search", directions=candidates.objective.directions)
    made = samplers.create(sampler, candidates, 0)
    Local().run(Search(study, made, Budget(epochs=3), trials=trials), evaluate)
    return study


def test_study_records_accuracy_costs_and_reward(
    storage: str, space: Space, aim: Objective, evaluate: Any
) -> None:
    study = _searched(storage, Candidates(space, aim), evaluate, 6)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", *2 * ["MINIMIZE"]]
    for trial in study.trials:
        exact = cost(space.decode(trial.params))
        accuracy = trial.user_attrs["measurement"]["accuracy"]
        assert trial.values == [accuracy, exact.macs, exact.params]
        assert value_of(trial) == pytest.approx(aim.reward(accuracy, exact))
    rewards = [value_of(trial) for trial in study.trials]
    chosen = ranked(study)[0]
    assert chosen is not None
    assert value_of(chosen) == max(rewards)


def _dominated(one: FrozenTrial, other: FrozenTrial) -> bool:
    signs = np.array([-1, 1, 1])
    mine, its = signs * one.values, signs * other.values
    return bool((its <= mine).all() and (its < mine).any())


def test_front_is_what_no_other_trial_beats(
    storage: str, space: Space, aim: Objective, evaluate: Any
) -> None:
    candidates = Candidates(space, aim)
    study = _searched(storage, candidates, evaluate, 30)
    found = front(study, candidates)
    beaten = {t.number for t in study.trials if any(_dominated(t, other) for other in study.trials)}
    assert {each["trial"] for each in found["front"]} == set(range(30)) - beaten


def test_hypervolume_is_the_part_of_the_box_that_is_dominated(
    storage: str, space: Space, aim: Objective, evaluate: Any
) -> None:
    candidates = Candidates(space, aim)
    found = front(_searched(storage, candidates, evaluate, 12), candidates)
    points = np.random.default_rng(0).random((200_000, 3))
    inside = np.zeros(len(points), bool)
    for each in found["front"]:
        losses = [
            1 - each["accuracy"],
            *(each[cost] / most for cost, most in found["most"].items()),
        ]
        inside |= (points >= losses).all(axis=1)
    assert found["hypervolume"] == pytest.approx(inside.mean(), abs=0.005)
    every = candidates.table(candidates.sample(2_000, np.random.default_rng(0)))
    assert (every[:, :2] <= [*found["most"].values()]).all()


@pytest.mark.parametrize("name", SEVERAL)
def test_sampler_of_several_objectives_goes_on_from_storage_alone(
    name: str, tmp_path: Any, space: Space, aim: Objective, evaluate: Any
) -> None:
    candidates = Candidates(space, replace(aim, bounds=Bounds(macs=(200_000, 600_000))))
    trials = 12 if name == "gp" else 22
    whole = _searched(f"sqlite:///{tmp_path}/a.db", candidates, evaluate, trials, name)
    for count in (trials - 4, trials):  # as after a kill: a new process, a new sampler
        again = _searched(f"sqlite:///{tmp_path}/b.db", candidates, evaluate, count, name)
    keys = [trial.user_attrs["key"] for trial in whole.trials]
    assert keys == [trial.user_attrs["key"] for trial in again.trials]
    assert len(set(keys)) == trials
    assert all(candidates.admits(candidates.at(trial.params)) for trial in whole.trials)


@pytest.mark.parametrize("name", ONE_REWARD)
def test_sampler_of_one_reward_refuses_several_objectives(
    name: str, space: Space, aim: Objective
) -> None:
    with pytest.raises(
        InvalidInput, match=f"{name} supports one objective.* choose one of .*nsga2"
    ):
        samplers.create(name, Candidates(space, aim), 0)


def test_accuracy_of_a_trial_is_read_as_it_is(
    storage: str, space: Space, aim: Objective, evaluate: Any
) -> None:
    candidates = Candidates(space, aim)
    study = _searched(storage, candidates, evaluate, 5)
    expected = [trial.user_attrs["measurement"]["accuracy"] for trial in study.trials]
    assert observe(candidates, study.trials).accuracy.tolist() == expected


def test_predictor_finds_a_larger_front_than_chance(
    tmp_path: Any, space: Space, objective: Objective, evaluate: Any
) -> None:
    candidates = Candidates(space, replace(objective, pareto=("macs",)))
    volumes = [
        front(
            _searched(f"sqlite:///{tmp_path}/{name}.db", candidates, evaluate, 50, name), candidates
        )["hypervolume"]
        for name in ("predictor", "random")
    ]
    assert volumes[0] > volumes[1]
