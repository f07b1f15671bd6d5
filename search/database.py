"""Optuna's storage in a database, for one driver with many open trials.

It is Optuna's own, with its tables, and differs in three ways: SQLite uses a write-ahead log, lost
connections to a server are retried, and fewer statements do what Optuna does in many.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session

from search.optuna_internals import CachedStorage, StudyInfo, models, scoped_session

_logger = logging.getLogger(__name__)

#: Seconds for which a lost connection to a server is retried (assumed: a restart takes a few).
_RECONNECT_SECONDS = 60


def tune_sqlite(connection: Any, _: Any) -> None:
    """Write-ahead log: readers never wait, and a killed process loses no committed write.

    With `synchronous=NORMAL` a power failure may lose the last writes, but never harms the file.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def reconnect(
    dialect: Dialect, _: object, arguments: list[Any], settings: dict[str, Any]
) -> object:
    """A new connection to a server that has been reached before."""
    deadline, warned = time.monotonic() + _RECONNECT_SECONDS, False
    while True:
        try:
            return dialect.connect(*arguments, **settings)
        except dialect.loaded_dbapi.Error as error:
            if time.monotonic() > deadline:
                raise
            if not warned:
                _logger.warning(
                    "Lost the connection to the storage (%s); retrying for %d seconds",
                    first_line(error),
                    _RECONNECT_SECONDS,
                )
            warned = True
            time.sleep(0.5)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its representation if it has none."""
    return next(iter(str(error).splitlines()), repr(error))


@compiles(sqlalchemy.Text, "mysql", "mariadb")
def _text(*_: object, **__: object) -> str:
    """Optuna's tables store an attribute as TEXT, which MySQL limits to 64 KB."""
    return "MEDIUMTEXT"


class Database(RDBStorage):
    """Creates a trial with all that is known of it in a few statements.

    For each parameter and attribute, Optuna asks the database whether the trial is open, and the
    distribution that of the study. For a new trial both are known (times:
    `search.optuna_internals`).
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

    def ids_after(self, study_id: int, trial_id: int) -> set[int]:
        """The ids of a study's trials above `trial_id`."""
        of_trial = models.TrialModel.trial_id
        with scoped_session(self.scoped_session) as session:
            query = session.query(of_trial).filter(
                models.TrialModel.study_id == study_id, of_trial > trial_id
            )
            return {found for (found,) in query}


def _attribute_rows(attributes: dict[str, Any]) -> list[dict[str, str]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


class TrialCache(CachedStorage):
    """Optuna's cache of finished trials, extended to the open trials of this process.

    Optuna reads every open trial again whenever the trials are asked for, which is at every
    proposal (times: `search.optuna_internals`). But nobody else writes to the trials that this
    process has begun (`search.fence`), so they are read again only after writes that are not
    applied to the cache here.
    """

    _backend: Database

    def __init__(self, backend: Database) -> None:
        super().__init__(backend)
        #: Ids of the trials begun here, and of those that the cache holds as they are.
        self._begun: set[int] = set()
        self._known: set[int] = set()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's."""
        trial_id = super().create_new_trial(study_id, template_trial)
        with self._lock:
            trial = self._cached(trial_id)
            trial.user_attrs = _as_read(trial.user_attrs)
            trial.system_attrs = _as_read(trial.system_attrs)
            self._begun.add(trial_id)
            self._known.add(trial_id)
        return trial_id

    def end_trial(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
    ) -> None:
        """Ends an open trial with `attributes`, in one transaction."""
        backend, now = self._backend, datetime.now()
        with self._writing(trial_id) as trial:
            with scoped_session(backend.scoped_session) as session:
                model = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
                backend.check_trial_is_updatable(trial_id, model.state)  # type: ignore[arg-type]
                for key, value in attributes.items():
                    backend._set_trial_attr_without_commit(
                        session, models.TrialUserAttributeModel, trial_id, key, value
                    )
                for objective, value in enumerate(values or ()):
                    backend._set_trial_value_without_commit(session, model, objective, value)
                model.state, model.datetime_complete = state, now
            trial.user_attrs = trial.user_attrs | _as_read(attributes)
            trial.values = None if values is None else [*values]
            trial.state, trial.datetime_complete = state, now

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """As Optuna's."""
        with self._writing(trial_id) as trial:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
            trial.intermediate_values = trial.intermediate_values | {step: intermediate_value}

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        self._known.discard(trial_id)
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        self._known.discard(trial_id)
        super().set_trial_system_attr(trial_id, key, value)

    def set_trial_param(self, trial_id: int, *parameter: Any, **named: Any) -> None:
        """As Optuna's."""
        self._known.discard(trial_id)
        super().set_trial_param(trial_id, *parameter, **named)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's."""
        self._known.discard(trial_id)
        changed = super().set_trial_state_values(trial_id, state, values)
        if state is TrialState.RUNNING and changed:
            self._begun.add(trial_id)
        return changed

    @contextmanager
    def _writing(self, trial_id: int) -> Iterator[FrozenTrial]:
        """A copy of the trial, which replaces the cached one after the write inside.

        If the cache does not hold the trial as it is, or the write fails, the trial is read from
        the database when it is asked for.
        """
        with self._lock:
            known = trial_id in self._known
            self._known.discard(trial_id)
            trial = copy.copy(self._cached(trial_id)) if known else create_trial(value=0.0)
        yield trial
        if known:
            with self._lock:
                study_id, number = self._trial_id_to_study_id_and_number[trial_id]
                self._studies[study_id].trials[number] = trial
                self._known.add(trial_id)

    def _cached(self, trial_id: int) -> FrozenTrial:
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        return self._studies[study_id].trials[number]

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        with self._lock:
            study = self._studies.setdefault(study_id, StudyInfo())
            newer = self._backend.ids_after(study_id, study.last_finished_trial_id)
            seen = newer | study.unfinished_trial_ids
            if wanted := seen - self._known:
                trials = self._backend._get_trials(study_id, None, wanted, max(wanted))
                self._add_trials_to_cache(study_id, trials)
            for trial_id in seen:
                if self._cached(trial_id).state.is_finished():
                    study.unfinished_trial_ids.discard(trial_id)
                    study.last_finished_trial_id = max(study.last_finished_trial_id, trial_id)
                    self._known.discard(trial_id)
                    continue
                study.unfinished_trial_ids.add(trial_id)
                if trial_id in self._begun:
                    self._known.add(trial_id)


def _as_read(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as they are read from a database: JSON has no tuples."""
    read: dict[str, Any] = json.loads(json.dumps(dict(attributes)))
    return read
