"""Whatever dies, no finished training is lost or repeated: real processes, real signals."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from experiments.benchmarks.fake import FakeEvaluate
from experiments.benchmarks.faults import torment
from scaling.jobs import InOrder
from search import storage as storages
from search.executors.local import Local
from search.recorded import Recorded
from search.study import finished, open_study
from space import presets
from space.evaluation import Budget, Epoch, Job, Measurement, Proposer

TRIALS = 4

#: Enough epochs that a search is still at work while somebody interferes.
RECIPE = f"""
name: tiny
space: mnasnet_small
resolution: 16
data:
  source: glyphs
  glyphs: {{classes: 3, train_images: 90, test_images: 30}}
train: {{batch_size: 32}}
objective: {{target: 400K, bounds: {{macs: [100K, 900K]}}}}
search: {{trials: {TRIALS}, epochs: 12, finalists: 1, final_epochs: 1, pruner: {{kind: none}}}}
coefficients: {{step: 0.5, tolerance: 0.3, epochs: 1}}
family: {{phi: [0], epochs: 1}}
executor: {{kind: processes, workers: 2}}
"""

Phiscale = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.parametrize("kind", ["sqlite", "journal", "postgresql"])
@pytest.mark.parametrize("executor", ["local", "processes"])
def test_driver_killed_at_random_moments_loses_and_repeats_nothing(
    executor: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"{kind}:///{tmp_path}/study.{kind}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql").database(f"killed-{executor}")
    outcome = torment(tmp_path, executor, url, kills=5, trials=60, seed=0)
    assert outcome.mistakes == []
    assert outcome.repeated > 0, "no kill hit a training"


# ------------------------------------------------------------------------ the command, for real


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def phiscale(tmp_path: Path, cache: Path) -> Phiscale:
    """Starts `phiscale search` on the recipe; most bytes of a file may be limited."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE, "utf-8")

    def begin(*options: str, most_bytes: int | None = None) -> subprocess.Popen[str]:
        def limit() -> None:
            if most_bytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

        command = [sys.executable, "-m", "experiments", "search", str(recipe)]
        return subprocess.Popen(
            [*command, "--out", str(tmp_path / "run"), *options],
            env=os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
        )

    return begin


def trials(folder: Path) -> list[FrozenTrial]:
    try:
        study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/run/study.db")
        return study.get_trials(deepcopy=False)
    except Exception:  # the storage or the study does not exist yet
        return []


