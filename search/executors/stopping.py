"""How a run is asked to stop: after the current epochs, and the second time at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from space.evaluation import Epoch, Job

_logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Stopping:
    """Whether the run was asked to stop; then no job is started."""

    asked: bool = False

    def after(self, epoch: Epoch, job: Job) -> bool:
        """Whether a job is interrupted after `epoch`; after its last one it may end."""
        return self.asked and epoch.epoch < job.budget.epochs


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Inside, the first Ctrl-C (or SIGTERM) is noted, and the second raises `KeyboardInterrupt`.

    If the run was asked to stop, `KeyboardInterrupt` is raised at the end. Outside the main thread,
    which alone receives signals, nothing changes.
    """
    stop = Stopping()

    def heard(*_: object) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        _logger.warning("Stopping after the current epoch. Press Ctrl-C again to stop now.")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, heard) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.asked:
        raise KeyboardInterrupt
