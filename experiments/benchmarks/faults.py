"""Kills the driver of a search at random moments, and counts what is lost or done twice.

    python -m experiments.benchmarks.faults --kills 50 --executor processes --storage URL

The search is a real one, in a real storage; its trainings are slept (`fake.FakeEvaluate`), and each
that begins is noted in a file. After the last kill the search is brought to its end. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.benchmarks.fake import FakeEvaluate

#: What the search trains with, and how long an epoch takes in seconds.
WORKERS, EPOCHS, EPOCH_SECONDS = 2, 3, 0.03

#: Seconds after the first training of a start, within which the driver is killed.
LONGEST_LIFE = 1.0


@dataclass
class Outcome:
    """What a search has come to that was killed `kills` times.

    `mistakes` is empty where nothing was lost, repeated or miscounted. `repeated` trainings were in
    flight when the driver was killed, and were begun again.
    """

    kills: int
    trials: int
    finished: int = 0
    trainings: int = 0
    repeated: int = 0
    seconds: float = 0.0
    mistakes: list[str] = field(default_factory=list)


def search(folder: Path, executor: str, storage: str, trials: int) -> None:
    """Drives the search to its end, or to a kill."""
    import optuna

    from search import lease, samplers
    from search.candidates import Candidates
    from search.executors.local import Local
    from search.executors.processes import Processes
    from search.objective import Objective
    from search.search import Search
    from search.study import open_study
    from space import choices
    from space.evaluation import Budget, Executor

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with lease.held(storage) as held:
        candidates = Candidates(choices.load("mnasnet_small"), Objective(target=10_000_000))
        sampler = samplers.create("random", candidates, 0)
        study = open_study(storage, "search")
        proposer = Search(study, sampler, Budget(EPOCHS), trials=trials)
        carried: Executor = Processes([{}] * WORKERS) if executor == "processes" else Local()
        evaluate = FakeEvaluate(folder / "trainings.txt", EPOCH_SECONDS)
        carried.run(lease.Leased(proposer, held), evaluate)


def torment(
    folder: Path, executor: str, storage: str, *, kills: int, trials: int, seed: int
) -> Outcome:
    """Starts the search, kills it `kills` times, lets it end, and says what was wrong."""
    drawn = random.Random(seed)
    outcome = Outcome(kills, trials)
    evaluate = FakeEvaluate(folder / "trainings.txt")
    kept: dict[int, Any] = {}
    counted: Counter[str] = Counter()
    began = time.monotonic()
    for _ in range(kills):
        driver = _start(folder, executor, storage, trials)
        _wait_for_training(driver, evaluate)
        time.sleep(drawn.uniform(0, LONGEST_LIFE))
        driver.send_signal(signal.SIGKILL)
        if driver.wait() != -signal.SIGKILL:
            outcome.mistakes.append("the search ended before its kill: give it more trials")
        kept = _compared(kept, _finished(storage), outcome)
        counted = _recounted(counted, evaluate, kept, outcome)
    status = _start(folder, executor, storage, trials).wait()
    if status != 0:
        outcome.mistakes.append(f"the last start ended with status {status}")
    _conclude(_compared(kept, _finished(storage), outcome), evaluate, executor, outcome)
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _start(folder: Path, executor: str, storage: str, trials: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "experiments.benchmarks.faults", "--drive", str(folder)]
    options = ["--executor", executor, "--storage", storage, "--trials", str(trials)]
    return subprocess.Popen([*command, *options], env=os.environ)


def _wait_for_training(driver: subprocess.Popen[bytes], evaluate: FakeEvaluate) -> None:
    """Until a training has begun since: before that, there is nothing to lose."""
    before = len(evaluate.begun())
    while driver.poll() is None and len(evaluate.begun()) == before:
        time.sleep(0.01)


def _finished(storage: str) -> dict[int, Any]:
    """What the storage says of each finished trial, by number."""
    from search.study import finished, open_study

    trials = finished(open_study(storage, "search").get_trials(deepcopy=False))
    return {
        trial.number: (trial.user_attrs["key"], trial.value, trial.datetime_complete)
        for trial in trials
    }


def _compared(before: dict[int, Any], now: dict[int, Any], outcome: Outcome) -> dict[int, Any]:
    for number, told in before.items():
        if now.get(number) != told:
            outcome.mistakes.append(f"trial {number} was {told}, and is {now.get(number)}")
    return now


def _recounted(
    before: Counter[str], evaluate: FakeEvaluate, kept: dict[int, Any], outcome: Outcome
) -> Counter[str]:
    """How often each network that is finished by now was trained; it may not grow."""
    trainings = Counter(key for key, _ in evaluate.begun())
    for key, times in before.items():
        if trainings[key] != times:
            outcome.mistakes.append(f"{key} was finished, and was trained again")
    return Counter({key: trainings[key] for key, *_ in kept.values()})


def _conclude(
    found: dict[int, Any], evaluate: FakeEvaluate, executor: str, outcome: Outcome
) -> None:
    trainings = Counter(key for key, _ in evaluate.begun())
    outcome.finished, outcome.trainings = len(found), trainings.total()
    outcome.repeated = trainings.total() - len(trainings)
    keys = Counter(key for key, *_ in found.values())
    if outcome.finished != outcome.trials:
        outcome.mistakes.append(f"{outcome.finished} trials are finished, not {outcome.trials}")
    if keys.keys() != trainings.keys() or set(keys.values()) != {1}:
        outcome.mistakes.append("the networks that were trained are not each finished once")
    at_once = WORKERS if executor == "processes" else 1
    if outcome.repeated > outcome.kills * at_once:
        outcome.mistakes.append(f"{outcome.repeated} trainings were repeated")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", choices=("local", "processes"), default="processes")
    parser.add_argument("--storage", help="URL; none: SQLite in a temporary folder")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trials", type=int, help="default: ten for each kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    trials = given.trials or 10 * given.kills
    if given.drive:
        search(given.drive, given.executor, given.storage, trials)
        return
    with tempfile.TemporaryDirectory() as folder:
        storage = given.storage or f"sqlite:///{folder}/study.db"
        outcome = torment(
            Path(folder),
            given.executor,
            storage,
            kills=given.kills,
            trials=trials,
            seed=given.seed,
        )
    print(json.dumps({"executor": given.executor, **asdict(outcome)}, indent=2))
    sys.exit(1 if outcome.mistakes else 0)


if __name__ == "__main__":
    main()
