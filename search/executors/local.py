"""Jobs in this process: one after the other, or side by side in threads."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe

from search.executors.stopping import Stopping, stopping
from search.executors.worker_pool import ProposerFailed, Worker, failure, hung, run_jobs, serve
from space.evaluation import Epoch, Evaluate, Interrupted, Job, Measurement, Proposer
from space.validation import InvalidInput


@dataclass(frozen=True)
class Local:
    """An `Executor` in process.

    A job that ends no epoch for `trial_timeout` seconds FAILS as soon as Python regains control. A
    library call that never returns cannot be interrupted, nor can a job outside the main thread;
    `Processes` ends those, too.
    """

    trial_timeout: float | None = None

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more.

        When asked to stop, it interrupts the running job after its epoch, to be continued later,
        and raises `KeyboardInterrupt`. Raises `WorkerUnusable` if `evaluate` does.
        """
        with stopping() as stop:
            while not stop.asked and (job := proposer.ask()) is not None:
                try:
                    measurement = self._evaluated(job, proposer, evaluate, stop)
                except Interrupted:
                    return
                proposer.tell(job, measurement)

    def _evaluated(
        self, job: Job, proposer: Proposer, evaluate: Evaluate, stop: Stopping
    ) -> Measurement:
        try:
            with _alarm(self.trial_timeout) as ring:

                def report(epoch: Epoch) -> bool:
                    ring(False)  # a write to the storage is never interrupted
                    try:
                        stopped = proposer.report(job, epoch)
                    except Exception as error:
                        raise ProposerFailed(error) from None
                    if not stopped and stop.after(epoch, job):
                        raise Interrupted
                    ring(True)
                    return stopped

                return evaluate(job.architecture, job.budget, report)
        except _Hung:
            assert self.trial_timeout is not None
            return hung(self.trial_timeout)
        except ProposerFailed as failed:
            raise failed.error from None
        except InvalidInput:
            raise
        except Exception as error:  # one broken evaluation ends one trial, not the search
            return failure(job, error)


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


class _Hung(BaseException):
    """Raised in the main thread, wherever it is."""


@contextmanager
def _alarm(seconds: float | None) -> Iterator[Callable[[bool], None]]:
    """Inside, raises `_Hung` after `seconds`; yields a switch that stops or restarts the clock.

    Does nothing for None, outside the main thread, and on systems without interval timers.
    """
    main = threading.current_thread() is threading.main_thread()
    if seconds is None or not main or not hasattr(signal, "setitimer"):
        yield lambda _: None
        return

    def hang(*_: object) -> None:
        raise _Hung

    def ring(on: bool) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds if on else 0)

    before = signal.signal(signal.SIGALRM, hang)
    ring(True)
    try:
        yield ring
    finally:
        ring(False)
        signal.signal(signal.SIGALRM, before)
