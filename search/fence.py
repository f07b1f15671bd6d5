"""Storages that refuse the writes of a driver that has lost its lease (`search.lease`).

A check before a write is not enough: a driver may be suspended between the two for as long as a
take-over needs. So each transaction that writes checks the lease itself, last, and is rolled back
if the lease has ended. On a server the lease's row is locked until the commit, and SQLite has one
writer at a time: a write either precedes a take-over or is refused.
"""

from __future__ import annotations

from typing import Any, NewType

import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.engine import Connection, Engine

from search.optuna_internals import models

#: What a driver's writes need: the lease, by the id of its trial.
Fence = NewType("Fence", int)

#: Set on a connection whose transaction writes.
_WRITES = "phiscale:writes"


class LeaseLost(Exception):
    """Another driver has taken over the run; the message is a sentence."""

    def __init__(self) -> None:
        super().__init__("another process has taken over this run")


def fence_engine(engine: Engine, fence: Fence) -> None:
    """Makes every writing transaction of `engine` raise `LeaseLost` unless the lease is held."""
    state = (
        sqlalchemy.select(models.TrialModel.state)
        .where(models.TrialModel.trial_id == fence)
        .with_for_update(read=True)
    )

    def note_write(connection: Connection, _: Any, statement: str, *__: Any) -> None:
        if not statement.lstrip().upper().startswith("SELECT"):
            connection.info[_WRITES] = True

    def check(connection: Connection) -> None:
        writes = connection.info.pop(_WRITES, False)
        if writes and connection.execute(state).scalar() is not TrialState.RUNNING:
            raise LeaseLost

    def forget(connection: Connection) -> None:
        connection.info.pop(_WRITES, None)

    sqlalchemy.event.listen(engine, "before_cursor_execute", note_write)
    sqlalchemy.event.listen(engine, "commit", check)
    sqlalchemy.event.listen(engine, "rollback", forget)
