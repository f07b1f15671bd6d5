"""The progress of a stage: running training runs, the best result so far, the remaining time.

A terminal shows a live table; elsewhere, each finished training run gives a line. Both go to
standard error.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from search.study import finished, ranked, value_of
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
    """What a study holds when a stage begins or goes on."""
    every = study.get_trials(deepcopy=False)
    first = next(iter(ranked(study)), None)
    if first is None:
        return Earlier(len(finished(every)))
    known = first.user_attrs
    accuracy, macs = known["measurement"]["accuracy"], known["cost"]["macs"]
    return Earlier(len(finished(every)), Best(value_of(first), known["job"], accuracy, macs))


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


@dataclass
class _Tally:
    """The results so far, failures by reason, and how long training runs took.

    `doubtful` are the seconds of those that say they took longer than they did here: they went on
    from a checkpoint. They count where there is nothing better.
    """

    done: int
    best: Best | None
    pruned: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    pace: list[Done] = field(default_factory=list)
    doubtful: list[Done] = field(default_factory=list)


class ProgressDisplay(Observer):
    """Shows the work of a stage as it happens.

    `plan` is what there is to do: the jobs, where they are known, or how many training runs at
    most. `value` is what the stage maximises, of a job's accuracy. A job that is answered from a
    study counts as done, and says nothing of the pace.
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
        self._tally = _Tally(*(before or Earlier()))
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
        if self._tally.done:
            log.note(f"{self._stage}: {self._tally.done} of {self._total} were finished earlier")
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        line = f"{self._stage}: {self._summary()}; {duration(time.monotonic() - self._start)}"
        log.note(line)
        if console.is_terminal:
            log.say(line)

    def began(self, job: Job, since: float) -> None:
        """Shows a job as running."""
        self._running[job.name] = _Running(job, _cost(job), since)

    def epoch(self, job: Job, epoch: Epoch) -> None:
        """Shows how far a job is."""
        self._running[job.name].epoch = epoch

    def ended(self, job: Job, measurement: Measurement) -> None:
        """Counts a result, shows it, and learns the pace from it."""
        took = time.monotonic() - self._running.pop(job.name).began
        self._count(job, measurement)
        if measurement.finished:
            continued = measurement.train_seconds + measurement.validation_seconds > took
            pace = self._tally.doubtful if continued else self._tally.pace
            pace.append(Done(_effort(job) if self._known else 1.0, took))
        log.note(self._line(job, measurement, took))

    def answered(self, job: Job, measurement: Measurement) -> None:
        """Counts a result that was there before."""
        self._count(job, measurement)

    def _count(self, job: Job, measurement: Measurement) -> None:
        self._efforts.pop(job.name, None)
        tally, accuracy = self._tally, measurement.accuracy
        if accuracy is None or not measurement.finished:
            tally.failures[measurement.reason or "no reason was given"] += 1
            return
        tally.done += 1
        tally.pruned += measurement.status is Status.PRUNED
        value = self._value(accuracy, job)
        better = tally.best is None or value > tally.best.value
        if better and measurement.status is Status.COMPLETE:
            tally.best = Best(value, job.name, accuracy, _cost(job).macs)

    def _line(self, job: Job, measurement: Measurement, took: float) -> str:
        result = (
            f"{measurement.status} {percent(measurement.accuracy)}"
            if measurement.accuracy is not None
            else f"{measurement.status}: {measurement.reason}"
        )
        told = f"{count(_cost(job).macs)} MACs, {result} in {duration(took)}"
        return (
            f"{self._stage} {self._tally.done}/{self._total}  {job.name}: {told}; {self._rest(1)}"
        )

    def _rest(self, ending: int = 0) -> str:
        """The best result and the remaining time; `ending` training runs free a worker."""
        best = [f"best {self._tally.best}"] if self._tally.best else []
        remaining = self._left(ending)
        return "; ".join([*best, *([str(remaining)] if remaining else [])])

    def _left(self, ending: int = 0) -> Left | None:
        """By multiply–adds where the jobs are known, by count where they are not."""
        running = list(self._running.values())
        workers = max(1, len(running) + ending)
        if self._known:
            shares = {each.job.name: 1 - each.share for each in running}
            remaining = [effort * shares.get(name, 1.0) for name, effort in self._efforts.items()]
        else:
            missing = max(0, self._total - self._tally.done - len(running))
            remaining = [1.0] * missing + [1 - each.share for each in running]
        if not sum(remaining):
            return None
        return left(self._tally.pace or self._tally.doubtful, remaining, workers)

    def _summary(self) -> str:
        tally = self._tally
        parts = [f"{tally.done} of {self._total} done"]
        parts += [f"{tally.pruned} of them pruned"] if tally.pruned else []
        parts += [f"{tally.failures.total()} failed"] if tally.failures else []
        parts += [f"best {tally.best}"] if tally.best else []
        return ", ".join(parts)

    def _table(self) -> RenderableType:
        """All of it, drawn by a thread of its own, so from copies."""
        tally, running = self._tally, list(self._running.values())
        parts = [f"{tally.pruned} pruned"] if tally.pruned else []
        parts += [f"{tally.failures.total()} failed"] if tally.failures else []
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(self._stage, style="bold"),
            ProgressBar(self._total, min(tally.done, self._total), width=20),
            f"{tally.done}/{self._total}",
            Text(", ".join(parts), style="yellow"),
        )
        elapsed = f"after {duration(time.monotonic() - self._start)}"
        remaining = self._left()
        pace = f"{elapsed}: {remaining}" if remaining else elapsed
        lines: list[RenderableType] = [head, Text(pace, style="cyan")]
        if tally.best:
            lines.append(Text(f"best: {tally.best}", style="green"))
        lines += [_failures(tally.failures)] if tally.failures else []
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
            percent(epoch.accuracy) if epoch else "",
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
