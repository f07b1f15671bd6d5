"""What carrying a trial costs beside its training, and what more workers bring.

    python -m experiments.benchmarks.orchestration overhead
    python -m experiments.benchmarks.orchestration speedup --data FOLDER
    python -m experiments.benchmarks.orchestration width --workers 128

Each part prints its table and its ratios and replaces its section of
`experiments/results/orchestration.json`. Plain Optuna and plain Ray Tune with `OptunaSearch` are
measured beside ours, in the same run: the same 28 choices and sampler, trials that do nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import CategoricalDistribution

from experiments.benchmarks.cost import hardware
from experiments.benchmarks.fake import Sleeper
from search import samplers
from search.candidates import Candidates
from search.executors.local import Local
from search.executors.processes import Processes
from search.executors.ray import Ray
from search.objective import Objective
from search.search import Search
from search.storage import open_storage
from search.study import open_study
from space import choices
from space.architecture import Architecture
from space.choices import Space
from space.evaluation import Budget, Epoch, Evaluate, Executor, Job, Measurement, Proposer, Status
from space.files import write_file

CHOICES = 28
SEED = 0
#: In place of a storage's URL.
MEMORY = "memory"
#: Trials that are not counted: processes start, and TPE draws its first ten at random.
WARM_UP = 20
#: What is compared: plain, and ours.
COMPARED = (
    ("plain Optuna, sqlite, tpe", "in process, sqlite, tpe"),
    ("plain Optuna, journal, tpe", "in process, journal, tpe"),
    ("plain Tune + OptunaSearch, memory, tpe", "Ray, sqlite, tpe"),
    ("plain Tune + OptunaSearch, memory, tpe, reuse", "Ray, memory, tpe"),
)
RESULT = Path(__file__).parents[1] / "results" / "orchestration.json"


def space() -> Space:
    """The first 28 choices of the space `mnasnet`."""
    whole = choices.load("mnasnet")
    return replace(whole, choices=dict(islice(whole.choices.items(), CHOICES)))


class Clock:
    """A proposer that notes when jobs come and go, and the processor time of the driver then."""

    def __init__(self, inner: Proposer) -> None:
        self._inner = inner
        self.told: list[float] = []
        self.asked: list[float] = []
        self.spent: list[float] = []
        self.memory = 0.0

    def ask(self) -> Job | None:
        """The next job."""
        job = self._inner.ask()
        if job is not None:
            self.asked.append(time.monotonic())
        elif not self.memory:  # all have been handed out, and are at work
            self.memory = _memory_of_workers()
        return job

    def report(self, job: Job, epoch: Epoch) -> bool:
        """Passes an epoch on."""
        return self._inner.report(job, epoch)

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Passes a result on."""
        assert measurement.finished, measurement.reason
        self._inner.tell(job, measurement)
        self.told.append(time.monotonic())
        self.spent.append(time.process_time())

    @property
    def seconds(self) -> Seconds:
        """Per trial, without the first ones."""
        return per_trial(self.told, self.spent)


class Seconds(NamedTuple):
    """Of a trial: by the clock, and of the driver's processor, which other work changes less."""

    clock: float
    processor: float


def per_trial(clock: list[float], processor: list[float]) -> Seconds:
    """From the times at which trials ended, without the first ones."""
    count = len(clock) - WARM_UP
    first = WARM_UP - 1
    return Seconds((clock[-1] - clock[first]) / count, (processor[-1] - processor[first]) / count)


def ours(executor: Executor, storage: str, sampler: str, trials: int, evaluate: Evaluate) -> Clock:
    """A search of ours."""
    candidates = Candidates(space(), Objective(target=300_000_000))
    search = Search(
        optuna.create_study(direction="maximize")
        if storage == MEMORY
        else open_study(storage, "search"),
        samplers.create(sampler, candidates, SEED),
        Budget(epochs=1),
        trials=trials,
    )
    clock = Clock(search)
    executor.run(clock, evaluate)
    return clock


# ------------------------------------------------------------------------------------ overhead


def overhead(trials: int, postgresql: str | None) -> dict[str, Any]:
    """Seconds per trial that does nothing, by executor, storage and sampler, and what is saved."""
    found: dict[str, Seconds] = {}

    def note(name: str, seconds: Seconds) -> None:
        found[name] = seconds
        clock, processor = (1e3 * value for value in seconds)
        print(f"{name:46} {clock:8.1f} ms a trial, {processor:7.1f} of the driver", flush=True)

    for sampler in ("tpe", "random"):
        for storage, url in storages(postgresql):
            note(f"plain Optuna, {storage}, {sampler}", _plain_optuna(url(), sampler, trials))
            clock = ours(Local(), url(), sampler, trials, Sleeper())
            note(f"in process, {storage}, {sampler}", clock.seconds)
    executors: dict[str, Executor] = {
        "2 processes": Processes([{"OMP_NUM_THREADS": "1"}] * 2),
        "Ray": Ray(workers=2),
    }
    for name, executor in executors.items():
        for storage, url in storages(postgresql):
            clock = ours(executor, url(), "tpe", trials, Sleeper())
            note(f"{name}, {storage}, tpe", clock.seconds)
    note("plain Tune + OptunaSearch, memory, tpe, reuse", _plain_tune(trials, reuse=True))
    few = WARM_UP + 8  # each takes a new process
    note("plain Tune + OptunaSearch, memory, tpe", _plain_tune(few, reuse=False))

    return tabulated(found)


