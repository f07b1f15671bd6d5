"""Writes of a driver whose lease is another's, at every moment of a write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import event

from search.fence import Fence, LeaseLost
from search.optuna_internals import id_of_study, id_of_trial, storage_of
from search.storage import end_trial
from search.study import DRIVERS, open_study

NEW = create_trial(
    state=TrialState.RUNNING,
    params={"kernel": 3},
    distributions={"kernel": CategoricalDistribution((3, 5))},
    user_attrs={"key": "x"},
)


class Race:
    """A driver with a lease and a trial that runs, and another that takes the lease over."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._drivers = open_study(url, DRIVERS)
        self._drivers.add_trial(create_trial(state=TrialState.RUNNING))
        self._lease = id_of_trial(self._drivers.trials[0])
        self.study = open_study(url, "search", fence=Fence(self._lease))
        self.storage = storage_of(self.study)
        self._id = id_of_study(self.study)
        self.trial = self.storage.create_new_trial(self._id, NEW)
        self.seen: list[optuna.trial.FrozenTrial] = []

    def take_over(self) -> None:
        """Ends the lease, and looks at what is written at that moment."""
        storage_of(self._drivers).set_trial_state_values(self._lease, TrialState.FAIL)
        self.seen = open_study(self.url, "search").trials

    def written(self) -> list[optuna.trial.FrozenTrial]:
        return open_study(self.url, "search").trials

    def create(self) -> None:
        self.storage.create_new_trial(self._id, NEW)

    def report(self) -> None:
        self.storage.set_trial_intermediate_value(self.trial, 1, 0.5)

    def note(self) -> None:
        self.storage.set_trial_user_attr(self.trial, "noted", 1)

    def requeue(self) -> None:
        self.storage.set_trial_state_values(self.trial, TrialState.WAITING)

    def end(self) -> None:
        end_trial(self.storage, self.trial, TrialState.COMPLETE, [0.5], {"measurement": {}})


WRITES = ("create", "report", "note", "requeue", "end")


@pytest.fixture
def race(each_storage: str) -> Race:
    race = Race(each_storage)
    race.study.get_trials()  # so that nothing has to be read anew
    return race


def test_writes_need_the_lease(race: Race) -> None:
    race.create()
    assert len(race.written()) == 2
    race.take_over()
    before = race.written()
    for each in WRITES:
        with pytest.raises(LeaseLost):
            getattr(race, each)()
    assert race.written() == before
    assert race.study.get_trials() == before  # nothing is remembered that was refused


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("moment", [0, 1, 2])
def test_a_take_over_in_the_middle_of_a_write_comes_before_or_after_it(
    race: Race, write: str, moment: int
) -> None:
    """The driver is suspended before its first statement or after that, until the other is through.

    SQLite has the other wait once something is written: then the whole write comes first.
    """
    other = threading.Thread(target=race.take_over)

    def suspend() -> None:
        other.start()
        other.join(0.5)

    _suspended(race, moment, suspend)
    with suppress(LeaseLost):
        getattr(race, write)()
    if not other.ident:
        pytest.skip("the write has fewer statements")
    other.join()
    assert race.written() == race.seen


def _suspended(race: Race, moment: int, suspend: Callable[[], None]) -> None:
    """Has `suspend` called once: before the statement of number `moment`, or before the append."""
    left = [moment]

    def count(*_: object) -> None:
        left[0] -= 1
        if left[0] == -1:
            suspend()

    if isinstance(race.storage, JournalStorage):
        backend = race.storage._backend
        append = backend.append_logs

        def appended(logs: list[dict[str, object]]) -> None:
            if moment == 0:
                suspend()
            append(logs)

        backend.append_logs = appended  # type: ignore[method-assign]
        return
    event.listen(race.storage._backend.engine, "before_cursor_execute", count)  # type: ignore[attr-defined]
