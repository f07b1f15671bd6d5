"""The benchmark of samplers judges each search by what is true of what it observed."""

import numpy as np

from experiments.benchmarks import samplers


def _predict(rows):
    return 0.6 + 0.1 * rows.mean(axis=1) / 3


def _search(setting, trials=20):
    return samplers.simulate("random", setting, _predict, [3], trials)[0]


def test_without_noise_a_search_is_worth_its_best_reward():
    search = _search(samplers.SamplerSetting("soft", 0.0))
    assert search.value(20) == max(search.true)[0] == search.best
    assert [trial.value for trial in search.trials] == [value for (value,) in search.true]


def test_a_search_misled_by_noise_is_worth_what_its_choice_really_is():
    search = _search(samplers.SamplerSetting("soft", 0.5))
    observed = [trial.value for trial in search.trials]
    assert search.value(20) == search.true[int(np.argmax(observed))][0] < search.best


def test_hypervolume_never_falls_with_trials():
    search = _search(samplers.TWO)
    values = [search.value(trials) for trials in range(1, 21)]
    assert 0 < values[0] < values[-1] == search.best < 1
    assert values == sorted(values)


def test_every_search_of_the_plan_is_asked_for_once():
    tasks = list(samplers.plan())
    names = [(t.kind, t.setting, t.sampler, t.trials, seed) for t in tasks for seed in t.seeds]
    assert len(set(names)) == len(names)
