"""What the Ray executor adds to the contract: machines that come and go, and Tune's pruning."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.evaluators.training import TrainingEvaluator
from search.executors.ray import Halving, Ray, _session_folder, _warn_where_open
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.evaluation import Budget, Epoch, Job, Measurement, Status
from space.validation import InvalidInput

ARCHITECTURE = Architecture(
    stem=Stem(channels=8, stride=1),
    stages=(Stage(Operator.INVERTED, channels=8, repeats=1, stride=2, expansion=3),),
    head=Head(channels=16),
    resolution=8,
    num_classes=2,
)


CODE = [
    Path(__file__).parents[3] / name
    for name in ("space", "scaling", "search", "reports", "experiments")
]


@dataclass
class Listed:
    """Hands out `jobs`, does something at each epoch, and keeps what it is told."""

    jobs: list[Job]
    at: Callable[[Job, Epoch], bool] = lambda *_: False
    reported: list[tuple[Job, Epoch]] = field(default_factory=list)
    told: dict[str, Measurement] = field(default_factory=dict)

    def ask(self) -> Job | None:
        return self.jobs.pop() if self.jobs else None

    def report(self, job: Job, epoch: Epoch) -> bool:
        self.reported.append((job, epoch))
        return self.at(job, epoch)

    def tell(self, job: Job, measurement: Measurement) -> None:
        self.told[job.name] = measurement


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without room for training runs, and one machine that has."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()  # of tests before
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def evaluator(tmp_path: Path) -> TrainingEvaluator:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    images = DecodedImages(mapped, np.arange(64), np.arange(64) % 2)
    config = TrainConfig(batch_size=32, checkpoint_seconds=0)
    return TrainingEvaluator(images, images, config, tmp_path / "checkpoints", device="cpu")


def test_job_of_a_lost_machine_goes_on_from_its_checkpoint_on_one_that_joins(
    cluster: Any, evaluator: TrainingEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which only the main thread may set, and that one waits for the run.
    monkeypatch.setattr("ray._private.utils.set_sigterm_handler", lambda _: None)
    lost: list[Any] = []

    def lose_the_machine(_: Job, epoch: Epoch) -> bool:
        if epoch.epoch == 3 and not lost:
            (machine,) = cluster.worker_nodes
            lost.append(machine)
            cluster.remove_node(machine, allow_graceful=False)
            cluster.add_node(num_cpus=1)
        return False

    proposer = Listed([Job("only", ARCHITECTURE, Budget(epochs=6))], lose_the_machine)
    Ray(address=cluster.address, threads=1, code=CODE).run(proposer, evaluator)

    measured = proposer.told["only"]
    assert measured.status is Status.COMPLETE
    epochs = [epoch for _, epoch in proposer.reported]
    before, after = epochs[:3], epochs[3:]
    assert [epoch.epoch for epoch in before] == [1, 2, 3]
    # What had been trained is told again to the second: it was not trained again.
    assert after[:2] == before[:2]
    assert tuple(after) == measured.epochs
    alone = replace(evaluator, checkpoints=evaluator.checkpoints.with_name("others"))
    whole = alone(ARCHITECTURE, Budget(epochs=6), lambda _: False)
    # A worker may have fewer threads than this process, and then it rounds sums otherwise.
    assert [epoch.loss for epoch in measured.epochs] == pytest.approx(
        [epoch.loss for epoch in whole.epochs], rel=1e-4
    )


def test_training_that_fits_no_machine_is_refused(
    cluster: Any, evaluator: TrainingEvaluator
) -> None:
    proposer = Listed([Job("only", ARCHITECTURE, Budget(epochs=1))])
    with pytest.raises(InvalidInput, match="needs 64 CPUs, but no machine of the Ray cluster"):
        Ray(address=cluster.address, threads=64).run(proposer, evaluator)


def test_successive_halving_stops_what_is_behind_and_remembers_an_earlier_start() -> None:
    from search.executors.ray_tune import _Halving

    def value(accuracy: float, _: Job) -> float:
        return 10 * accuracy

    def stopped(halving: Halving, accuracies: list[float]) -> list[bool]:
        judge = _Halving(halving)
        job = Job("job", ARCHITECTURE, Budget(epochs=9))
        return [
            judge.stops(
                SimpleNamespace(trial_id=str(number)), job, Epoch(1, 1.0, accuracy, 1.0, 1.0)
            )
            for number, accuracy in enumerate(accuracies)
        ]

    fresh = Halving(epochs=9, first=1, reduction=3, value=value)
    assert stopped(fresh, [0.9, 0.1, 0.95, 0.2]) == [False, True, False, True]
    seen = replace(fresh, earlier=[{1: 9.0, 2: 9.5}, {1: 8.0}, {1: 8.5}])
    assert stopped(seen, [0.7, 0.95]) == [True, False]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:{closed}", "Connection refused"),
        ("127.0.0.1:99999", ""),  # the system's own words differ
        ("nowhere", "not an address of the form HOST:PORT"),
    ],
)
def test_address_where_nobody_listens_is_refused_at_once(
    address: str, reason: str, evaluator: TrainingEvaluator
) -> None:
    import ray

    ray.shutdown()  # of tests before
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = address.format(closed=bound.getsockname()[1])
        with pytest.raises(InvalidInput, match=f"no Ray cluster answers at {address}: {reason}"):
            Ray(address=address).run(Listed([]), evaluator)


@pytest.mark.parametrize(
    ("address", "mode", "warned"),
    [
        ("10.0.0.7:6379", "", True),
        ("10.0.0.7:6379", "token", False),
        ("127.0.0.1:6379", "", False),
        ("localhost:6379", "", False),
        ("ray://example.org:10001", "", True),
    ],
)
def test_cluster_that_anyone_may_use_is_warned_of(
    address: str,
    mode: str,
    warned: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with caplog.at_level(logging.WARNING):
        _warn_where_open(address)
    assert ("has no token authentication" in caplog.text) is warned


LOSES_ITS_CLUSTER = """
import sys
from pathlib import Path
from ray._private import worker
from ray.cluster_utils import Cluster
from tests.fake_evaluator import FakeEvaluate
from search.executors import ray as executor
from space.evaluation import Budget, Job
from space.presets import load

class One:
    jobs = [Job("only", load("mnasnet_small"), Budget(epochs=100))]
    def ask(self):
        return self.jobs.pop() if self.jobs else None
    def report(self, job, epoch):
        if epoch.epoch == 1 and cluster:
            cluster.head_node.kill_gcs_server(check_alive=False)
        elif epoch.epoch == 1:
            worker._global_node.all_processes["raylet"][0].process.kill()
        return False
    def tell(self, job, measurement):
        print("told", measurement)

executor._LOST_SECONDS = 4.0
head = {"num_cpus": 1, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head) if sys.argv[2] == "elsewhere" else None
try:
    address = cluster and cluster.address
    executor.Ray(1, address=address).run(One(), FakeEvaluate(Path(sys.argv[1]), 0.5))
except executor.ClusterLost as lost:
    print(lost)
    if cluster:
        cluster.shutdown()
"""


def test_a_temporary_folder_too_long_for_rays_sockets_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(InvalidInput, match=r"x, is too long for Ray's sockets; set TMPDIR"):
        _session_folder()
    assert not list(long.iterdir())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("elsewhere", "the head node of the Ray cluster at .* has not answered for 4 seconds"),
        ("here", "Ray's process raylet on this machine has died"),
    ],
)
def test_lost_cluster_ends_the_run_with_a_sentence(tmp_path: Path, place: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSES_ITS_CLUSTER, str(tmp_path / "log"), place],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert re.match(said, line)
