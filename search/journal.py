"""Optuna's journal file, for network drives: a process killed in the middle of a write spoils none.

The line that the killed process has not finished was never acknowledged, and is removed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock


class JournalFile(JournalFileBackend):
    """The file at `path`, mended when it is opened."""

    def __init__(self, path: str) -> None:
        self._lock_of_line = _KernelLock(path)
        super().__init__(path, lock_obj=self._lock_of_line)
        self._mend()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends `logs`, one line each; where the disk is full, none."""
        try:
            super().append_logs(logs)
        except OSError:
            self._mend()
            raise

    def _mend(self) -> None:
        """Removes an unfinished last line."""
        self._lock_of_line.acquire()
        try:
            with Path(self._file_path).open("r+b") as file:
                end = whole = file.seek(0, os.SEEK_END)
                while whole and not _ends_line(file, whole):
                    whole -= 1
                if whole < end:
                    file.truncate(whole)
        finally:
            self._lock_of_line.release()


class _KernelLock(BaseJournalFileLock):
    """Freed by the kernel when its process dies; Optuna's own would be waited for 30 seconds."""

    def __init__(self, path: str) -> None:
        self._lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _ends_line(file: Any, position: int) -> bool:
    file.seek(position - 1)
    return bool(file.read(1) == b"\n")
