"""Kills the driver of a search at random moments, and counts what is lost or done twice.

    python -m experiments.benchmarks.faults --executor processes --storage URL --kills 50

The search and its storage are real; training runs only sleep (`fake.FakeEvaluate`), and each
that begins is noted in a file. After the last kill the search is brought to its end. Prints the
outcome, and puts it into `experiments/results/faults.json`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from experiments.benchmarks.fake import FakeEvaluate
from space.evaluation import Executor
from space.files import write_file

#: What the search trains with, and how long an epoch takes in seconds.
WORKERS, EPOCHS, EPOCH_SECONDS = 2, 3, 0.03

#: Seconds after the first training of a start, within which the driver is killed.
LONGEST_LIFE = 1.0

EXECUTORS = ("local", "processes", "ray")

#: Drivers are processes of their own, which have these imported already: that takes longer than
#: they live.
_DRIVERS = multiprocessing.get_context("forkserver")
_IMPORTED = ["search.samplers", "search.search", "search.lease", "search.executors.ray_tune"]

RESULT = Path(__file__).parents[1] / "results" / "faults.json"


@dataclass
class KillOutcome:
    """What a search has come to that was killed `kills` times.

    `lost` finished trials are gone or changed, `duplicates` are training runs of networks that were
    finished already; `retried` ones were in flight when the driver was killed. `mistakes` is empty
    where nothing was lost, repeated or miscounted.
    """

    kills: int
    trials: int
    finished: int = 0
    training_runs: int = 0
    retried: int = 0
    duplicates: int = 0
    lost: int = 0
    seconds: float = 0.0
    mistakes: list[str] = field(default_factory=list)


def search(folder: Path, executor: str, cluster: str | None, storage: str, trials: int) -> None:
    """Drives the search to its end, or to a kill."""
    import optuna

    from search import lease, samplers
    from search.candidates import Candidates
    from search.objective import Objective
    from search.search import Search
    from search.study import open_study
    from space import choices
    from space.evaluation import Budget

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with lease.held(storage) as held:
        candidates = Candidates(choices.load("mnasnet_small"), Objective(target=10_000_000))
        sampler = samplers.create("random", candidates, 0)
        study = open_study(storage, "search")
        proposer = Search(study, sampler, Budget(EPOCHS), trials=trials)
        evaluate = FakeEvaluate(folder / "training_runs.txt", EPOCH_SECONDS)
        _executor(executor, cluster).run(lease.Leased(proposer, held), evaluate)


def _executor(name: str, cluster: str | None) -> Executor:
    match name:
        case "processes":
            from search.executors.processes import Processes

            return Processes([{}] * WORKERS)
        case "ray":
            from search.executors.ray import Ray

            return Ray(workers=WORKERS, threads=1, address=cluster)
    from search.executors.local import Local

    return Local()


@contextmanager
def _cluster(executor: str) -> Iterator[str | None]:
    """Inside, a Ray cluster answers at an address, which outlives the drivers as clusters do."""
    if executor != "ray":
        yield None
        return
    connection, other = multiprocessing.Pipe()
    # Beside the drivers: the process that torments may have a Ray of its own, on another interface.
    process = _DRIVERS.Process(target=_serve_cluster, args=(other,))
    process.start()
    other.close()  # so that the end of `process` is heard
    try:
        yield connection.recv()
    finally:
        connection.close()
        process.join()


def _serve_cluster(connection: Connection) -> None:
    """Has a Ray cluster until the other end of `connection`, which is told the address, closes."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": WORKERS, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        connection.send(str(cluster.address))
        with suppress(EOFError):
            connection.recv()
    finally:
        cluster.shutdown()


def torment(
    folder: Path, executor: str, storage: str, *, kills: int, trials: int, seed: int
) -> KillOutcome:
    """Starts the search, kills it `kills` times, lets it end, and says what was wrong."""
    drawn = random.Random(seed)
    outcome = KillOutcome(kills, trials)
    evaluate = FakeEvaluate(folder / "training_runs.txt")
    kept: dict[int, Any] = {}
    counted: Counter[str] = Counter()
    began = time.monotonic()
    _DRIVERS.set_forkserver_preload(_IMPORTED)
    with _cluster(executor) as cluster:
        for _ in range(kills):
            with _driver(folder, executor, cluster, storage, trials) as driver:
                _wait_for_training(driver, evaluate)
                time.sleep(drawn.uniform(0, LONGEST_LIFE))
            if driver.exitcode != -signal.SIGKILL:
                outcome.mistakes.append("the search ended before its kill: give it more trials")
            kept = _compared(kept, _finished(storage), outcome)
            counted = _recounted(counted, evaluate, kept, outcome)
        with _driver(folder, executor, cluster, storage, trials) as driver:
            driver.join()
    if driver.exitcode != 0:
        outcome.mistakes.append(f"the last start ended with status {driver.exitcode}")
    _conclude(_compared(kept, _finished(storage), outcome), evaluate, executor, outcome)
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


