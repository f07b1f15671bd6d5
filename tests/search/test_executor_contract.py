"""What every executor keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState

from search.executors.local import Local
from space.evaluation import Executor, Measurement
from space.validation import InvalidInput

EXECUTORS: dict[str, Callable[[], Executor]] = {"local": Local}


@pytest.fixture(params=EXECUTORS)
def executor(request: Any) -> Executor:
    return EXECUTORS[request.param]()


def test_executor_runs_every_job_once(executor: Executor, bench: Any, evaluate: Any) -> None:
    executor.run(bench.search(trials=9), evaluate)
    trials = bench.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 9
    assert sorted(evaluate.trained) == sorted(trial.user_attrs["key"] for trial in trials)


def test_executor_reports_every_epoch(executor: Executor, bench: Any, evaluate: Any) -> None:
    executor.run(bench.search(trials=2), evaluate)
    assert all(list(trial.intermediate_values) == [1, 2, 3] for trial in bench.trials())


def test_exception_ends_one_trial_and_not_the_search(
    executor: Executor, bench: Any, evaluate: Any
) -> None:
    def first_one(_: object) -> str | None:
        if len(evaluate.trained) == 1:
            raise OSError("no space left on device")
        return None

    evaluate.fails = first_one
    executor.run(bench.search(trials=3), evaluate)
    first, *others = bench.trials()
    assert first.state is TrialState.FAIL
    assert first.user_attrs["measurement"]["reason"] == "OSError: no space left on device"
    assert [trial.state for trial in others] == [TrialState.COMPLETE] * 3


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, InvalidInput("data: no images")])
def test_interruption_leaves_the_trial_to_be_run_again(
    executor: Executor, bench: Any, evaluate: Any, interruption: Any
) -> None:
    def third(_: object) -> str | None:
        if len(evaluate.trained) == 3:
            raise interruption
        return None

    evaluate.fails = third
    with pytest.raises((KeyboardInterrupt, InvalidInput)):
        executor.run(bench.search(trials=5), evaluate)
    assert [trial.state for trial in bench.trials()][2:] == [TrialState.RUNNING]
    evaluate.fails = lambda _: None
    executor.run(bench.search(trials=5), evaluate)
    trials = bench.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    assert trials[2].user_attrs["retries"] == 1
    assert evaluate.trained[2] == evaluate.trained[3] == trials[2].user_attrs["key"]


def test_proposer_without_jobs_needs_no_evaluation(executor: Executor) -> None:
    class Nothing:
        def ask(self) -> None:
            return None

        def report(self, *_: object) -> bool:
            raise AssertionError

        def tell(self, *_: object) -> None:
            raise AssertionError

    def evaluate(*_: object) -> Measurement:
        raise AssertionError

    executor.run(Nothing(), evaluate)
