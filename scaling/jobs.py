"""A fixed list of jobs as a proposer: what the coefficient grid and the family both are."""

from __future__ import annotations

from collections.abc import Iterable

from space.evaluation import Epoch, Job, Measurement


class InOrder:
    """A `Proposer` that hands out the given jobs once each, in order, and stops none early.

    `told` holds every result by its job's name. Raises ValueError where two jobs share a name.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs = tuple(jobs)
        self.told: dict[str, Measurement] = {}
        names = [job.name for job in self.jobs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"job names must be unique, but got {', '.join(repeated)} repeatedly")
        self._waiting = iter(self.jobs)

    def ask(self) -> Job | None:
        """The next job, None after the last."""
        return next(self._waiting, None)

    def report(self, job: Job, epoch: Epoch) -> bool:  # noqa: ARG002 (Proposer's)
        """Never stops a job."""
        return False

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Keeps the result of a job."""
        self.told[job.name] = measurement
