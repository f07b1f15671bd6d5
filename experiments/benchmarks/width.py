"""How many workers one driver keeps busy, measured with workers that sleep."""

from __future__ import annotations

import re
import tempfile
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from experiments.benchmarks.clocked import Clock, search
from experiments.benchmarks.fake import Sleeper
from search.executors.ray import Ray
from space.evaluation import Job, Measurement, Proposer


def width(workers: int, rounds: int, seconds: Sequence[float], start: float) -> dict[str, Any]:
    """How busy Ray workers are whose trials sleep, SQLite and TPE included.

    Each worker has `rounds` trials of each of `seconds`, the longest first. Where trials become
    shorter, the driver hands out as many a second as it would to more workers, which is how far one
    machine's memory lets it be seen. Before them each has a trial that lasts until `start` seconds
    from now, in which all processes begin: two cores take some seconds for each, and Ray would
    sooner give a new trial to a worker that has ended one than wait for the next process.
    """
    sizes = [workers] + [workers * rounds] * len(seconds)
    sleeper = Sleeper(max(seconds), until=time.time() + start)
    with tempfile.TemporaryDirectory() as folder:
        inner = search(f"sqlite:///{folder}/study.db", "tpe", sum(sizes))
        clock = _Rounds(inner, sizes, [1.0, *(each / max(seconds) for each in seconds)])
        Ray(workers=workers, threads=1).run(clock, sleeper)
    found = {
        "workers": workers,
        "megabytes_per_worker": round(clock.memory / workers),
        "trials": {
            f"{each:g}": phase.summary(workers, each)
            for each, phase in zip(seconds, clock.phases[1:], strict=True)
        },
    }
    _print(found)
    return found


@dataclass
class _Phase:
    """When trials of one length were handed out and ended, and what the driver had spent then."""

    asked: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)

    def summary(self, workers: int, seconds: float) -> dict[str, float]:
        """From when every worker has ended a trial to when the last trial is handed out."""
        start, end = self.told[workers - 1], self.asked[-1]
        done = sum(start < told <= end for told in self.told)
        spent = self.spent[workers - 1 + done] - self.spent[workers - 1]
        return {
            "trials": len(self.told),
            "utilisation": round(done * seconds / (workers * (end - start)), 4),
            "trials_per_second": round(done / (end - start), 2),
            "driver_cpu_seconds_per_trial": round(spent / done, 4),
        }


class _Rounds(Clock):
    """A clock that has the first of `sizes` jobs last the first of `fractions`, and so on."""

    def __init__(self, inner: Proposer, sizes: Sequence[int], fractions: Sequence[float]) -> None:
        super().__init__(inner)
        self.phases = [_Phase() for _ in fractions]
        self.memory = 0.0
        self._ends, self._fractions = list(accumulate(sizes)), fractions
        self._phase_of: dict[str, int] = {}

    def ask(self) -> Job | None:
        job = super().ask()
        if job is None:
            if not self.memory:  # all have been handed out, and are at work
                self.memory = _memory_of_workers()
            return None
        number = bisect_right(self._ends, len(self._phase_of))
        self._phase_of[job.name] = number
        self.phases[number].asked.append(time.monotonic())
        budget = replace(job.budget, data_fraction=self._fractions[number])
        return replace(job, budget=budget)

    def tell(self, job: Job, measurement: Measurement) -> None:
        super().tell(job, measurement)
        phase = self.phases[self._phase_of[job.name]]
        phase.told.append(self.told[-1])
        phase.spent.append(self.spent[-1])


def _print(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if name != "trials":
            print(f"{name:32} {value}")
    for seconds, measured in found["trials"].items():
        for name, value in measured.items():
            print(f"trials of {seconds:>4} s, {name:30} {value}")


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
