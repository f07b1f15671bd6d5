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
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from experiments.benchmarks.clocked import (
    MEMORY,
    SEED,
    WARM_UP,
    Clock,
    Seconds,
    per_trial,
    search,
    space,
)
from experiments.benchmarks.cost import hardware
from experiments.benchmarks.fake import Sleeper
from experiments.benchmarks.speedup import speedup
from experiments.benchmarks.width import width
from search.executors.local import Local
from search.executors.processes import Processes
from search.executors.ray import Ray
from search.storage import open_storage
from space.evaluation import Executor
from space.files import write_file

#: What is compared: plain, and ours.
COMPARED = (
    ("plain Optuna, sqlite, tpe", "in process, sqlite, tpe"),
    ("plain Optuna, journal, tpe", "in process, journal, tpe"),
    ("plain Tune + OptunaSearch, memory, tpe", "Ray, sqlite, tpe"),
    ("plain Tune + OptunaSearch, memory, tpe, reuse", "Ray, memory, tpe"),
)
RESULT = Path(__file__).parents[1] / "results" / "orchestration.json"


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
            note(f"in process, {storage}, {sampler}", ours(Local(), url(), sampler, trials))
    executors: dict[str, Executor] = {
        "2 processes": Processes([{"OMP_NUM_THREADS": "1"}] * 2),
        "Ray": Ray(workers=2),
    }
    for name, executor in executors.items():
        for storage, url in storages(postgresql):
            note(f"{name}, {storage}, tpe", ours(executor, url(), "tpe", trials))
    note("plain Tune + OptunaSearch, memory, tpe, reuse", _plain_tune(trials, reuse=True))
    few = WARM_UP + 8  # each takes a new process
    note("plain Tune + OptunaSearch, memory, tpe", _plain_tune(few, reuse=False))

    return tabulated(found)


def ours(executor: Executor, storage: str, sampler: str, trials: int) -> Seconds:
    """A search of ours."""
    clock = Clock(search(storage, sampler, trials))
    executor.run(clock, Sleeper())
    return clock.seconds


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
        storage.delete_study(storage.get_study_id_from_name(study.study_name))
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
    part.add_argument("--rounds", type=int, default=5)
    part.add_argument("--seconds", type=float, nargs="+", default=[10.0, 5.0, 2.5])
    part.add_argument("--start", type=float, default=300.0, help="seconds in which workers begin")
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
