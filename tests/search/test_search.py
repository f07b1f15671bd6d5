import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from search import pruning
from search.executors.local import Local
from search.ledger import measurement_of
from search.objective import Bounds
from search.search import MAX_FAILURES, Search, SearchFailed
from search.study import open_study, ranked
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Epoch, Measurement, Status
from space.validation import InvalidInput

Run = Callable[[Search], None]
OPERATORS = ("conv", "separable", "inverted_e3", "inverted_e6")


def test_search_ends_with_exactly_the_trials_asked_for(bench: Any, run: Run) -> None:
    run(bench.search(trials=7))
    assert [trial.state for trial in bench.trials()] == [TrialState.COMPLETE] * 7


def test_more_trials_continue_a_finished_search(bench: Any, run: Run, evaluate: Any) -> None:
    run(bench.search(trials=3))
    run(bench.search(trials=5))
    assert len(bench.trials()) == len(evaluate.trained) == 5
    run(bench.search(trials=4))
    assert len(evaluate.trained) == 5


def test_trial_records_what_was_trained_and_found(bench: Any, run: Run) -> None:
    run(bench.search(trials=1))
    [trial] = bench.trials()
    attributes = trial.user_attrs
    architecture = Architecture.from_dict(attributes["architecture"])
    assert architecture == bench.space.decode(trial.params)
    assert attributes["key"] == architecture.key
    assert attributes["cost"] == cost(architecture)._asdict()
    assert attributes["budget"] == {"epochs": 3, "data_fraction": 1, "resolution": 16, "seed": 0}
    assert attributes["job"] == "trial-0"
    assert attributes["seconds"] >= 0
    measurement = measurement_of(trial)
    assert measurement.accuracy is not None
    assert trial.value == bench.objective.reward(measurement.accuracy, cost(architecture))
    assert trial.intermediate_values == {
        epoch.epoch: bench.objective.reward(epoch.accuracy, cost(architecture))
        for epoch in measurement.epochs
    }


def test_failed_trials_keep_their_reason_and_count_for_nothing(bench: Any, evaluate: Any) -> None:
    asked: list[str] = []

    def every_third(architecture: Architecture) -> str | None:
        asked.append(architecture.key)
        return "loss is NaN in epoch 2" if len(asked) % 3 == 0 else None

    evaluate.fails = every_third
    Local().run(bench.search(trials=6), evaluate)
    trials = bench.trials()
    failed = [trial for trial in trials if trial.state is TrialState.FAIL]
    assert len(failed) == 2
    assert {measurement_of(trial).reason for trial in failed} == {"loss is NaN in epoch 2"}
    assert sum(trial.state is TrialState.COMPLETE for trial in trials) == 6
    assert len(set(asked)) == 8


@pytest.mark.parametrize("accuracy", [math.nan, math.inf, -0.1, 1.5, None])
def test_accuracy_that_is_none_fails_the_trial(bench: Any, accuracy: float | None) -> None:
    search = bench.search(trials=1)
    job = search.ask()
    assert job
    search.tell(job, Measurement(Status.COMPLETE, accuracy=accuracy))
    [trial] = bench.trials()
    assert trial.state is TrialState.FAIL
    assert trial.value is None
    assert "accuracy must be in [0, 1]" in (measurement_of(trial).reason or "")


def test_epoch_with_nan_is_not_reported_and_survives_the_record(bench: Any) -> None:
    search = bench.search(trials=1)
    job = search.ask()
    assert job
    epoch = Epoch(1, math.nan, math.nan, math.nan, 0.0)
    assert not search.report(job, epoch)
    search.tell(job, Measurement(Status.FAILED, epochs=(epoch,), reason="NaN"))
    [trial] = bench.trials()
    assert trial.intermediate_values == {}
    assert [each.epoch for each in measurement_of(trial).epochs] == [1]


