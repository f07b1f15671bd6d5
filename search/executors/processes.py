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
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from search.executors.worker_pool import Worker, run_jobs, serve
from space.evaluation import Evaluate, Proposer

#: Seconds for a worker that has hung up to end (assumed).
_END_SECONDS = 5.0

#: Linux' prctl: the signal that a process gets when its parent dies (prctl(2)).
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Processes:
    """An `Executor` with a spawned process for each of `environments`, its environment variables.

    Each evaluates `threads` jobs at a time. `evaluate` must be picklable, and with several threads
    it may be called by all of them; if one hangs, its process is killed, and the jobs of the others
    continue elsewhere. `worker_pool.run_jobs` says what happens to jobs whose worker dies, hangs,
    or is interrupted. Workers never outlive the process that started them.
    """

    environments: Sequence[Mapping[str, str]]
    trial_timeout: float | None = None
    threads: int = 1

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more."""
        pickled = pickle.dumps(evaluate)
        starts: list[Callable[[], Worker]] = []
        for environment in self.environments:
            starts += [_Starter(environment, pickled, self.threads)] * self.threads
        run_jobs(proposer, starts, self.trial_timeout)


class _Starter:
    """Starts workers that are the threads of one process, which starts with the first of them."""

    def __init__(self, environment: Mapping[str, str], pickled: bytes, threads: int) -> None:
        self._start = partial(Process, environment, pickled, threads)
        self._process: Process | None = None
        self._free: list[Connection[Any, Any]] = []

    def __call__(self) -> Worker:
        if self._process is None or not self._process.is_alive():
            self._process = self._start()
            self._free = list(self._process.connections)
        return Worker(self._free.pop(), self._process.fate, self._process.kill)


class Process:
    """A process that evaluates jobs, with a connection for each of its `threads`."""

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

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

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


def cores() -> int:
    """The CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Inside, processes start with these environment variables, set before their first import."""
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
    """Inside, processes start with Ctrl-C blocked, which a terminal sends to all of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connections: Sequence[Connection[Any, Any]], pickled: bytes) -> None:
    """The main function of a worker process."""
    end_with_driver()
    evaluate = pickle.loads(pickled)
    threads = [
        threading.Thread(target=serve, args=(connection, evaluate), daemon=True)
        for connection in connections[1:]
    ]
    for thread in threads:
        thread.start()
    serve(connections[0], evaluate)  # in the main thread
    for thread in threads:
        thread.join()


def end_with_driver() -> None:
    """Ends this process as soon as the driver has ended, even by SIGKILL."""
    if sys.platform == "linux":  # by the kernel, even if a library blocks all threads
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    driver = multiprocessing.parent_process()
    assert driver is not None

    def watch() -> None:
        wait([driver.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
