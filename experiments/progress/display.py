"""The progress of a stage: running training runs, the best result so far, the remaining time.

A terminal shows a live table; elsewhere, each finished training run gives a line. Both go to
standard error.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import optuna
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.progress import log
from experiments.progress.log import console
from experiments.progress.time_left import Done, Left, left
from reports.formatting import count, duration, percent, printable
from search.study import best, finished, value_of
from space.cost import Cost, cost
from space.evaluation import Epoch, Job, Measurement, Observer, Status

#: Rows of the live table for running training runs; the number of further ones is shown below.
_ROWS = 16

#: Redraws of the live table per second (assumed).
_DRAWN = 2


class Best(NamedTuple):
    """The best result so far; the stage maximises `value`."""

    value: float
    name: str
    accuracy: float
    macs: int

    def __str__(self) -> str:
        result = f"{self.name}, {percent(self.accuracy)}, {count(self.macs)} MACs"
        return result if self.value == self.accuracy else f"{result}, reward {self.value:.4f}"


class Earlier(NamedTuple):
    """The number of training runs that earlier starts have finished, and their best result."""

    done: int = 0
    best: Best | None = None


def earlier(study: optuna.Study) -> Earlier:
    """What a study already holds when a stage starts or continues."""
    done, first = len(finished(study.get_trials(deepcopy=False))), best(study)
    if first is None:
        return Earlier(done)
    known = first.user_attrs
    accuracy, macs = known["measurement"]["accuracy"], known["cost"]["macs"]
    return Earlier(done, Best(value_of(first), known["job"], accuracy, macs))


@dataclass
class _Running:
    """A running job: when it began, on the clock of `time.monotonic`, and its last epoch."""

    job: Job
    cost: Cost
    began: float
    epoch: Epoch | None = None

    @property
    def share(self) -> float:
        """The part of its epochs that is done."""
        return self.epoch.epoch / self.job.budget.epochs if self.epoch else 0.0


class ProgressDisplay(Observer):
    """Shows the work of a stage as it happens.

    `plan` is the jobs, if they are known, or the most training runs that there can be. `value`
    turns a job's accuracy into what the stage maximises. A job that is answered from the study
    counts as done, but not for the pace.
    """

    def __init__(
        self,
        stage: str,
        plan: Sequence[Job] | int,
        value: Callable[[float, Job], float],
        before: Earlier | None = None,
    ) -> None:
        self._stage, self._value = stage, value
        jobs = [] if isinstance(plan, int) else plan
        self._total = plan if isinstance(plan, int) else len(plan)
        self._known = bool(jobs)
        self._efforts = {job.name: _effort(job) for job in jobs}
        self._running: dict[str, _Running] = {}
        self._done, self._best = before or Earlier()
        self._pruned, self._failures = 0, Counter[str]()
        self._pace: list[Done] = []
        #: Of training runs that went on from a checkpoint, so that they took longer than was seen
        #: here; used if there is nothing better.
        self._doubtful_pace: list[Done] = []
        self._start = time.monotonic()
        self._live = Live(
            get_renderable=self._table,
            console=console,
            refresh_per_second=_DRAWN,
            transient=True,
        )

    def __enter__(self) -> ProgressDisplay:
        self._start = time.monotonic()
        if console.is_terminal and not console.quiet:
            self._live.start()
        if self._done:
            log.note(f"{self._stage}: {self._done} of {self._total} were finished earlier")
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        parts = [f"{self._done} of {self._total} done"]
        parts += [f"{self._pruned} of them pruned"] if self._pruned else []
        parts += [f"{self._failures.total()} failed"] if self._failures else []
        parts += [f"best {self._best}"] if self._best else []
        line = f"{self._stage}: {', '.join(parts)}; {duration(time.monotonic() - self._start)}"
        log.note(line)
        if console.is_terminal:
            log.say(line)

    def began(self, job: Job, since: float) -> None:
        """Shows a job as running."""
        self._running[job.name] = _Running(job, _cost(job), since)

    def epoch(self, job: Job, epoch: Epoch) -> None:
        """Shows the progress of a job."""
        self._running[job.name].epoch = epoch

    def ended(self, job: Job, measurement: Measurement) -> None:
        """Counts a result, shows it, and learns the pace from it."""
        took = time.monotonic() - self._running.pop(job.name).began
        self.answered(job, measurement)
        if measurement.finished:
            continued = measurement.train_seconds + measurement.validation_seconds > took
            pace = self._doubtful_pace if continued else self._pace
            pace.append(Done(_effort(job) if self._known else 1.0, took))
        result = f"{measurement.status}: {measurement.reason}"
        if measurement.accuracy is not None:
            result = f"{measurement.status} {percent(measurement.accuracy)}"
        remaining = self._left(ending=1)
        parts = [
            f"{self._stage} {self._done}/{self._total}  {job.name}: {count(_cost(job).macs)} MACs, "
            f"{result} in {duration(took)}",
            *([f"best {self._best}"] if self._best else []),
            *([str(remaining)] if remaining else []),
        ]
        log.note("; ".join(parts))

    def answered(self, job: Job, measurement: Measurement) -> None:
        """Counts a result."""
        self._efforts.pop(job.name, None)
        accuracy = measurement.accuracy
        if accuracy is None or not measurement.finished:
            self._failures[measurement.reason or "no reason was given"] += 1
            return
        self._done += 1
        self._pruned += measurement.status is Status.PRUNED
        value = self._value(accuracy, job)
        better = self._best is None or value > self._best.value
        if better and measurement.status is Status.COMPLETE:
            self._best = Best(value, job.name, accuracy, _cost(job).macs)

    def _left(self, ending: int = 0) -> Left | None:
        """The remaining time, by multiply–adds if the jobs are known, else by their number.

        `ending` is the number of training runs that are about to free a worker.
        """
        running = list(self._running.values())
        if self._known:
            shares = {each.job.name: 1 - each.share for each in running}
            remaining = [effort * shares.get(name, 1.0) for name, effort in self._efforts.items()]
        else:
            missing = max(0, self._total - self._done - len(running))
            remaining = [1.0] * missing + [1 - each.share for each in running]
        if not sum(remaining):
            return None
        workers = max(1, len(running) + ending)
        return left(self._pace or self._doubtful_pace, remaining, workers)

    def _table(self) -> RenderableType:
        """The live table; called from the display's own thread, so it works on copies."""
        running, failures = list(self._running.values()), self._failures.copy()
        parts = [f"{self._pruned} pruned"] if self._pruned else []
        parts += [f"{failures.total()} failed"] if failures else []
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(self._stage, style="bold"),
            ProgressBar(self._total, min(self._done, self._total), width=20),
            f"{self._done}/{self._total}",
            Text(", ".join(parts), style="yellow"),
        )
        elapsed = f"after {duration(time.monotonic() - self._start)}"
        remaining = self._left()
        pace = f"{elapsed}: {remaining}" if remaining else elapsed
        lines: list[RenderableType] = [head, Text(pace, style="cyan")]
        lines += [Text(f"best: {self._best}", style="green")] if self._best else []
        lines += [_failures(failures)] if failures else []
        lines += [_running_table(running)] if running else []
        return Group(*lines)


def _failures(failures: Counter[str]) -> Text:
    told = [f"{times} × {printable(reason)}" for reason, times in failures.most_common(3)]
    return Text("failed: " + "; ".join(told), style="red", overflow="ellipsis", no_wrap=True)


def _running_table(running: Sequence[_Running]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("running", overflow="ellipsis", no_wrap=True, max_width=34)
    for name in ("MACs", "epoch", "accuracy", "for"):
        table.add_column(name, justify="right", no_wrap=True)
    now = time.monotonic()
    for each in running[:_ROWS]:
        epoch = each.epoch
        table.add_row(
            Text(each.job.name),
            count(each.cost.macs),
            f"{epoch.epoch if epoch else 0}/{each.job.budget.epochs}",
            percent(epoch.accuracy) if epoch and epoch.accuracy is not None else "",
            duration(now - each.began),
        )
    if len(running) > _ROWS:
        table.add_row(f"and {len(running) - _ROWS} more")
    return table


def _effort(job: Job) -> float:
    """The cost of a training run up to a constant: multiply–adds × epochs × data."""
    return float(_cost(job).macs * job.budget.epochs) * job.budget.data_fraction


def _cost(job: Job) -> Cost:
    return cost(job.architecture, job.budget.resolution)
