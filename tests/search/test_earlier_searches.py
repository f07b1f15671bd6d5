from typing import Any

import numpy as np
import pytest

from search.candidates import Candidates
from search.executors.local import Local
from search.samplers import observations
from search.samplers.observations import Observations, combined, from_study
from search.study import find_study, open_study
from space.choices import Space
from space.validation import InvalidInput


def test_earlier_search_is_read_as_accuracies(bench: Any, evaluate: Any, space: Space) -> None:
    evaluate.fails = lambda _: "no memory" if len(evaluate.trained) == 2 else None
    Local().run(bench.search(trials=5), evaluate)
    study = open_study(bench.storage, "search")
    found = from_study(study, Candidates(space, bench.objective))
    accuracies = [t.user_attrs["measurement"]["accuracy"] for t in study.trials if t.values]
    assert found.accuracy.tolist() == accuracies
    assert len(found) == 5


def test_trials_of_other_choices_are_left_out(bench: Any, run: Any, space: Space) -> None:
    run(bench.search(trials=6))
    fewer = Space("fewer", space.base, {**space.choices, "stage1.kernel": (3,)})
    study = open_study(bench.storage, "search")
    found = from_study(study, Candidates(fewer, bench.objective))
    assert len(found) == sum(trial.params["stage1.kernel"] == 3 for trial in study.trials)
    assert 0 < len(found) < 6
    other = Space("other", space.base, {"stage1.kernel": (3, 5)})
    assert len(from_study(study, Candidates(other, bench.objective))) == 0


def _source(level: float, spread: float) -> Observations:
    rows = np.arange(40).reshape(20, 2)
    accuracy = level + spread * np.linspace(-1, 1, 20)
    return Observations(rows, accuracy, np.zeros(20))


def test_sources_are_brought_to_the_level_of_the_first() -> None:
    found = combined([_source(0.5, 0.1), _source(0.9, 0.02)])
    assert found is not None
    first, second = found.accuracy[:20], found.accuracy[20:]
    assert np.allclose(first, _source(0.5, 0.1).accuracy)
    assert second.mean() == pytest.approx(first.mean(), abs=0.02)
    assert (np.diff(second) > 0).all()


def test_large_prior_is_thinned_always_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observations, "MOST", 7)
    first, second = (combined([_source(0.5, 0.1), _source(0.9, 0.02)]) for _ in range(2))
    assert first is not None
    assert second is not None
    assert len(first) == 7
    assert first.accuracy.tolist() == second.accuracy.tolist()


def test_nothing_known_is_no_prior() -> None:
    nothing = Observations(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0))
    assert combined([]) is None
    assert combined([nothing]) is None


def test_storage_that_is_not_there_is_refused_and_not_created(tmp_path: Any, bench: Any) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.db: file not found"):
        find_study(f"sqlite:///{tmp_path}/absent.db", "search")
    assert not (tmp_path / "absent.db").exists()
    open_study(bench.storage, "family")
    with pytest.raises(InvalidInput, match="has no study 'search'"):
        find_study(bench.storage, "search")
    with pytest.raises(InvalidInput, match=r"cannot be opened.*give the URL of an Optuna storage"):
        find_study("nothing", "search")
