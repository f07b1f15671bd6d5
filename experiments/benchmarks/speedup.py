"""What more workers bring: the same CIFAR-10 training runs by one and by two of them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from search.executors.processes import Processes
from space import choices
from space.architecture import Architecture
from space.evaluation import Budget, Job, Measurement, Status

SEED = 0


def speedup(data: str, jobs: int) -> dict[str, Any]:
    """Seconds for the same CIFAR-10 training runs by one and two workers of one thread, and by one
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
        print(f"{name:32} {timed.seconds:8.2f} s for {jobs} training runs", flush=True)
    one, two, wide = seconds.values()
    print(f"two workers over one: {one / two:.2f}×; two threads over one: {one / wide:.2f}×")
    return {
        "seconds": seconds,
        "training_runs": jobs,
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
