"""What a run shows while it works: the trial, the best so far, the seconds left.

A bar on a terminal, a plain line per finished training elsewhere. Both on standard error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from space.cost import Cost, cost
from space.evaluation import Epoch, Job, Measurement, Proposer

console = Console(stderr=True, highlight=False)


class Watched:
    """A proposer whose work is shown as it happens; it changes nothing of it.

    `plan` is what there is to do: the jobs, where they are known, or how many trainings.
    `value` is what the stage maximises, of an accuracy and an exact cost.
    """

    def __init__(
        self,
        proposer: Proposer,
        stage: str,
        plan: Sequence[Job] | int,
        value: Callable[[float, Cost], float],
    ) -> None:
        self._proposer, self._stage, self._value = proposer, stage, value
        self._total = plan if isinstance(plan, int) else len(plan)
        self._left = 0.0 if isinstance(plan, int) else sum(map(_effort, plan))
        self._known = not isinstance(plan, int)
        self._done = 0
        self._spent_effort = 0.0
        self._start = time.monotonic()
        self._best: tuple[float, str] | None = None
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=self._total, note="")

    def __enter__(self) -> Watched:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def ask(self) -> Job | None:
        """The next job, shown as running."""
        job = self._proposer.ask()
        if job is not None:
            self._bar.update(self._task, description=f"{self._stage}  {job.name}")
        return job

    def report(self, job: Job, epoch: Epoch) -> bool:
        """Passes an epoch on and shows it."""
        note = f"epoch {epoch.epoch}/{job.budget.epochs}  {epoch.accuracy:.1%}  {self._summary()}"
        self._bar.update(self._task, note=note)
        return self._proposer.report(job, epoch)

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Passes a result on and shows it."""
        self._proposer.tell(job, measurement)
        self._spent_effort += _effort(job)
        self._left -= _effort(job)
        if measurement.accuracy is not None and measurement.finished:
            self._done += 1
            value = self._value(measurement.accuracy, _cost(job))
            if self._best is None or value > self._best[0]:
                self._best = (value, job.name)
        self._bar.update(self._task, completed=self._done, note=self._summary())
        if not console.is_terminal:
            console.print(self._line(job, measurement), markup=False, soft_wrap=True)

    def _line(self, job: Job, measurement: Measurement) -> str:
        seconds = measurement.train_seconds + measurement.validation_seconds
        result = (
            f"{measurement.status} {measurement.accuracy:.1%}"
            if measurement.accuracy is not None
            else f"{measurement.status}: {measurement.reason}"
        )
        name = f"{self._stage} {self._done}/{self._total}  {job.name}"
        macs = f"{_cost(job).macs / 1e6:.2f}M MACs"
        return f"{name}  {macs}  {result}  {seconds:.1f} s  {self._summary()}"

    def _summary(self) -> str:
        best = f"best {self._best[0]:.4f} ({self._best[1]})" if self._best else ""
        return f"{best}  {self._seconds_left()}".strip()

    def _seconds_left(self) -> str:
        """By multiply–adds where the jobs are known, by count where they are not."""
        elapsed = time.monotonic() - self._start
        if self._known and self._spent_effort > 0:
            seconds = elapsed / self._spent_effort * self._left
        elif self._done > 0:
            seconds = elapsed / self._done * (self._total - self._done)
        else:
            return ""
        return f"{max(0.0, seconds):.0f} s left"


def _effort(job: Job) -> float:
    """What a training costs, up to a constant: multiply–adds times epochs times data."""
    return float(_cost(job).macs * job.budget.epochs) * job.budget.data_fraction


def _cost(job: Job) -> Cost:
    return cost(job.architecture, job.budget.resolution)
