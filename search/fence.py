"""A storage that takes nothing from a driver whose lease is another's by now.

A check before a write is not enough: a driver may be suspended between the two for as long as a
take-over needs. So each transaction that writes looks at the lease itself, last, and is rolled back
where the lease has ended. On a server the lease's row is locked until the commit, and SQLite has
one writer at a time anyway: of a write and a take-over one comes first, and a write that comes
second is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.trial import TrialState
from sqlalchemy.engine import Connection, Engine

from search.optuna_internals import models

#: Set on a connection whose transaction writes.
_WRITES = "phiscale:writes"


class LeaseLost(Exception):
    """Another driver has taken the run over; the message says so in a sentence."""

    def __init__(self) -> None:
        super().__init__("another process has taken over this run")


@dataclass(frozen=True, slots=True)
class Fence:
    """What a driver's writes are refused without: `lease`, the id of its trial (`search.lease`)."""

    lease: int


def fence_engine(engine: Engine, fence: Fence) -> None:
    """Has every writing transaction of `engine` raise `LeaseLost` unless the lease is held."""
    state = (
        sqlalchemy.select(models.TrialModel.state)
        .where(models.TrialModel.trial_id == fence.lease)
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
