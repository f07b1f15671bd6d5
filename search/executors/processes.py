"""Jobs side by side, in processes of this machine."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from search.executors.worker_pool import Worker, run_jobs, serve
from space.evaluation import Evaluate, Proposer

#: Seconds for a worker that has hung up to be gone (assumed).
_END_SECONDS = 5.0

#: Linux' prctl: the signal that a process gets when its parent dies (prctl(2)).
_PR_SET_PDEATHSIG = 1


class Processes:
    """An `Executor` with a spawned process for each of `environments`, variables that it is given.

    Each evaluates `threads` jobs at a time. `evaluate` must pickle, and with several threads it may
    be called by all of them; where one of them hangs, its process ends, and the jobs of the others
    go on elsewhere. `worker_pool.run_jobs` says what happens to jobs whose worker dies,
    hangs, or is interrupted. Workers do not outlive the process that started them, whatever ends
    it.
    """

    def __init__(
        self,
        environments: Sequence[Mapping[str, str]],
        trial_timeout: float | None = None,
        threads: int = 1,
    ) -> None:
        self._environments = environments
        self._timeout = trial_timeout
        self._threads = threads

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more."""
        pickled = pickle.dumps(evaluate)
        starts: list[Callable[[], Worker]] = []
        for environment in self._environments:
            start = partial(Process, environment, pickled, self._threads)
            starts += [_ThreadStarter(start)] * self._threads if self._threads > 1 else [start]
        run_jobs(proposer, starts, self._timeout)


class Process:
    """A `Worker` that is a process; with several `threads`, it has a connection for each."""

    replaceable = True

    def __init__(self, environment: Mapping[str, str], pickled: bytes, threads: int = 1) -> None:
        # Spawned, not forked: a forked process has the driver's threads' locks and no CUDA.
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(threads)]
        self.connections = [own for own, _ in pipes]
        self.connection = self.connections[0]
        others = [other for _, other in pipes]
        self._process = context.Process(target=_work, args=(others, pickled), daemon=True)
        with variables(environment), _no_interruption():
            self._process.start()
        for other in others:
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
        # Linux kills the process that took the last memory by SIGKILL.
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.join()


class _ThreadStarter:
    """Starts `Worker`s that are threads of one process, which starts with the first of them."""

    def __init__(self, start: Callable[[], Process]) -> None:
        self._start = start
        self._process: Process | None = None
        self._free: list[Connection[Any, Any]] = []

    def __call__(self) -> Worker:
        if self._process is None:
            self._process = self._start()
            self._free = list(self._process.connections)
        return _ProcessThread(self, self._process, self._free.pop())

    def end(self, process: Process) -> None:
        """Ends a process and all of its threads; the next worker starts another."""
        if self._process is process:
            self._process = None
        process.kill()


class _ProcessThread:
    """A `Worker` that is one of the threads of a process, and dies with it."""

    replaceable = True

    def __init__(
        self, starter: _ThreadStarter, process: Process, connection: Connection[Any, Any]
    ) -> None:
        self._starter, self._process, self.connection = starter, process, connection

    def fate(self) -> str:
        """How its process ended."""
        return self._process.fate()

    def kill(self) -> None:
        """Ends its process at once."""
        self._starter.end(self._process)


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


def _work(connections: Sequence[Connection[Any, Any]], pickled: bytes) -> None:
    """A worker's life."""
    _end_with_driver()
    evaluate = pickle.loads(pickled)
    threads = [
        threading.Thread(target=serve, args=(connection, evaluate), daemon=True)
        for connection in connections[1:]
    ]
    for thread in threads:
        thread.start()
    serve(connections[0], evaluate)
    for thread in threads:
        thread.join()


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
