"""One driver at a time, on every storage."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial

from search import lease
from search.fence import LeaseLost
from search.lease import Driver, Lease, held, refuse_if_driven
from search.study import DRIVERS, open_study
from space.evaluation import Job, Measurement, Status
from space.validation import InvalidInput

REPOSITORY = Path(__file__).resolve().parents[2]

#: Waits for a line, takes the lease, says so, waits for a line, and does something with it.
HOLDER = """
import sys
from search import lease
from search.fence import LeaseLost
from space.validation import InvalidInput

lease.RENEWAL = 0.2
sys.stdin.readline()
try:
    with lease.held(sys.argv[1]) as held:
        print("held", flush=True)
        sys.stdin.readline()
        held.check()
        print("still held", flush=True)
except (LeaseLost, InvalidInput) as error:
    print(error, flush=True)
"""

Process = subprocess.Popen[str]


@pytest.fixture
def start(each_storage: str) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def begin() -> Process:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLDER, each_storage],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def go(process: Process) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def line(process: Process) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def starts(storage: str) -> list[TrialState]:
    return [trial.state for trial in open_study(storage, DRIVERS).trials]


def test_second_driver_is_refused_and_told_who_the_first_is(
    each_storage: str, start: Callable[[], Process]
) -> None:
    first = start()
    go(first)
    assert line(first) == "held"
    told = rf"driven by process {first.pid} on {platform.node()}, .*--take-over"
    with pytest.raises(InvalidInput, match=told), held(each_storage):
        pass
    with pytest.raises(InvalidInput, match=told):
        refuse_if_driven(each_storage)
    go(first)
    assert line(first) == "still held"
    first.wait()
    with held(each_storage):
        pass
    assert starts(each_storage) == [TrialState.COMPLETE] * 2


def test_lease_of_a_killed_driver_is_free_at_once(
    each_storage: str, start: Callable[[], Process]
) -> None:
    first = start()
    go(first)
    assert line(first) == "held"
    first.kill()
    first.wait()
    with held(each_storage):
        refused = pytest.raises(InvalidInput, match=f"process {os.getpid()}")
        with refused, held(each_storage):
            pass
    assert starts(each_storage) == [TrialState.FAIL, TrialState.COMPLETE]


def test_of_drivers_that_start_at_once_one_gets_the_lease(
    each_storage: str, start: Callable[[], Process]
) -> None:
    open_study(each_storage, DRIVERS)
    processes = [start() for _ in range(4)]
    for process in processes:
        go(process)
    answers = [line(process) for process in processes]
    assert answers.count("held") == 1
    assert sum("driven by" in answer for answer in answers) == 3


def test_driver_whose_run_is_taken_over_stops(
    each_storage: str, start: Callable[[], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEWAL", 1.0)
    first = start()
    go(first)
    assert line(first) == "held"
    with held(each_storage, take_over=True) as own:
        go(first)
        assert line(first) == "another process has taken over this run"
        own.check()


@pytest.mark.parametrize(("age", "refused"), [(30, True), (-30, True), (3600, False)])
def test_lease_of_another_machine_expires(storage: str, age: float, refused: bool) -> None:
    elsewhere = replace(Driver.this(), host="elsewhere", machine="another")
    renewed = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    record = asdict(elsewhere) | {"renewed": renewed}
    open_study(storage, DRIVERS).add_trial(
        create_trial(state=TrialState.RUNNING, user_attrs=record)
    )
    if refused:
        with pytest.raises(InvalidInput, match="on elsewhere"), held(storage):
            pass
    else:
        with held(storage):
            pass


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_clock_that_jumps_costs_no_lease(
    storage: str, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(storage) as own:
        jumped = time.time() + jump
        monkeypatch.setattr(lease.time, "time", lambda: jumped)
        own.check()
        with pytest.raises(InvalidInput, match="driven by process"), held(storage):
            pass
    assert starts(storage) == [TrialState.COMPLETE]


def test_suspended_driver_writes_nothing_once_its_run_is_taken_over(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NeverTold:
        def ask(self) -> Job | None:
            raise AssertionError

        def report(self, *_: Any) -> bool:
            raise AssertionError

        def tell(self, *_: Any) -> None:
            raise AssertionError

    monkeypatch.setattr(lease, "RENEWAL", 1000.0)
    with held(storage) as own:
        proposer = lease.Leased(NeverTold(), own)
        study = open_study(storage, DRIVERS)
        study._storage.set_trial_state_values(study.trials[0]._trial_id, TrialState.FAIL)
        later = time.time() + 600
        monkeypatch.setattr(lease.time, "time", lambda: later)
        with pytest.raises(LeaseLost):
            proposer.ask()
        with pytest.raises(LeaseLost):
            proposer.tell(Any, Measurement(Status.FAILED))  # type: ignore[arg-type]


def test_storage_that_cannot_be_written_costs_no_lease(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is renewed when the storage is there again."""
    with held(storage) as own:
        assert isinstance(own, Lease)
        monkeypatch.setattr(own._storage, "set_trial_user_attr", _unreachable)
        own.check()
    assert starts(storage) == [TrialState.COMPLETE]


def _unreachable(*_: Any) -> None:
    raise OSError("no route to host")
