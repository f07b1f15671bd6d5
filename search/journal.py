"""Optuna's journal file, for network drives, made safe against processes killed during a write.

The unfinished line of a killed process was never acknowledged, and is removed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search.fence import Fence, LeaseLost
from search.optuna_internals import SET_STATE


class JournalFile(JournalFileBackend):
    """The file at `path`, repaired when it is opened; its writes need the `fence`, if any."""

    def __init__(self, path: str, fence: Fence | None = None) -> None:
        self._path, self._fence, self._checked = Path(path), fence, 0
        # The kernel frees it when its process dies; Optuna's own would be waited for 30 seconds.
        self._own_lock = FileLock(f"{path}.lock")
        super().__init__(path, lock_obj=self._own_lock)  # type: ignore[arg-type]
        self._repair()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends all `logs`, one line each, or none if the disk is full.

        Raises `LeaseLost` if the lease has ended.
        """
        with self._own_lock:  # which a thread may acquire again while it holds it
            self._check_lease()
            try:
                super().append_logs(logs)
            except OSError:
                self._repair()
                raise

    def _check_lease(self) -> None:
        """Looks through what was appended since the last check."""
        for log in self.read_logs(self._checked) if self._fence is not None else ():
            if (
                log["op_code"] == SET_STATE
                and log["trial_id"] == self._fence
                and TrialState(log["state"]).is_finished()
            ):
                raise LeaseLost
            self._checked += 1

    def _repair(self) -> None:
        """Removes an unfinished last line."""
        with self._own_lock, self._path.open("r+b") as file:
            end = whole = file.seek(0, os.SEEK_END)
            while whole:
                file.seek(whole - 1)
                if file.read(1) == b"\n":
                    break
                whole -= 1
            if whole < end:
                file.truncate(whole)
