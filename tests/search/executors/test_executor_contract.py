"""What every executor keeps. Jobs are evaluated for real, wherever the executor has them run."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from optuna.trial import TrialState

from search.executors.local import Local, Threads
from search.executors.processes import Processes
from search.executors.ray import Ray
from search.executors.worker_pool import RETRIES
from space.evaluation import (
    Epoch,
    Executor,
    Job,
    Measurement,
    Proposer,
    Status,
    WorkerUnusable,
)
from space.validation import InvalidInput
from tests.fake_evaluator import FakeEvaluate, Fault, HangsOnceStopped

#: How each is made, from the seconds without an epoch after which a trial hangs.
EXECUTORS: dict[str, Callable[[float | None], Executor]] = {
    "local": Local,
    "threads": lambda _: Threads(2),
    "processes": lambda timeout: Processes([{}, {}], timeout),
    # One worker, since starting one takes seconds; more of them in test_ray.py.
    "ray": lambda timeout: Ray(workers=1, trial_timeout=timeout),
}

#: Those whose workers may die without the driver.
APART = sorted(EXECUTORS.keys() - {"local", "threads"})
#: Those that can end a job that hangs.
ENDING = sorted(EXECUTORS.keys() - {"threads"})


@pytest.fixture(params=EXECUTORS)
def kind(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def executor(kind: str) -> Executor:
    return EXECUTORS[kind](None)


class MakesEvaluate(Protocol):
    def __call__(self, fault: Fault = "none", first: int = 2, last: int = 2) -> FakeEvaluate: ...


@pytest.fixture
def fake(tmp_path: Path) -> MakesEvaluate:
    def make(fault: Fault = "none", first: int = 2, last: int = 2) -> FakeEvaluate:
        log, driver = tmp_path / "training_runs.txt", os.getpid()
        return FakeEvaluate(log, fault=fault, first=first, last=last, driver=driver)

    return make


def states(bench: Any) -> list[TrialState]:
    return [trial.state for trial in bench.trials()]


def reasons(bench: Any) -> list[str]:
    failed = (trial for trial in bench.trials() if trial.state is TrialState.FAIL)
    return [trial.user_attrs["measurement"]["reason"] for trial in failed]


def test_executor_runs_every_job_once(executor: Executor, bench: Any, fake: MakesEvaluate) -> None:
    executor.run(bench.search(trials=9), fake())
    trials = bench.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 9
    assert all(list(trial.intermediate_values) == [1, 2, 3] for trial in trials)
    trained = sorted(key for key, _ in fake().begun())
    assert trained == sorted(trial.user_attrs["key"] for trial in trials)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("exception", "OSError: no space left on device"),
        ("nan", "accuracy must be in [0, 1], but the evaluation returned nan"),
    ],
)
def test_failure_ends_one_trial_and_not_the_search(
    executor: Executor, bench: Any, fake: MakesEvaluate, fault: Fault, reason: str
) -> None:
    executor.run(bench.search(trials=3), fake(fault))
    assert sorted(states(bench)) == [TrialState.COMPLETE] * 3 + [TrialState.FAIL]
    assert reasons(bench) == [reason]


@pytest.mark.parametrize("kind", ENDING)
def test_hanging_trial_fails_and_the_search_goes_on(
    kind: str, bench: Any, fake: MakesEvaluate
) -> None:
    EXECUTORS[kind](1.0).run(bench.search(trials=3), fake("hang"))
    assert sorted(states(bench)) == [TrialState.COMPLETE] * 3 + [TrialState.FAIL]
    assert reasons(bench) == ["hung: no epoch ended within 1 seconds (search.trial_timeout)"]


@pytest.mark.parametrize("kind", ENDING)
def test_job_that_hangs_after_it_was_stopped_fails(kind: str, bench: Any) -> None:
    class StopsAtOnce:
        def __init__(self) -> None:
            self.jobs, self.told = [bench.search(trials=1).ask()], []

        def ask(self) -> Job | None:
            return self.jobs.pop() if self.jobs else None

        def report(self, _: Job, __: Epoch) -> bool:
            return True

        def tell(self, _: Job, measurement: Measurement) -> None:
            self.told.append(measurement.reason)

    proposer = StopsAtOnce()
    EXECUTORS[kind](1.0).run(proposer, HangsOnceStopped())
    assert proposer.told == ["hung: no epoch ended within 1 seconds (search.trial_timeout)"]


@pytest.mark.parametrize(
    ("fault", "raised"), [("ctrl-c", KeyboardInterrupt), ("invalid", InvalidInput)]
)
def test_interruption_leaves_trials_to_be_run_again(
    executor: Executor, bench: Any, fake: MakesEvaluate, fault: Fault, raised: type[BaseException]
) -> None:
    with pytest.raises(raised):
        executor.run(bench.search(trials=6), fake(fault))
    left = [trial for trial in bench.trials() if trial.state is TrialState.RUNNING]
    assert left
    before = {trial.number for trial in bench.trials() if trial.state is TrialState.COMPLETE}
    executor.run(bench.search(trials=6), fake())
    trials = bench.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6
    assert {trial.number for trial in trials if "retries" in trial.user_attrs} == {
        trial.number for trial in left
    }
    trained = [key for key, _ in fake().begun()]
    assert all(trained.count(trials[number].user_attrs["key"]) == 1 for number in before)
    assert len(trained) <= 6 + len(left)


def test_job_is_stopped_where_the_proposer_says_so(
    executor: Executor, bench: Any, fake: MakesEvaluate
) -> None:
    class StopsAfterTwo:
        def __init__(self) -> None:
            search = bench.search(trials=3)
            self.jobs = [search.ask() for _ in range(3)]
            self.told: list[Measurement] = []

        def ask(self) -> Job | None:
            return self.jobs.pop() if self.jobs else None

        def report(self, _: Job, epoch: Epoch) -> bool:
            return epoch.epoch == 2

        def tell(self, _: Job, measurement: Measurement) -> None:
            self.told.append(measurement)

    proposer = StopsAfterTwo()
    executor.run(proposer, fake())
    assert [told.status for told in proposer.told] == [Status.PRUNED] * 3
    assert [len(told.epochs) for told in proposer.told] == [2] * 3


class FullDisk:
    """A proposer whose storage fails, in one of its three methods, from the second call on."""

    def __init__(self, inner: Proposer, where: str) -> None:
        self._inner, self._where = inner, where
        self.calls = 0

    def ask(self) -> Job | None:
        self._write("ask")
        return self._inner.ask()

    def report(self, job: Job, epoch: Epoch) -> bool:
        self._write("report")
        return self._inner.report(job, epoch)

    def tell(self, job: Job, measurement: Measurement) -> None:
        self._write("tell")
        self._inner.tell(job, measurement)

    def _write(self, where: str) -> None:
        if where == self._where:
            self.calls += 1
            if self.calls > 1:
                raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.timeout(120)  # of what waits for ever
@pytest.mark.parametrize("where", ["ask", "report", "tell"])
def test_what_a_proposer_raises_ends_the_run(
    executor: Executor, bench: Any, fake: MakesEvaluate, where: str
) -> None:
    proposer = FullDisk(bench.search(trials=4), where)
    with pytest.raises(OSError, match="No space left on device"):
        executor.run(proposer, fake())
    assert proposer.calls == 2
    assert not any("retries" in trial.user_attrs for trial in bench.trials())
    assert TrialState.FAIL not in states(bench)


def test_proposer_without_jobs_needs_no_evaluation(
    executor: Executor, bench: Any, fake: MakesEvaluate
) -> None:
    executor.run(bench.search(trials=0), fake())
    assert fake().begun() == []


@pytest.mark.parametrize("kind", APART)
def test_job_of_a_dead_worker_is_retried(kind: str, bench: Any, fake: MakesEvaluate) -> None:
    EXECUTORS[kind](None).run(bench.search(trials=4), fake("death"))
    trials = bench.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert len(fake().begun()) == 5
    (retried,) = (trial for trial in trials if "retries" in trial.user_attrs)
    assert retried.user_attrs["retries"] == 1


@pytest.mark.parametrize("kind", APART)
def test_job_of_a_worker_that_lost_its_gpu_goes_on_in_another(
    kind: str, bench: Any, fake: MakesEvaluate, caplog: pytest.LogCaptureFixture
) -> None:
    EXECUTORS[kind](None).run(bench.search(trials=4), fake("unusable"))
    assert states(bench) == [TrialState.COMPLETE] * 4
    begun = fake().begun()
    assert len(begun) == 5
    assert len({process for _, process in begun}) > 1
    assert "unusable" in caplog.text
    assert "device-side assert triggered" in caplog.text


@pytest.mark.parametrize("kind", sorted(EXECUTORS.keys() - set(APART)))
def test_an_unusable_process_ends_the_run_and_no_trial(
    kind: str, bench: Any, fake: MakesEvaluate
) -> None:
    with pytest.raises(WorkerUnusable, match="device-side assert triggered"):
        EXECUTORS[kind](None).run(bench.search(trials=4), fake("unusable"))
    assert TrialState.FAIL not in states(bench)
    EXECUTORS[kind](None).run(bench.search(trials=4), fake())
    assert states(bench) == [TrialState.COMPLETE] * 4


@pytest.mark.parametrize("kind", APART)
def test_job_that_kills_its_workers_fails(kind: str, bench: Any, fake: MakesEvaluate) -> None:
    # One trial: its training runs are the first ones, whatever the workers do.
    EXECUTORS[kind](None).run(bench.search(trials=1), fake("death", 1, RETRIES + 1))
    assert states(bench) == [TrialState.FAIL, TrialState.COMPLETE]
    (reason,) = reasons(bench)
    assert reason.startswith(f"its worker died {RETRIES + 1} times")
    assert len(fake().begun()) == RETRIES + 2
