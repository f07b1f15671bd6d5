"""What every sampler keeps, whatever its method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search import samplers
from search.candidates import Candidates, Exhausted
from search.objective import Bounds
from search.samplers.base import Sampler
from space.architecture import Architecture
from space.choices import Space
from space.cost import cost
from space.device import Precision, device_memory
from space.validation import InvalidInput

SAMPLERS = samplers.names()
BOUNDS = Bounds(macs=(200_000, 600_000))

Make = Callable[..., Sampler]


@pytest.fixture
def make(space: Space, objective: Any) -> Make:
    """A new sampler, as a process would make it that has just begun."""

    def make(
        name: str,
        seed: int = 0,
        bounds: Bounds | None = None,
        over: Space | None = None,
        **more: Any,
    ) -> Sampler:
        aim = replace(objective, bounds=bounds or Bounds(), **more)
        return samplers.create(name, Candidates(over or space, aim), seed)

    return make


def _value(architecture: Architecture) -> float:
    return sum(stage.repeats for stage in architecture.stages) / 10 + len(architecture.key) / 1e3


def _told(
    sampler: Sampler, trials: list[FrozenTrial], state: TrialState = TrialState.COMPLETE
) -> FrozenTrial:
    """The trial that follows `trials`, ended as `state`."""
    proposal = sampler.propose(trials, len(trials))
    candidate = proposal.candidate
    trial = optuna.trial.create_trial(
        state=state,
        value=_value(candidate.architecture) if state is TrialState.COMPLETE else None,
        params=candidate.choices,
        distributions=sampler.candidates.distributions,
        user_attrs={"key": candidate.key},
        system_attrs=dict(proposal.notes),
        intermediate_values={1: 0.1} if state is TrialState.PRUNED else {},
    )
    trial.number = len(trials)
    return trial


def _sequence(
    make: Callable[[], Sampler], count: int, states: tuple[TrialState, ...]
) -> list[FrozenTrial]:
    trials: list[FrozenTrial] = []
    for number in range(count):
        trials.append(_told(make(), trials, states[number % len(states)]))
    return trials


def _keys(trials: list[FrozenTrial]) -> list[str]:
    return [trial.user_attrs["key"] for trial in trials]


#: Trials of one test: more than a method's random start, and fewer where each takes long.
TRIALS = dict.fromkeys(SAMPLERS, 20) | {"evolution": 55, "gp": 13}

ENDS = (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_never_repeats_a_network(name: str, make: Make) -> None:
    keys = _keys(_sequence(lambda: make(name), TRIALS[name], ENDS))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_respects_bounds(name: str, make: Make, space: Space) -> None:
    sampler = make(name, bounds=BOUNDS)
    for trial in _sequence(lambda: sampler, TRIALS[name], ENDS):
        assert BOUNDS.admits(cost(space.decode(trial.params)))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("bounds", [Bounds(sram=8_192, flash=20_000), Bounds(sram=3_840)])
def test_sampler_respects_the_devices_memory(
    name: str, bounds: Bounds, make: Make, space: Space
) -> None:
    sampler = make(name, bounds=bounds, precision=Precision.INT8)
    for trial in _sequence(lambda: sampler, 12, ENDS):
        found = device_memory(space.decode(trial.params), Precision.INT8)
        assert found.sram <= bounds.sram
        assert bounds.flash is None or found.flash <= bounds.flash


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_depends_on_seed_number_and_trials_alone(name: str, make: Make) -> None:
    kept = make(name, bounds=BOUNDS)
    fresh = _sequence(lambda: make(name, bounds=BOUNDS), TRIALS[name], ENDS)
    assert _keys(_sequence(lambda: kept, TRIALS[name], ENDS)) == _keys(fresh)
    # In any order: the proposal after the first trials does not remember the later ones.
    assert kept.propose(fresh[:12], 12).candidate.key == fresh[12].user_attrs["key"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_of_another_seed_searches_elsewhere(name: str, make: Make) -> None:
    one, other = (_keys(_sequence(lambda s=s: make(name, s), 15, ENDS)) for s in (0, 1))
    assert len(set(one) & set(other)) < 8


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_proposes_a_retried_trial_as_before(name: str, make: Make) -> None:
    trials = _sequence(lambda: make(name), 15, ENDS)
    again = make(name).propose(trials, 14)
    assert again.candidate.key == trials[14].user_attrs["key"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_counts_pending_trials(name: str, make: Make) -> None:
    trials = _sequence(lambda: make(name), 12, ENDS)
    for _ in range(8):  # eight workers, none of which has told anything
        trials.append(_told(make(name), trials, TrialState.RUNNING))
    assert len(set(_keys(trials))) == 20


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_tries_every_network_before_the_space_is_exhausted(
    name: str, make: Make, space: Space
) -> None:
    names = ("stage1.operator", "stage1.se", "stage2.kernel")
    few = replace(space, choices={name: space.choices[name] for name in names})
    trials = _sequence(lambda: make(name, over=few), 14, ENDS)
    assert len(set(_keys(trials))) == 14  # of 16: a plain convolution has no squeeze-and-excite
    with pytest.raises(Exhausted, match="no network left"):
        make(name, over=few).propose(trials, 14)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_refuses_impossible_bounds(name: str, make: Make) -> None:
    with pytest.raises(InvalidInput, match="the nearest found has"):
        make(name, bounds=Bounds(macs=(1, 2))).propose([], 0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_works_in_optuna_alone(name: str, make: Make) -> None:
    sampler = make(name, bounds=BOUNDS)
    study = optuna.create_study(sampler=sampler, direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        for parameter, distribution in sampler.candidates.distributions.items():
            trial.suggest_categorical(parameter, distribution.choices)  # type: ignore[attr-defined]
        return _value(sampler.candidates.at(trial.params).architecture)

    study.optimize(objective, n_trials=15)
    expected = _sequence(lambda: make(name, bounds=BOUNDS), 15, (TrialState.COMPLETE,))
    assert [t.params for t in study.trials] == [t.params for t in expected]


def test_unknown_sampler_is_refused_with_the_nearest_name(make: Make) -> None:
    with pytest.raises(InvalidInput, match=r"search\.sampler: there is no 'tpee'; .* 'tpe'"):
        make("tpee")