def test_search_stops_when_everything_fails(bench: Any, evaluate: Any) -> None:
    evaluate.fails = lambda _: "no memory"
    with pytest.raises(SearchFailed, match=rf"{MAX_FAILURES} trials in a row .* no memory"):
        Local().run(bench.search(trials=50), evaluate)
    assert len(evaluate.trained) == MAX_FAILURES
    evaluate.fails = lambda _: None  # repaired: the next start goes on
    Local().run(bench.search(trials=5), evaluate)
    assert ranked(open_study(bench.storage, "search"))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_no_candidate_outside_the_bounds_is_trained(bench: Any, run: Run, sampler: str) -> None:
    bounds = Bounds(macs=(300_000, 320_000), params=(1, 8_000))
    run(bench.search(trials=20, sampler=sampler, bounds=bounds))
    trials = bench.trials()
    assert len(trials) == 20
    for trial in trials:
        assert 300_000 <= trial.user_attrs["cost"]["macs"] <= 320_000
        assert trial.user_attrs["cost"]["params"] <= 8_000
    if sampler == "tpe":  # random draws come from within the bounds
        assert sum(trial.user_attrs.get("rejected", 0) for trial in trials) > 0


def test_impossible_bounds_are_refused_with_the_nearest_reachable_cost(bench: Any) -> None:
    few = replace(bench.space, choices={"stage1.operator": OPERATORS, "stage3.kernel": (3, 5)})
    least = min(cost(few.decode(choices)).macs for choices in _combinations(few.choices))
    search = bench.search(bounds=Bounds(macs=(10, 20)), space=few)
    with pytest.raises(InvalidInput, match=rf"has 10 to 20 MACs .* nearest found has {least:,} "):
        search.ask()
    assert bench.trials() == []


def test_exhausted_space_ends_the_search_and_says_so(bench: Any, run: Run, evaluate: Any) -> None:
    few = replace(
        bench.space,
        choices={"stage1.operator": OPERATORS, "stage1.se": (0, 0.25), "stage2.kernel": (3, 5)},
    )
    networks = {few.decode(choices).key for choices in _combinations(few.choices)}
    search = bench.search(trials=100, space=few)
    run(search)
    assert set(evaluate.trained) == networks
    assert len(evaluate.trained) == len(networks) < few.size
    assert "has no network left" in (search.exhausted or "")


def test_enqueued_trial_of_an_exhausted_space_is_refused(bench: Any, run: Run) -> None:
    two = replace(bench.space, choices={"stage1.kernel": (3, 5)})
    run(bench.search(trials=10, space=two))
    open_study(bench.storage, "search").enqueue_trial({})
    again = bench.search(trials=10, space=two)
    run(again)
    assert "has no network left" in (again.exhausted or "")
    [*_, refused] = bench.trials()
    assert (len(bench.trials()), refused.state) == (3, TrialState.FAIL)
    assert measurement_of(refused).reason == again.exhausted