def wait_until(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def both_train(folder: Path) -> Callable[[], bool]:
    """Whether both workers have ended an epoch."""
    return lambda: sum(bool(trial.intermediate_values) for trial in trials(folder)) >= 2


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def test_ctrl_c_drains_and_a_second_driver_is_refused(phiscale: Phiscale, tmp_path: Path) -> None:
    first = phiscale()
    wait_until(first, both_train(tmp_path))
    status, errors = end(phiscale("--set", "search.trials=9"))
    assert status == 2
    assert f"driven by process {first.pid} on " in errors

    first.send_signal(signal.SIGINT)
    status, errors = end(first)
    assert status == 130
    continues = re.search(r"every finished training is kept; continue with: phiscale run", errors)
    assert continues, errors
    running = [trial for trial in trials(tmp_path) if trial.state is TrialState.RUNNING]
    assert running
    assert len(list((tmp_path / "run" / "checkpoints").glob("*.pt"))) == len(running)
    before = {trial.number: trial.intermediate_values for trial in running}

    status, errors = end(phiscale())
    assert status == 0, errors
    after = trials(tmp_path)
    assert [trial.state for trial in after] == [TrialState.COMPLETE] * TRIALS
    for number, values in before.items():  # it went on, and did not begin again
        assert values.items() <= after[number].intermediate_values.items()
        assert after[number].user_attrs["retries"] == 1


def test_ctrl_c_twice_stops_at_once(phiscale: Phiscale, tmp_path: Path) -> None:
    process = phiscale("--set", "search.epochs=100000")
    wait_until(process, both_train(tmp_path))
    os.kill(process.pid, signal.SIGSTOP)  # both signals are there before an epoch ends
    process.send_signal(signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    status, errors = end(process)
    assert status == 130
    assert "continue with: phiscale run" in errors


def test_killed_driver_goes_on_with_workers_real_trainings(
    phiscale: Phiscale, tmp_path: Path
) -> None:
    process = phiscale("--set", "train.checkpoint_seconds=0")
    wait_until(process, lambda: len(finished(trials(tmp_path))) >= 1)
    process.kill()
    process.communicate()
    before = {trial.number: trial.datetime_complete for trial in finished(trials(tmp_path))}
    status, errors = end(phiscale("--set", "train.checkpoint_seconds=0"))
    assert status == 0, errors
    after = {trial.number: trial.datetime_complete for trial in finished(trials(tmp_path))}
    assert len(after) == TRIALS
    assert before.items() <= after.items()


def test_full_disk_ends_the_run_with_a_sentence(phiscale: Phiscale, tmp_path: Path) -> None:
    assert end(phiscale("--set", "search.trials=1"))[0] == 0
    full = max(file.stat().st_size for file in (tmp_path / "run").glob("study.db*")) + 4096
    status, errors = end(phiscale(most_bytes=full))
    assert status == 1, errors
    told = r"phiscale: (the storage|a disk) does not take what is to be written \(.*\); every"
    assert re.search(told, errors), errors
    assert "continue with: phiscale run" in errors
    assert "Traceback" not in errors.rpartition("phiscale:")[2]
    kept = finished(trials(tmp_path))
    status, errors = end(phiscale())
    assert status == 0, errors
    assert len(finished(trials(tmp_path))) == TRIALS
    assert [t.datetime_complete for t in finished(trials(tmp_path))[: len(kept)]] == [
        trial.datetime_complete for trial in kept
    ]


# ------------------------------------------------------------------------- a server that is gone


class Interfered(InOrder):
    """A `Proposer` of nine jobs beside which something happens before the fifth."""

    def __init__(self, happens: Callable[[], None]) -> None:
        networks = [replace(presets.load("mnasnet_small"), resolution=32 + i) for i in range(9)]
        super().__init__(Job(f"job-{i}", each, Budget(2)) for i, each in enumerate(networks))
        self._happens, self._asked = happens, 0

    def ask(self) -> Job | None:
        self._asked += 1
        if self._asked == 5:
            self._happens()
        return super().ask()


def carried(happens: Callable[[], None], url: str, folder: Path) -> Interfered:
    proposer = Interfered(happens)
    recorded: Proposer = Recorded(proposer, open_study(url, "coefficients"))
    Local().run(recorded, FakeEvaluate(folder / "trainings.txt"))
    return proposer


def test_server_that_restarts_is_waited_for(postgresql: Any, tmp_path: Path) -> None:
    def restart() -> None:
        postgresql.stop()
        postgresql.start()

    proposer = carried(restart, postgresql.database("restarted"), tmp_path)
    assert len(proposer.told) == len(FakeEvaluate(tmp_path / "trainings.txt").begun()) == 9


def test_server_that_stays_away_costs_no_finished_training(
    postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storages, "_RECONNECT_SECONDS", 1)
    url = postgresql.database("away")
    try:
        with pytest.raises(storages.FAILURES) as error:
            carried(postgresql.stop, url, tmp_path)
    finally:
        postgresql.start()
    assert storages.is_gone(error.value)
    told = storages.sentence(error.value)
    assert "the storage does not take what is to be written" in told
    assert postgresql.password not in told
    carried(lambda: None, url, tmp_path)
    study = open_study(url, "coefficients")
    assert len(finished(study.trials)) == 9
    begun = [key for key, _ in FakeEvaluate(tmp_path / "trainings.txt").begun()]
    assert len(begun) <= 10
    assert len(set(begun)) == 9


def test_refused_epoch_is_no_result(tmp_path: Path) -> None:
    """A proposer that raises in the middle of a job leaves it to be run again."""

    class Broken(Interfered):
        def report(self, _: Job, __: Epoch) -> bool:
            raise OSError("no route to the storage")

        def tell(self, _: Job, __: Measurement) -> None:
            raise AssertionError

    with pytest.raises(OSError, match="no route"):
        Local().run(Broken(lambda: None), FakeEvaluate(tmp_path / "trainings.txt"))
