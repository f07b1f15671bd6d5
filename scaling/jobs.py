"""A fixed list of jobs as a proposer: what the coefficient grid and the family both are."""

from __future__ import annotations

from collections.abc import Iterable

from space.evaluation import Job, Measurement, Proposer, Status


class InOrder(Proposer):
    """A `Proposer` that hands out the given jobs once each, in order, and stops none early.

    A job that comes `after` another waits until that one is complete, and is never handed out if it
    fails. `told` holds every result by its job's name. Raises ValueError where two jobs share a
    name, or one comes after a job that is not among them.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs = tuple(jobs)
        self.told: dict[str, Measurement] = {}
        names = [job.name for job in self.jobs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"job names must be unique, but got {', '.join(repeated)} repeatedly")
        for job in self.jobs:
            if job.after is not None and job.after not in names:
                raise ValueError(f"{job.name} must come after one of the jobs, but got {job.after}")
        self._waiting = list(self.jobs)

    def ask(self) -> Job | None:
        """The next job that waits for no other; None where there is none now."""
        for job in self._waiting:
            before = self.told.get(job.after) if job.after else None
            if job.after is None or (before and before.status is Status.COMPLETE):
                self._waiting.remove(job)
                return job
        return None

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Keeps the result of a job."""
        self.told[job.name] = measurement
