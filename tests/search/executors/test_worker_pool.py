"""The pool of workers by itself: whose failure is whose."""

from __future__ import annotations

from dataclasses import dataclass, field
from multiprocessing import Pipe

from search.executors.worker_pool import RETRIES, Worker, run_jobs
from space import presets
from space.evaluation import Budget, Epoch, Job, Measurement, Status


@dataclass
class OneJob:
    """A `Proposer` of a single job that keeps what it is told."""

    jobs: list[Job] = field(
        default_factory=lambda: [Job("a", presets.load("mnasnet_small"), Budget(1))]
    )
    told: list[Measurement] = field(default_factory=list)

    def ask(self) -> Job | None:
        return self.jobs.pop() if self.jobs else None

    def report(self, job: Job, epoch: Epoch) -> bool:
        raise AssertionError((job, epoch))

    def tell(self, _: Job, measurement: Measurement) -> None:
        self.told.append(measurement)


def stillborn() -> Worker:
    """A worker that has hung up before its first job."""
    connection, other = Pipe()
    other.close()
    return Worker(connection, lambda: "ended with status 1", lambda: None)


def test_job_of_workers_that_die_at_once_fails() -> None:
    proposer = OneJob()
    run_jobs(proposer, [stillborn], trial_timeout=None)
    (told,) = proposer.told
    assert told.status is Status.FAILED
    assert told.reason == f"its worker died {RETRIES + 1} times; the last one ended with status 1"