def tabulated(found: dict[str, Seconds]) -> dict[str, Any]:
    """The seconds by name, and how often ours fit into plain ones, which is printed."""
    clock = {name: round(seconds.clock, 5) for name, seconds in found.items()}
    driver = {name: round(seconds.processor, 5) for name, seconds in found.items()}
    ratios = {}
    for plain, own in COMPARED:
        by_clock, by_driver = clock[plain] / clock[own], driver[plain] / driver[own]
        ratios[f"{plain} / {own}"] = {"clock": round(by_clock, 2), "driver": round(by_driver, 2)}
        print(f"{plain} / {own}: {by_clock:.1f}× by the clock, {by_driver:.1f}× of the driver")
    return {"clock_seconds": clock, "driver_seconds": driver, "ratios": ratios}


def storages(postgresql: str | None) -> Iterator[tuple[str, Callable[[], str]]]:
    """Storages by name, and what gives the URL of an empty one."""
    folder = Path(tempfile.mkdtemp(prefix="phiscale-orchestration-"))
    names = (f"{number}" for number in range(1_000_000))
    yield "sqlite", lambda: f"sqlite:///{folder / next(names)}.db"
    yield "journal", lambda: f"journal:///{folder / next(names)}.log"
    yield "memory", lambda: MEMORY
    if postgresql:
        yield "postgresql", lambda: _emptied(postgresql)


def _emptied(url: str) -> str:
    storage = open_storage(url)
    for study in storage.get_all_studies():
        storage.delete_study(study._study_id)
    return url


def _plain_optuna(url: str, sampler: str, trials: int) -> Seconds:
    """Optuna as its documentation uses it: `suggest_categorical` in an objective."""
    offered = space().choices
    ended: list[float] = []
    spent: list[float] = []

    def objective(trial: optuna.Trial) -> float:
        values = [trial.suggest_categorical(name, values) for name, values in offered.items()]
        ended.append(time.monotonic())
        spent.append(time.process_time())
        return float(hash(tuple(map(str, values))) % 1_000) / 1_000

    made = optuna.samplers.TPESampler if sampler == "tpe" else optuna.samplers.RandomSampler
    study = optuna.create_study(
        storage=_optunas(url), sampler=made(seed=SEED), direction="maximize"
    )
    study.optimize(objective, n_trials=trials)
    return per_trial(ended, spent)


def _optunas(url: str) -> Any:
    """A storage as Optuna opens it by default."""
    if url.startswith("journal://"):
        from optuna.storages.journal import JournalFileBackend

        path = url.removeprefix("journal://")
        return optuna.storages.JournalStorage(JournalFileBackend(path))
    return None if url == MEMORY else url


