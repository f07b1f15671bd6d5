"""Whatever dies, no finished training is lost or repeated: real processes, real signals."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from typer.testing import CliRunner, Result

from experiments.benchmarks.faults import torment
from experiments.cli import app
from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.evaluators.training import TrainingEvaluator
from scaling.jobs import InOrder
from search import database
from search import storage as storages
from search.executors.local import Local
from search.executors.processes import Processes
from search.recorded_jobs import Recorded
from search.study import finished, open_study
from space import presets
from space.evaluation import Budget, Epoch, Job, Measurement, Proposer, Status
from space.validation import InvalidInput
from tests.fake_evaluator import FakeEvaluate

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
search: {{trials: {TRIALS}, epochs: 12, finalists: 1, final_epochs: 13, pruner: {{kind: none}}}}
coefficients: {{constraint: nominal, step: 0.5, tolerance: 0.3, epochs: 1}}
family: {{phi: [0], epochs: 1}}
executor: {{kind: processes, workers: 2}}
"""


@pytest.mark.parametrize(
    ("executor", "kind"),
    [
        *product(("local", "processes"), ("sqlite", "journal", "postgresql")),
        ("processes", "mysql"),
        ("ray", "sqlite"),  # one: each start of its workers takes seconds
    ],
)
def test_driver_killed_at_random_moments_loses_and_repeats_nothing(
    executor: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"{kind}:///{tmp_path}/study.{kind}"
    if kind in ("postgresql", "mysql"):
        url = request.getfixturevalue(kind).database(f"killed-{executor}")
    outcome = torment(tmp_path, executor, url, kills=3, trials=40, seed=0)
    assert outcome.mistakes == []
    assert outcome.retried > 0, "no kill hit a training"


# ------------------------------------------------------------------------ the command, for real


@dataclass(frozen=True)
class Command:
    """`phiscale search` on the recipe, in a process of its own or, sooner there, in this one."""

    folder: Path

    def start(self, *changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "experiments", *self._words(changes)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *changes: str, take_over: bool = False) -> Result:
        options = ["--take-over"] if take_over else []
        return CliRunner().invoke(app, self._words(changes) + options)

    def _words(self, changes: tuple[str, ...]) -> list[str]:
        recipe = self.folder / "tiny.yaml"
        recipe.write_text(RECIPE, "utf-8")
        options = [word for change in changes for word in ("--set", change)]
        return ["search", str(recipe), "--out", str(self.folder / "run"), *options]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def phiscale(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return Command(tmp_path)


def trials(folder: Path) -> list[FrozenTrial]:
    try:
        study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/run/study.db")
        return study.get_trials(deepcopy=False)
    except Exception:  # the storage or the study does not exist yet
        return []


def stop_while(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    """Stops the process, without its knowing, when something holds."""
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)


def both_train(folder: Path) -> Callable[[], bool]:
    """Whether both workers have ended an epoch."""
    return lambda: sum(bool(trial.intermediate_values) for trial in trials(folder)) >= 2


def end(process: subprocess.Popen[str], *signals: signal.Signals) -> tuple[int, str]:
    for number in signals:
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def test_ctrl_c_drains_and_a_second_driver_is_refused(phiscale: Command, tmp_path: Path) -> None:
    # The workers train on while the driver is stopped, and must not end before the second one does.
    longer = ("search.trials=2", "search.epochs=60", "search.final_epochs=60")
    first = phiscale.start(*longer)
    stop_while(first, both_train(tmp_path))
    second = phiscale.run(*longer, "search.trials=9")
    assert isinstance(second.exception, InvalidInput)
    assert f"driven by process {first.pid} on " in str(second.exception)
    assert "trials: 9" not in (tmp_path / "run" / "recipe.yaml").read_text("utf-8")

    status, errors = end(first, signal.SIGINT)
    assert status == 130, errors
    assert "training runs are saved, unfinished ones too; continue with: phiscale run" in errors
    left = [trial for trial in trials(tmp_path) if trial.state is TrialState.RUNNING]
    assert left
    assert len(list((tmp_path / "run" / "checkpoints").glob("*.pt"))) == len(left)

    ended = phiscale.run(*longer)
    assert ended.exit_code == 0, ended.output
    after = trials(tmp_path)
    assert [trial.state for trial in after] == [TrialState.COMPLETE] * 2
    for trial in left:  # it went on, and did not begin again
        assert trial.intermediate_values.items() <= after[trial.number].intermediate_values.items()
        assert after[trial.number].user_attrs["retries"] == 1


def test_ctrl_c_twice_stops_at_once(phiscale: Command, tmp_path: Path) -> None:
    process = phiscale.start("search.epochs=100000", "search.final_epochs=100000")
    stop_while(process, both_train(tmp_path))
    status, errors = end(process, signal.SIGINT, signal.SIGINT)
    assert status == 130, errors
    assert "continue with: phiscale run" in errors


def test_killed_driver_goes_on_with_its_workers_training_runs(
    phiscale: Command, tmp_path: Path
) -> None:
    process = phiscale.start("train.checkpoint_seconds=0")
    stop_while(process, lambda: len(finished(trials(tmp_path))) >= 1)
    before = {trial.number: trial.datetime_complete for trial in finished(trials(tmp_path))}
    assert end(process, signal.SIGKILL)[0] == -signal.SIGKILL
    ended = phiscale.run("train.checkpoint_seconds=0")
    assert ended.exit_code == 0, ended.output
    after = {trial.number: trial.datetime_complete for trial in finished(trials(tmp_path))}
    assert len(after) == TRIALS
    assert before.items() <= after.items()


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Lets no file of this process grow beyond some bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_ends_the_run_with_a_sentence(
    phiscale: Command, tmp_path: Path, full_disk: Callable[[int], None]
) -> None:
    local = ("executor.kind=local", "executor.workers=auto", "executor.threads=1")
    assert phiscale.run("search.trials=1", *local).exit_code == 0
    full_disk(max(file.stat().st_size for file in (tmp_path / "run").glob("study.db*")) + 4096)
    ended = phiscale.run("search.trials=30", *local)
    full_disk(resource.RLIM_INFINITY)
    assert ended.exit_code == 1, ended.output
    told = r"cannot write to (the storage|a disk) \(.*\); finished training runs are kept"
    assert re.search(told, ended.output), ended.output
    assert "continue with: phiscale run" in ended.output
    kept = {trial.number: trial.datetime_complete for trial in finished(trials(tmp_path))}

    # The full disk may not have taken the end of the lease, and this process is still there.
    again = phiscale.run(f"search.trials={len(kept) + 1}", *local, take_over=True)
    assert again.exit_code == 0, again.output
    after = {trial.number: trial.datetime_complete for trial in finished(trials(tmp_path))}
    assert len(after) == len(kept) + 1
    assert kept.items() <= after.items()


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
    Local().run(recorded, FakeEvaluate(folder / "training_runs.txt"))
    return proposer


def test_server_that_restarts_is_waited_for(postgresql: Any, tmp_path: Path) -> None:
    def restart() -> None:
        postgresql.stop()
        postgresql.start()

    proposer = carried(restart, postgresql.database("restarted"), tmp_path)
    assert len(proposer.told) == len(FakeEvaluate(tmp_path / "training_runs.txt").begun()) == 9


def test_server_that_stays_away_costs_no_finished_training(
    postgresql: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_RECONNECT_SECONDS", 1)
    url = postgresql.database("away")
    try:
        with pytest.raises(storages.FAILURES) as error:
            carried(postgresql.stop, url, tmp_path)
    finally:
        postgresql.start()
    assert storages.is_gone(error.value)
    told = storages.sentence(error.value)
    assert "cannot write to the storage" in told
    assert postgresql.password not in told
    carried(lambda: None, url, tmp_path)
    study = open_study(url, "coefficients")
    assert len(finished(study.trials)) == 9
    begun = [key for key, _ in FakeEvaluate(tmp_path / "training_runs.txt").begun()]
    assert len(begun) <= 10
    assert len(set(begun)) == 9


def test_training_of_a_killed_worker_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    images = DecodedImages(pixels, np.arange(60), np.arange(60) % 3)
    evaluate = TrainingEvaluator(
        train=images,
        held_out=images,
        config=TrainConfig(batch_size=20, checkpoint_seconds=0),
        checkpoints=tmp_path,
        device="cpu",
        threads=1,
    )
    network = presets.load("mnasnet_small", num_classes=3)

    class Kills(InOrder):
        """Kills the worker once, after its second checkpoint."""

        def __init__(self) -> None:
            super().__init__([Job("one", replace(network, resolution=8), Budget(4))])
            self.epochs: list[Epoch] = []

        def report(self, _: Job, epoch: Epoch) -> bool:
            self.epochs.append(epoch)
            if len(self.epochs) == 3:
                (worker,) = multiprocessing.active_children()
                worker.kill()
            return False

    proposer = Kills()
    Processes([{"OMP_NUM_THREADS": "1"}]).run(proposer, evaluate)
    assert [epoch.epoch for epoch in proposer.epochs] == [1, 2, 3, 1, 2, 3, 4]
    # The first two were not trained again: they took the same time to the nanosecond.
    assert proposer.epochs[:2] == proposer.epochs[3:5]
    measured = proposer.told["one"]
    assert measured.status is Status.COMPLETE
    assert measured.epochs == tuple(proposer.epochs[3:])


def test_refused_epoch_is_no_result(tmp_path: Path) -> None:
    """A proposer that raises in the middle of a job leaves it to be run again."""

    class Broken(Interfered):
        def report(self, _: Job, __: Epoch) -> bool:
            raise OSError("no route to the storage")

        def tell(self, _: Job, __: Measurement) -> None:
            raise AssertionError

    with pytest.raises(OSError, match="no route"):
        Local().run(Broken(lambda: None), FakeEvaluate(tmp_path / "training_runs.txt"))
