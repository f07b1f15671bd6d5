"""Optuna's storage in a database, for one driver with many open trials.

It is Optuna's own, with its tables; three things are done otherwise. SQLite writes ahead, a server
that is gone is waited for, and what Optuna does in many statements is done in few.
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
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session

from search.optuna_internals import CachedStorage, StudyInfo, models, scoped_session

_logger = logging.getLogger(__name__)

#: Seconds for which a server that was there once is waited for (assumed: a restart takes a few).
_RECONNECT_SECONDS = 60


def tune_sqlite(connection: Any, _: Any) -> None:
    """Write-ahead log: readers never wait, and a killed process loses no committed write.

    With `synchronous=NORMAL` a power failure may lose the last writes, and never harms the file.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def reconnect(
    dialect: Dialect, _: object, arguments: list[Any], settings: dict[str, Any]
) -> object:
    """A new connection to a server that was there when the storage was opened."""
    deadline = time.monotonic() + _RECONNECT_SECONDS
    told = False
    while True:
        try:
            return dialect.connect(*arguments, **settings)
        except dialect.loaded_dbapi.Error as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                _logger.warning(
                    "Lost the connection to the storage (%s); retrying for %d seconds",
                    next(iter(str(error).splitlines()), repr(error)),
                    _RECONNECT_SECONDS,
                )
            told = True
            time.sleep(0.5)


@compiles(sqlalchemy.Text, "mysql", "mariadb")
def _text(*_: object, **__: object) -> str:
    """Optuna's tables keep an attribute as TEXT, which MySQL ends after 64 KB."""
    return "MEDIUMTEXT"


class Database(RDBStorage):
    """Creates a trial with all that is known of it, and ends it, in a few statements.

    Optuna asks the database twice for each parameter and once for each attribute, whether the
    trial is open and the distribution the study's. Of a trial that is only now being created both
    are known (`search.optuna_internals` says what that saves).
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

    def end_trial(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
    ) -> datetime:
        """Ends an open trial with `attributes`, in one transaction; gives when."""
        now = datetime.now()
        with scoped_session(self.scoped_session) as session:
            trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            self.check_trial_is_updatable(trial_id, trial.state)  # type: ignore[arg-type]
            for key, value in attributes.items():
                self._set_trial_attr_without_commit(
                    session, models.TrialUserAttributeModel, trial_id, key, value
                )
            for objective, value in enumerate(values or ()):
                self._set_trial_value_without_commit(session, trial, objective, value)
            trial.state, trial.datetime_complete = state, now
        return now

    def ids_after(self, study_id: int, trial_id: int) -> set[int]:
        """The ids of a study's trials that are greater than `trial_id`."""
        of_trial = models.TrialModel.trial_id
        with scoped_session(self.scoped_session) as session:
            query = session.query(of_trial).filter(
                models.TrialModel.study_id == study_id, of_trial > trial_id
            )
            return {found for (found,) in query}


def _attribute_rows(attributes: dict[str, Any]) -> list[dict[str, str]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


class Remembered(CachedStorage):
    """Optuna's cache of finished trials, which knows those that this process has begun, too.

    Optuna reads every open trial anew whenever the trials are asked for, which is at every proposal
    (`search.optuna_internals` says what that takes). But a trial that this process has begun is
    nobody else's to write (`search.fence`): what is written here is all that there is to read.
    """

    _backend: Database

    def __init__(self, backend: Database) -> None:
        super().__init__(backend)
        #: Ids of trials begun here, and of those the ones that the cache holds as they are.
        self._begun: set[int] = set()
        self._known: set[int] = set()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's."""
        trial_id = super().create_new_trial(study_id, template_trial)
        self._begun.add(trial_id)
        self._known.add(trial_id)
        with self._written(trial_id) as trial:
            trial.user_attrs, trial.system_attrs = map(
                _as_read, (trial.user_attrs, trial.system_attrs)
            )
        return trial_id

    def end_trial(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
    ) -> None:
        """As `Database.end_trial`."""
        with self._written(trial_id) as trial:
            trial.datetime_complete = self._backend.end_trial(trial_id, state, values, attributes)
            trial.user_attrs = trial.user_attrs | _as_read(dict(attributes))
            trial.values = None if values is None else [*values]
            trial.state = state

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """As Optuna's."""
        with self._written(trial_id) as trial:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
            trial.intermediate_values = trial.intermediate_values | {step: intermediate_value}

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        with self._written(trial_id) as trial:
            super().set_trial_user_attr(trial_id, key, value)
            trial.user_attrs = trial.user_attrs | _as_read({key: value})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        with self._written(trial_id) as trial:
            super().set_trial_system_attr(trial_id, key, value)
            trial.system_attrs = trial.system_attrs | _as_read({key: value})

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """As Optuna's."""
        self._known.discard(trial_id)
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's."""
        self._known.discard(trial_id)
        begun = super().set_trial_state_values(trial_id, state, values)
        if state is TrialState.RUNNING and begun:
            self._begun.add(trial_id)
        return begun

    @contextmanager
    def _written(self, trial_id: int) -> Iterator[FrozenTrial]:
        """The trial, to be changed as what is written inside changes it.

        It is a copy, which takes the place of the cache's at the end, for that one may be read
        meanwhile. Where the cache does not hold the trial as it is, or writing fails, it is read
        from the database when it is asked for.
        """
        with self._lock:
            known = trial_id in self._known
            self._known.discard(trial_id)
            trial = copy.copy(self._cached(trial_id)) if known else _any_trial()
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


def _as_read(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes as they come back from a database: JSON knows no tuples."""
    read: dict[str, Any] = json.loads(json.dumps(attributes))
    return read


def _any_trial() -> FrozenTrial:
    """A trial of no study, whose changes go nowhere."""
    return create_trial(state=TrialState.RUNNING)