def _plain_tune(trials: int, *, reuse: bool) -> Seconds:
    """Ray Tune with `OptunaSearch`, as their documentation uses them, with one worker a core."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    if not ray.is_initialized():
        ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    told: list[float] = []
    spent: list[float] = []

    class Clocked(OptunaSearch):  # type: ignore[misc]
        def on_trial_complete(self, *args: Any, **options: Any) -> None:
            super().on_trial_complete(*args, **options)
            told.append(time.monotonic())
            spent.append(time.process_time())

    class Idle(tune.Trainable):  # type: ignore[misc]
        def step(self) -> dict[str, Any]:
            return {"value": 0.5, "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:  # noqa: ARG002
            return True

    offered = {name: CategoricalDistribution(values) for name, values in space().choices.items()}
    sampler = optuna.samplers.TPESampler(seed=SEED)
    search = Clocked(offered, metric="value", mode="max", sampler=sampler)
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            Idle,
            tune_config=tune.TuneConfig(
                search_alg=search,
                num_samples=trials,
                max_concurrent_trials=2,
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    return per_trial(told, spent)


# -------------------------------------------------------------------------------------- speedup


def speedup(data: str, jobs: int) -> dict[str, Any]:
    """Seconds for the same CIFAR-10 trainings by one and by two workers of one thread, and by one
    of two. The clock starts when every worker has ended a first training."""
    from experiments import config
    from experiments.data.load import load
    from experiments.evaluators.training import TrainingEvaluator

    recipe = config.load(
        "cifar10", [f"data.source={data}", "data.limit=5000", "data.held_out=1000"]
    )
    images = load(recipe.data, resolution=recipe.resolution, seed=SEED)
    adapted = choices.load(recipe.space).adapted(
        num_classes=len(images.classes), resolution=recipe.resolution, in_channels=3
    )
    seconds: dict[str, float] = {}
    for name, workers, threads in (
        ("one worker, one thread", 1, 1),
        ("two workers, one thread each", 2, 1),
        ("one worker, two threads", 1, 2),
    ):
        with tempfile.TemporaryDirectory() as folder:
            evaluate = TrainingEvaluator(
                images.train, images.held_out, recipe.train, Path(folder), device="cpu"
            )
            timed = _Timed(adapted.base, workers, jobs)
            Processes([{"OMP_NUM_THREADS": str(threads)}] * workers).run(timed, evaluate)
        seconds[name] = round(timed.seconds, 3)
        print(f"{name:32} {timed.seconds:8.2f} s for {jobs} trainings", flush=True)
    one, two, wide = seconds.values()
    print(f"two workers over one: {one / two:.2f}×; two threads over one: {one / wide:.2f}×")
    return {
        "seconds": seconds,
        "trainings": jobs,
        "images": len(images.train),
        "two_workers_over_one": round(one / two, 3),
        "two_threads_over_one": round(one / wide, 3),
    }


class _Timed:
    """The same training again and again, `jobs` times once each of `workers` has made one."""

    def __init__(self, architecture: Architecture, workers: int, jobs: int) -> None:
        self._first = [Job(f"first-{n}", architecture, Budget(1, seed=n)) for n in range(workers)]
        self._jobs = [Job(f"job-{n}", architecture, Budget(2, seed=n)) for n in range(jobs)]
        self._starting = workers
        self._began = self._ended = 0.0

    def ask(self) -> Job | None:
        """The next training; none while a worker is at its first."""
        if self._first:
            return self._first.pop()
        if self._starting or not self._jobs:
            return None
        self._began = self._began or time.monotonic()
        return self._jobs.pop()

    def report(self, *_: object) -> bool:
        """Never stops a training."""
        return False

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Notes the time."""
        assert measurement.status is Status.COMPLETE, measurement.reason
        if job.name.startswith("first-"):
            self._starting -= 1
        self._ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """Between the first training asked for and the last told."""
        return self._ended - self._began


# ---------------------------------------------------------------------------------------- width


def width(workers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """How busy many Ray workers are whose trials sleep, SQLite and TPE included.

    The part of their time that workers sleep, from when every worker has ended a trial to when the
    last is handed out; and what the driver, which is one thread, spends on a trial.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/study.db"
        executor = Ray(workers=workers, threads=1)
        clock = ours(executor, storage, "tpe", workers * rounds, Sleeper(seconds))
    start, end = clock.told[workers - 1], clock.asked[-1]
    done = sum(start < told <= end for told in clock.told)
    spent = clock.spent[workers - 1 + done] - clock.spent[workers - 1]
    found = {
        "workers": workers,
        "trial_seconds": seconds,
        "trials": len(clock.told),
        "utilisation": round(done * seconds / (workers * (end - start)), 4),
        "start_seconds": round(clock.told[workers - 1] - seconds - began, 1),
        "driver_cpu_seconds_per_trial": round(spent / done, 4),
        "megabytes_per_worker": round(clock.memory / workers),
    }
    for name, value in found.items():
        print(f"{name:32} {value}")
    return found


def _memory_of_workers() -> float:
    """Megabytes of all Ray workers, what they share divided among those who share it."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(b"ray::"):
                (pss,) = re.findall(r"^Pss: +(\d+)", (process / "smaps_rollup").read_text(), re.M)
                total += int(pss)
        except OSError:
            continue
    return total / 1024


# ----------------------------------------------------------------------------------------- main


def main() -> None:
    """Measures one part, prints its table, and replaces its section of the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("overhead")
    part.add_argument("--trials", type=int, default=150)
    part.add_argument("--postgresql", help="URL of a database that is emptied")
    part = parts.add_parser("speedup")
    part.add_argument("--data", required=True, help="folder of CIFAR-10")
    part.add_argument("--jobs", type=int, default=8)
    part = parts.add_parser("width")
    part.add_argument("--workers", type=int, default=128)
    part.add_argument("--rounds", type=int, default=6)
    part.add_argument("--seconds", type=float, default=10.0)
    given = vars(parser.parse_args())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = given.pop("part")
    measure: dict[str, Callable[..., dict[str, Any]]]
    measure = {"overhead": overhead, "speedup": speedup, "width": width}
    found = measure[name](**given)
    packages = ("optuna", "ray", "torch", "sqlalchemy")
    result = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {}
    result[name] = {
        "command": f"python -m experiments.benchmarks.orchestration {name}",
        "arguments": {
            key: value for key, value in given.items() if key not in ("postgresql", "data")
        },
        "hardware": hardware(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in packages},
        "seed": SEED,
        "found": found,
    }
    write_file(RESULT, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
