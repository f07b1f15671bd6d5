"""Optuna's journal file, for network drives: a process killed in the middle of a write spoils none.

The line that the killed process has not finished was never acknowledged, and is removed.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search.fence import Fence, LeaseLost
from search.optuna_internals import SET_STATE, JournalFileLock


class JournalFile(JournalFileBackend):
    """The file at `path`, mended when it is opened; `search.fence` says what a `fence` is for."""

    def __init__(self, path: str, fence: Fence | None = None) -> None:
        self._path = Path(path)
        self._fence, self._looked_at = fence, 0
        self._kernel_lock = _KernelLock(path)
        super().__init__(path, lock_obj=self._kernel_lock)
        self._mend()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends `logs`, one line each; where the disk is full, none.

        Raises `LeaseLost` where the lease has ended.
        """
        with self._kernel_lock.held():
            if self._fence is not None:
                self._check(self._fence)
            try:
                super().append_logs(logs)
            except OSError:
                self._mend()
                raise

    def _check(self, fence: Fence) -> None:
        """Looks through what was appended since the last look."""
        for log in self.read_logs(self._looked_at):
            if (
                log["op_code"] == SET_STATE
                and log["trial_id"] == fence.lease
                and TrialState(log["state"]).is_finished()
            ):
                raise LeaseLost
            self._looked_at += 1

    def _mend(self) -> None:
        """Removes an unfinished last line."""
        with self._kernel_lock.held(), self._path.open("r+b") as file:
            end = whole = file.seek(0, os.SEEK_END)
            while whole and not _ends_line(file, whole):
                whole -= 1
            if whole < end:
                file.truncate(whole)


class _KernelLock(JournalFileLock):
    """Freed by the kernel when its process dies; Optuna's own would be waited for 30 seconds.

    A thread may acquire it again while it holds it.
    """

    def __init__(self, path: str) -> None:
        self._lock = FileLock(f"{path}.lock")

    def held(self) -> AbstractContextManager[object]:
        """Inside, this thread holds the lock."""
        return self._lock

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _ends_line(file: Any, position: int) -> bool:
    file.seek(position - 1)
    return bool(file.read(1) == b"\n")
