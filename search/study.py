"""Studies: opening their storage, and reading what they hold.

A study is the only store of truth of a stage, and a trial is one evaluation in it. What a trial's
attributes hold is said in `search.ledger`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from search.objective import Direction
from space.validation import InvalidInput

#: Seconds for which a process waits for another's write to end (assumed: ample for one trial's).
_BUSY_SECONDS = 60

#: Attempts to create a schema that other processes may be creating at the same moment.
_ATTEMPTS = 7

#: What SQLite, PostgreSQL and MySQL say where another process was quicker to create something.
_RACE = ("exist", "UNIQUE", "unique", "Duplicate", "locked")

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class _RDBStorage(RDBStorage):
    """Optuna's storage, creating a trial with all that is known of it in a few statements.

    Optuna asks the database twice for each parameter and once for each attribute, whether the
    trial is open and the distribution the study's. Of a trial that is only now being created both
    are known. For 28 parameters on SQLite this takes a trial's creation from 19 ms to 3 ms
    (measured).
    """

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        if template_trial is None or template_trial.values or template_trial.intermediate_values:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        trial = models.TrialModel(
            study_id=study_id,
            state=template_trial.state,
            datetime_start=template_trial.datetime_start,
            datetime_complete=template_trial.datetime_complete,
        )
        session.add(trial)
        session.flush()
        params = [
            {
                "param_name": name,
                "param_value": distribution.to_internal_repr(template_trial.params[name]),
                "distribution_json": distribution_to_json(distribution),
            }
            for name, distribution in template_trial.distributions.items()
        ]
        for model, rows in (
            (models.TrialParamModel, params),
            (models.TrialUserAttributeModel, _attribute_rows(template_trial.user_attrs)),
            (models.TrialSystemAttributeModel, _attribute_rows(template_trial.system_attrs)),
        ):
            if rows:
                table = sqlalchemy.insert(model)
                session.execute(table, [{"trial_id": trial.trial_id, **row} for row in rows])
        trial.number = trial.count_past_trials(session)
        return trial


def _attribute_rows(attributes: dict[str, Any]) -> list[dict[str, str]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def open_study(
    storage: str,
    name: str,
    pruner: BasePruner | None = None,
    directions: Sequence[Direction] = ("maximize",),
) -> optuna.Study:
    """The study `name` of the storage at URL `storage`, created where it does not exist.

    `directions` are those of its values. Names are fixed by the stages and not made up, since
    Hyperband draws a trial's bracket from the study's name. Raises `InvalidInput` where the storage
    cannot be opened.
    """
    return optuna.create_study(
        storage=open_storage(storage),
        study_name=name,
        directions=directions,
        pruner=pruner or NopPruner(),
        load_if_exists=True,
    )


def find_study(storage: str, name: str) -> optuna.Study:
    """The study `name` of a storage that somebody else has filled; nothing is created.

    Raises `InvalidInput` where there is none.
    """
    where = without_password(storage)
    try:
        address = sqlalchemy.make_url(storage)
    except ArgumentError:
        raise InvalidInput(f"{where}: is no URL of an Optuna storage") from None
    file = address.database
    if address.get_backend_name() == "sqlite" and not (file and Path(file).is_file()):
        raise InvalidInput(f"{where}: there is no such file")
    try:
        return optuna.load_study(study_name=name, storage=open_storage(storage))
    except KeyError:
        raise InvalidInput(f"{where}: holds no study {name!r}") from None


def open_storage(url: str) -> BaseStorage:
    """The Optuna storage at `url`; SQLite's is set up for one writer and many readers.

    Several processes may open a fresh storage at once: those that come second wait for the tables.
    Raises `InvalidInput`, without the URL's password, where it cannot be opened.
    """
    attempt = 0
    while True:
        try:
            return _open(url)
        except (SQLAlchemyError, StorageInternalError, sqlite3.Error, ImportError) as error:
            reason = _first_line(error)
            if attempt == _ATTEMPTS or not any(word in reason for word in _RACE):
                raise InvalidInput(
                    f"storage: {without_password(url)} cannot be opened: {reason}; "
                    "give the URL of an Optuna storage, such as sqlite:///study.db"
                ) from None
            time.sleep(0.05 * 2**attempt)
            attempt += 1


def _open(url: str) -> BaseStorage:
    sqlite = sqlalchemy.make_url(url).get_backend_name() == "sqlite"
    settings = {"connect_args": {"timeout": _BUSY_SECONDS}} if sqlite else {}
    storage = _RDBStorage(url, engine_kwargs=settings)
    if sqlite:
        sqlalchemy.event.listen(storage.engine, "connect", _tune_sqlite)
        storage.engine.dispose()  # connections from now on are tuned ones
        storage.engine.connect().close()  # the first of them may have to wait for another process
    return optuna.storages.get_storage(storage)


def _tune_sqlite(connection: Any, _: Any) -> None:
    """Write-ahead log: readers never wait, and a killed process loses no committed write.

    With `synchronous=NORMAL` a power failure may lose the last writes, and never harms the file.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def without_password(url: str) -> str:
    """A storage's URL as it may be shown: with *** for the password."""
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url.rpartition("@")[2])


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", None) or cause).splitlines()[0]


def finished(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The finished trainings among `trials`: COMPLETE and PRUNED, without those answered."""
    return [
        trial
        for trial in trials
        if trial.state in FINISHED and "answered_from" not in trial.user_attrs
    ]


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, best first; of equals the earlier one."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(complete, key=lambda trial: (-value_of(trial), trial.number))


def best(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the greatest value, the earliest of equals; None without one."""
    return next(iter(ranked(study)), None)


def value_of(trial: FrozenTrial) -> float:
    """The value of a complete trial, or its reward where the study has several objectives."""
    value = trial.user_attrs["reward"] if len(trial.values or ()) > 1 else trial.value
    if value is None:
        raise ValueError(f"a complete trial has a value, but trial {trial.number} has none")
    return float(value)