def _combinations(choices: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    combinations: list[dict[str, Any]] = [{}]
    for name, values in choices.items():
        combinations = [{**one, name: value} for one in combinations for value in values]
    return combinations


def test_median_pruning_stops_what_lags_and_records_its_last_reward(bench: Any, run: Run) -> None:
    pruner = pruning.create("median", epochs=3, warmup_epochs=0, startup_trials=2)
    run(bench.search(trials=12, pruner=pruner))
    trials = bench.trials()
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert len(trials) == 12
    assert pruned
    for trial in pruned:
        last = max(trial.intermediate_values)
        assert last < 3
        assert trial.value == trial.intermediate_values[last]


def test_last_epoch_is_never_pruned(bench: Any) -> None:
    class Everything(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:  # noqa: ARG002
            return True

    search = bench.search(trials=1, pruner=Everything())
    job = search.ask()
    assert job
    assert search.report(job, Epoch(1, 1, 0.5, 1, 0))
    assert not search.report(job, Epoch(3, 1, 0.5, 1, 0))


def test_trial_that_runs_again_is_judged_by_its_new_epochs_alone(bench: Any) -> None:
    seen: list[dict[int, float]] = []

    class Spy(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
            own = next(t for t in study.get_trials() if t.number == trial.number)
            assert own.intermediate_values == trial.intermediate_values
            seen.append(dict(trial.intermediate_values))
            return False

    search = bench.search(trials=1, pruner=Spy())
    job = search.ask()
    assert job
    for epoch in (1, 2):
        search.report(job, Epoch(epoch, 1, 0.5, 1, 0))
    again = bench.search(trials=1, pruner=Spy())
    job = again.ask()
    assert job
    again.report(job, Epoch(1, 1, 0.5, 1, 0))
    assert [sorted(values) for values in seen] == [[1], [1, 2], [1]]


def test_enqueued_choices_are_tried_first_and_completed(bench: Any, run: Run) -> None:
    study = open_study(bench.storage, "search")
    study.enqueue_trial({"stage1.operator": "conv", "stage2.kernel": 5})
    run(bench.search(trials=2))
    first = bench.trials()[0]
    assert first.params["stage1.operator"] == "conv"
    assert first.params["stage2.kernel"] == 5
    assert first.params.keys() == bench.space.choices.keys()


def test_enqueued_network_that_is_known_is_answered(bench: Any, run: Run, evaluate: Any) -> None:
    run(bench.search(trials=1))
    [known] = bench.trials()
    open_study(bench.storage, "search").enqueue_trial(known.params)
    run(bench.search(trials=3))
    answered = bench.trials()[1]
    assert answered.state is TrialState.COMPLETE
    assert answered.user_attrs["answered_from"] == 0
    assert answered.value == known.value
    assert len(evaluate.trained) == len(set(evaluate.trained)) == 3


def test_enqueued_network_out_of_bounds_is_refused_with_its_cost(bench: Any, run: Run) -> None:
    run(bench.search(trials=1))
    [known] = bench.trials()
    open_study(bench.storage, "search").enqueue_trial(known.params)
    macs = known.user_attrs["cost"]["macs"]
    run(bench.search(trials=2, bounds=Bounds(macs=(1, macs - 1))))
    refused = bench.trials()[1]
    assert refused.state is TrialState.FAIL
    assert f"{macs:,} MACs" in (measurement_of(refused).reason or "")


class Killed(BaseException):
    """What a SIGKILL is to a process: nothing after it is done."""


def _kill_at_commit(search: Search, count: int) -> None:
    """Lets the storage make `count` commits more, and none after."""
    engine = search._ledger._storage._backend.engine  # type: ignore[attr-defined]
    left = [count]

    def commit(_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    sqlalchemy.event.listen(engine, "commit", commit)


def _bury(search: Search) -> None:
    """What the system does for a dead process: its open transaction is rolled back."""
    backend = search._ledger._storage._backend  # type: ignore[attr-defined]
    backend.scoped_session.remove()
    backend.engine.dispose()


def _told(trial: FrozenTrial) -> dict[str, Any]:
    """A trial without what a kill may change: times, and that it was started again."""
    own = {k: v for k, v in trial.user_attrs.items() if k not in ("seconds", "retries")}
    return {
        "number": trial.number,
        "state": trial.state,
        "value": trial.value,
        "params": trial.params,
        "reported": trial.intermediate_values,
        "own": own,
        "system": trial.system_attrs,
    }


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("kind", ["none", "hyperband"])
def test_killed_search_continues_as_if_nothing_had_been(
    bench: Any, evaluate: Any, tmp_path: Any, sampler: str, kind: Any
) -> None:
    def search(folder: str) -> Search:
        (tmp_path / folder).mkdir(exist_ok=True)
        pruner = pruning.create(kind, epochs=3, warmup_epochs=0, reduction=2)
        here = replace(bench, storage=f"sqlite:///{tmp_path}/{folder}/study.db")
        return here.search(trials=14, sampler=sampler, pruner=pruner)  # type: ignore[no-any-return]

    whole = search("whole")
    Local().run(whole, evaluate)
    expected = [_told(trial) for trial in whole._ledger.trials()]

    draw, kills, trained = random.Random(0), 0, type(evaluate)()
    while True:
        broken = search("broken")
        _kill_at_commit(broken, draw.randint(0, 24))
        try:
            Local().run(broken, trained)
        except Killed:
            kills += 1
            _bury(broken)
        else:
            break
    trials = search("broken")._ledger.trials()
    assert [_told(trial) for trial in trials] == expected
    assert kills > 5
    assert len(trained.trained) <= len(evaluate.trained) + kills
    assert set(trained.trained) == set(evaluate.trained)
