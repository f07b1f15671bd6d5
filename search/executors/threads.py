"""Jobs side by side, in threads of this process: what shares one GPU best."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from multiprocessing import Pipe

from search.executors.worker_pool import Worker, run_jobs, serve
from space.evaluation import Evaluate, Proposer


@dataclass(frozen=True)
class Threads:
    """An `Executor` with `count` threads, for an `evaluate` that several may call at once.

    A thread cannot be killed: a job that hangs keeps its place, and the run does not end.
    """

    count: int

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more."""

        def start() -> Worker:
            connection, other = Pipe()  # closing it ends the thread
            threading.Thread(target=serve, args=(other, evaluate), daemon=True).start()
            return Worker(connection, lambda: "ended", lambda: None, replaceable=False)

        run_jobs(proposer, [start] * self.count, trial_timeout=None)
