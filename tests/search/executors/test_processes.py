"""Workers that are processes: what they are given, and that none outlives its driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from scaling.jobs import InOrder
from search.executors.processes import Processes
from space import presets
from space.architecture import Architecture
from space.evaluation import Budget, Job, Measurement, Report, Status
from tests.fake_evaluator import FakeEvaluate

REPOSITORY = Path(__file__).resolve().parents[3]

DRIVER = """
import sys
from pathlib import Path
from tests.fake_evaluator import FakeEvaluate
from search.executors.processes import Processes
from space import presets
from space.evaluation import Budget, Job

class Two:
    def __init__(self):
        self.jobs = [Job(str(i), presets.load("mnasnet_small"), Budget(10**6)) for i in range(2)]
    def ask(self):
        return self.jobs.pop() if self.jobs else None
    def report(self, job, epoch):
        return False
    def tell(self, job, measurement):
        pass

if __name__ == "__main__":
    fault = sys.argv[2]
    evaluate = FakeEvaluate(Path(sys.argv[1]), 0.01, fault=fault, first=1, last=2)
    Processes([{}, {}]).run(Two(), evaluate)
"""


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@dataclass(frozen=True)
class TellsVariable:
    """Says in its measurement's details what the variable is."""

    name: str

    def __call__(self, _: Architecture, __: Budget, ___: Report) -> Measurement:
        value = float(os.environ[self.name])
        return Measurement(Status.COMPLETE, accuracy=0.5, details={self.name: value})


@pytest.mark.parametrize("fault", ["none", "hang"])
@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_no_worker_outlives_a_killed_driver(tmp_path: Path, fault: str) -> None:
    script, log = tmp_path / "driver.py", tmp_path / "training_runs.txt"
    script.write_text(DRIVER, "utf-8")
    driver = subprocess.Popen(
        [sys.executable, str(script), str(log), fault],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    training_runs = FakeEvaluate(log).begun
    while len(training_runs()) < 2:
        assert driver.poll() is None
        time.sleep(0.02)
    workers = [process for _, process in training_runs()]
    assert all(alive(worker) for worker in workers)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    waited = time.monotonic() + 30
    while any(alive(worker) for worker in workers) and time.monotonic() < waited:
        time.sleep(0.02)
    assert not any(alive(worker) for worker in workers)


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_no_worker_is_left_where_the_jobs_end(tmp_path: Path, bench: Any) -> None:
    evaluate = FakeEvaluate(tmp_path / "training_runs.txt")
    Processes([{}, {}]).run(bench.search(trials=4), evaluate)
    workers = {process for _, process in evaluate.begun()}
    assert os.getpid() not in workers
    assert not any(alive(worker) for worker in workers)


def test_workers_are_given_their_variables(bench: Any) -> None:
    environments = [{"PHISCALE_TEST": "1"}, {"PHISCALE_TEST": "2"}]
    Processes(environments).run(bench.search(trials=6), TellsVariable("PHISCALE_TEST"))
    details = [trial.user_attrs["measurement"]["details"] for trial in bench.trials()]
    assert {value["PHISCALE_TEST"] for value in details} <= {1.0, 2.0}
    assert "PHISCALE_TEST" not in os.environ


@dataclass(frozen=True)
class Meets:
    """Ends only when `size` jobs run at once; in the first call of all, the process dies."""

    folder: Path
    size: int

    def __call__(self, architecture: Architecture, _: Budget, __: Report) -> Measurement:
        (self.folder / f"{architecture.key}-{os.getpid()}").touch()
        while len(list(self.folder.glob(f"*-{os.getpid()}"))) < self.size:
            time.sleep(0.01)
        try:
            (self.folder / "died").touch(exist_ok=False)
        except FileExistsError:
            return Measurement(Status.COMPLETE, accuracy=0.5, details={"process": os.getpid()})
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_threads_of_a_process_work_side_by_side_and_go_on_in_another(tmp_path: Path) -> None:
    small, large = (replace(presets.load("mnasnet_small"), resolution=side) for side in (32, 64))
    jobs = InOrder([Job("one", small, Budget(1)), Job("two", large, Budget(1))])
    Processes([{}], threads=2).run(jobs, Meets(tmp_path, 2))
    assert [told.status for told in jobs.told.values()] == [Status.COMPLETE] * 2
    assert len({told.details["process"] for told in jobs.told.values()}) == 1
