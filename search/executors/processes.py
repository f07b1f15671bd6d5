"""Jobs side by side, in processes of this machine."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from search.executors.worker_pool import run_jobs, serve
from space.evaluation import Evaluate, Proposer

#: Seconds for a worker that has hung up to be gone (assumed).
_END_SECONDS = 5.0

#: Linux' prctl: the signal that a process gets when its parent dies (prctl(2)).
_PR_SET_PDEATHSIG = 1


class Processes:
    """An `Executor` with a spawned worker for each of `environments`, variables that it is given.

    `evaluate` must pickle. `worker_pool.run_jobs` says what happens to jobs whose worker dies,
    hangs, or is interrupted. Workers do not outlive the process that started them, whatever ends
    it.
    """

    def __init__(
        self, environments: Sequence[Mapping[str, str]], trial_timeout: float | None = None
    ) -> None:
        self._environments = environments
        self._timeout = trial_timeout

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more."""
        pickled = pickle.dumps(evaluate)
        starts = [partial(Process, environment, pickled) for environment in self._environments]
        run_jobs(proposer, starts, self._timeout)


class Process:
    """A `Worker` that is a process."""

    replaceable = True

    def __init__(self, environment: Mapping[str, str], pickled: bytes) -> None:
        # Spawned, not forked: a forked process has the driver's threads' locks and no CUDA.
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, pickled), daemon=True)
        with variables(environment), _no_interruption():
            self._process.start()
        other.close()

    def fate(self) -> str:
        """How it ended."""
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        if code is None:
            return "hung up"
        if code >= 0:
            return f"ended with status {code}"
        name = signal.Signals(-code).name
        # The system ends by SIGKILL whoever has taken the last memory.
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.join()


@contextmanager
def variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Inside, processes start with these variables: some count before the first import only."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _no_interruption() -> Iterator[None]:
    """Inside, processes start deaf to Ctrl-C, which a terminal sends to all: the driver decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection[Any, Any], pickled: bytes) -> None:
    """A worker's life."""
    _end_with_driver()
    serve(connection, pickle.loads(pickled))


def _end_with_driver() -> None:
    """Ends this process as soon as the driver has ended, even by SIGKILL."""
    if sys.platform == "linux":  # the kernel sees to it, even where a library holds all threads up
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    driver = multiprocessing.parent_process()
    assert driver is not None

    def watch() -> None:
        wait([driver.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