@contextmanager
def _driver(
    folder: Path, executor: str, cluster: str | None, storage: str, trials: int
) -> Iterator[ForkServerProcess]:
    """A driver of the search, killed at the end of the block."""
    process = _DRIVERS.Process(target=search, args=(folder, executor, cluster, storage, trials))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _wait_for_training(driver: ForkServerProcess, evaluate: FakeEvaluate) -> None:
    """Waits until another training run starts: before that, there is nothing to lose."""
    before = len(evaluate.begun())
    while driver.is_alive() and len(evaluate.begun()) == before:
        time.sleep(0.01)


def _finished(storage: str) -> dict[int, Any]:
    """What the storage says of each finished trial, by number."""
    from search.study import finished, open_study

    trials = finished(open_study(storage, "search").get_trials(deepcopy=False))
    return {
        trial.number: (trial.user_attrs["key"], trial.value, trial.datetime_complete)
        for trial in trials
    }


def _compared(before: dict[int, Any], now: dict[int, Any], outcome: KillOutcome) -> dict[int, Any]:
    for number, told in before.items():
        if now.get(number) != told:
            outcome.lost += 1
            outcome.mistakes.append(f"trial {number} was {told}, and is {now.get(number)}")
    return now


def _recounted(
    before: Counter[str], evaluate: FakeEvaluate, kept: dict[int, Any], outcome: KillOutcome
) -> Counter[str]:
    """How often each network that is finished by now was trained; it may not grow."""
    training_runs = Counter(key for key, _ in evaluate.begun())
    for key, times in before.items():
        if training_runs[key] != times:
            outcome.duplicates += training_runs[key] - times
            outcome.mistakes.append(f"{key} was finished, and was trained again")
    return Counter({key: training_runs[key] for key, *_ in kept.values()})


def _conclude(
    found: dict[int, Any], evaluate: FakeEvaluate, executor: str, outcome: KillOutcome
) -> None:
    training_runs = Counter(key for key, _ in evaluate.begun())
    outcome.finished, outcome.training_runs = len(found), training_runs.total()
    outcome.retried = training_runs.total() - len(training_runs) - outcome.duplicates
    keys = Counter(key for key, *_ in found.values())
    if outcome.finished != outcome.trials:
        outcome.mistakes.append(f"{outcome.finished} trials are finished, not {outcome.trials}")
    if keys.keys() != training_runs.keys() or set(keys.values()) != {1}:
        outcome.mistakes.append("the networks that were trained are not each finished once")
    at_once = 1 if executor == "local" else WORKERS
    if outcome.retried > outcome.kills * at_once:
        outcome.mistakes.append(f"{outcome.retried} training runs were started again")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", choices=EXECUTORS, default="processes")
    parser.add_argument("--storage", help="URL, or journal; none: SQLite in a temporary folder")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trials", type=int, help="default: ten for each kill")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    # Nobody else may use the cluster; Ray reads them when it is imported.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import optuna  # here, since each worker imports this file

    from search.storage import storage_url

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials = given.trials or 10 * given.kills
    with tempfile.TemporaryDirectory() as folder:
        storage = storage_url(Path(folder), given.storage)
        outcome = torment(
            Path(folder),
            given.executor,
            storage,
            kills=given.kills,
            trials=trials,
            seed=given.seed,
        )
    print(json.dumps({"executor": given.executor, **asdict(outcome)}, indent=2))
    _keep(given.executor, storage.partition(":")[0], outcome)
    sys.exit(1 if outcome.mistakes else 0)


def _keep(executor: str, storage: str, outcome: KillOutcome) -> None:
    """Replaces the outcome of this executor and storage in the committed result."""
    from experiments.benchmarks.cost import hardware  # torch, which no driver of the search needs

    result = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {"found": {}}
    packages = ("optuna", "ray", "sqlalchemy", "psycopg", "pymysql")
    result |= {
        "command": "python -m experiments.benchmarks.faults",
        "hardware": hardware(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in packages},
        "setting": {"workers": WORKERS, "epochs": EPOCHS, "epoch_seconds": EPOCH_SECONDS},
    }
    date = datetime.now(UTC).date().isoformat()
    result["found"].setdefault(executor, {})[storage] = {"date": date, **asdict(outcome)}
    write_file(RESULT, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
