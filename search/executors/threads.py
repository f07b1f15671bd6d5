"""Jobs side by side, in threads of this process: what shares one GPU best."""

from __future__ import annotations

import threading
from functools import partial
from multiprocessing import Pipe

from search.executors.worker_pool import run_jobs, serve
from space.evaluation import Evaluate, Proposer


class Threads:
    """An `Executor` with `count` threads, for an `evaluate` that several may call at once.

    A thread cannot be ended from outside: a job that hangs holds its place, and the run.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more."""
        run_jobs(proposer, [partial(_Thread, evaluate)] * self._count, trial_timeout=None)


class _Thread:
    """A `Worker` that is a thread; it ends when its connection is closed."""

    replaceable = False

    def __init__(self, evaluate: Evaluate) -> None:
        self.connection, other = Pipe()
        self._thread = threading.Thread(target=serve, args=(other, evaluate), daemon=True)
        self._thread.start()

    def fate(self) -> str:
        self._thread.join()
        return "ended"

    def kill(self) -> None:
        """Nothing: see `Threads`."""
