"""Jobs one after the other, in this process."""

from __future__ import annotations

import signal
import threading
from types import TracebackType

from search.executors.stopping import Stopping, stopping
from search.executors.worker_pool import failure, hung
from space.evaluation import Epoch, Evaluate, Interrupted, Job, Measurement, Proposer
from space.validation import InvalidInput


class Local:
    """An `Executor` in process.

    A job that ends no epoch for `trial_timeout` seconds FAILS as soon as Python regains control. A
    library call that never returns cannot be interrupted, nor can a job outside the main thread;
    `Processes` ends those, too.
    """

    def __init__(self, trial_timeout: float | None = None) -> None:
        self._timeout = trial_timeout

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more.

        Asked to stop, it interrupts the running job after its epoch, to be run again later, and
        raises `KeyboardInterrupt`. Raises `WorkerUnusable` where `evaluate` does.
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
        alarm = _Alarm(self._timeout)

        def report(epoch: Epoch) -> bool:
            alarm.clear()  # a write to the storage is never interrupted
            try:
                stopped = proposer.report(job, epoch)
            except Exception as error:
                raise _NotReported(error) from None
            if stopped:
                return True
            if stop.after(epoch, job):
                raise Interrupted
            alarm.set()
            return False

        try:
            with alarm:
                return evaluate(job.architecture, job.budget, report)
        except _Hung:
            assert self._timeout is not None
            return hung(self._timeout)
        except _NotReported as broken:
            raise broken.error from None
        except InvalidInput:
            raise
        except Exception as error:  # one broken evaluation ends one trial, not the search
            return failure(job, error)


class _Hung(BaseException):
    """Raised in the main thread, wherever it is."""


class _NotReported(BaseException):
    """Carries what the proposer raised past the evaluation, which is not to blame."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Alarm:
    """Inside, raises `_Hung` when `seconds` have passed since it was last set; None never does."""

    def __init__(self, seconds: float | None) -> None:
        main = threading.current_thread() is threading.main_thread()
        self._seconds = seconds if main and hasattr(signal, "setitimer") else None

    def __enter__(self) -> None:
        if self._seconds is not None:
            self._before = signal.signal(signal.SIGALRM, _ring)
            self.set()

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._seconds is not None:
            self.clear()
            signal.signal(signal.SIGALRM, self._before)

    def set(self) -> None:
        if self._seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def clear(self) -> None:
        if self._seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _ring(*_: object) -> None:
    raise _Hung
