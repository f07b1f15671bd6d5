"""One driver at a time: who drives a run holds a lease on its storage.

Each start is a trial of the study `drivers`, RUNNING while the lease is held. Its attributes say
who holds it (`host`, `process`) and when it was last renewed (`renewed`, UTC). What is guaranteed:

- Of two drivers that start at the same moment one is refused, by the numbers that the storage gives
  its trials: each looks for living holders of lower number after it has made its own.
- A lease whose process has ended is free at once on the same machine, and after `EXPIRY` seconds
  elsewhere, if the machines' clocks agree to within half of that.
- A driver whose lease was taken over writes nothing any more, even if it was suspended in the
  middle of a write: the storage refuses it (`search.fence`). It finds out at its next write, or at
  the latest `RENEWAL` seconds later, which whoever takes over waits for, since both would train.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.fence import Fence, LeaseLost
from search.optuna_internals import id_of_study, id_of_trial, storage_of
from search.storage import FAILURES, reading, without_password
from search.study import DRIVERS, open_study
from space.evaluation import Epoch, Job, Measurement, Proposer
from space.validation import InvalidInput

_logger = logging.getLogger(__name__)

#: Seconds between two renewals, and after the last of which a lease has expired (assumed: a server
#: that restarts is waited for as long).
RENEWAL, EXPIRY = 15.0, 90.0


@dataclass(frozen=True, slots=True)
class Driver:
    """A process on a machine; `machine` and `began` tell it from others of the same name."""

    host: str
    process: int
    machine: str
    began: str

    @classmethod
    def this(cls) -> Driver:
        """The process that asks."""
        return cls(platform.node(), os.getpid(), _machine(), _began(os.getpid()))

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Lease:
    """The right to write to a run's storage, renewed by a thread."""

    def __init__(self, storage: BaseStorage, trial_id: int) -> None:
        self._storage, self._trial_id = storage, trial_id
        self._renewed = self._since = time.time()
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def fence(self) -> Fence:
        """What a storage is opened with whose writes need this lease."""
        return Fence(self._trial_id)

    def check(self) -> None:
        """Raises `LeaseLost` where the lease is another's by now."""
        if not self._lost and time.time() - self._renewed > EXPIRY / 2:
            self._renew()  # the thread could not: perhaps the whole process was suspended
        if self._lost:
            raise LeaseLost

    def end(self) -> None:
        """Gives the lease back."""
        self._ended.set()
        self._thread.join()
        if self._lost:
            return
        try:
            seconds = round(time.time() - self._since, 3)
            _end(self._storage, self._trial_id, TrialState.COMPLETE, seconds)
        except FAILURES as error:  # it expires
            _logger.debug("the lease could not be given back: %s", error)

    def _keep(self) -> None:
        while not self._ended.wait(RENEWAL) and not self._lost:
            try:
                self._renew()
            except FAILURES as error:  # the next write of a result will report it
                _logger.debug("the lease could not be renewed: %s", error)

    def _renew(self) -> None:
        try:
            self._storage.set_trial_user_attr(self._trial_id, "renewed", _now())
            self._renewed = time.time()
        except UpdateFinishedTrialError:
            self._lost = True


class Leased:
    """A `Proposer` that hands out and takes nothing without the lease."""

    def __init__(self, inner: Proposer, lease: Lease) -> None:
        self._inner, self._lease = inner, lease

    def ask(self) -> Job | None:
        """The inner proposer's; raises `LeaseLost`, as all of this does."""
        self._lease.check()
        return self._inner.ask()

    def report(self, job: Job, epoch: Epoch) -> bool:
        """The inner proposer's."""
        self._lease.check()
        return self._inner.report(job, epoch)

    def tell(self, job: Job, measurement: Measurement) -> None:
        """The inner proposer's."""
        self._lease.check()
        self._inner.tell(job, measurement)


@contextmanager
def held(url: str, *, run: str | None = None, take_over: bool = False) -> Iterator[Lease]:
    """Inside, this process drives the run with the storage at `url`, and no other does.

    `run` tells the run from others, where its storage may be another's by mistake. Raises
    `InvalidInput` that names the driver where there is one, unless it is to be taken over; and
    where the storage is another run's.
    """
    study = open_study(url, DRIVERS)
    storage = storage_of(study)
    waits = _make_way(storage, _holders(storage, id_of_study(study)), take_over)
    record = asdict(Driver.this()) | {"renewed": _now()}
    template = create_trial(state=TrialState.RUNNING, user_attrs=record)
    trial_id = storage.create_new_trial(id_of_study(study), template)
    own = storage.get_trial_number_from_id(trial_id)
    earlier = [each for each in _holders(storage, id_of_study(study)) if each.number < own]
    try:
        waits |= _make_way(storage, earlier, take_over)
    except InvalidInput:
        _end(storage, trial_id, TrialState.FAIL)
        raise
    lease = Lease(storage, trial_id)
    if waits:
        _logger.warning("Waiting %d seconds for the other process to stop", RENEWAL)
        time.sleep(RENEWAL)
    try:
        _belong(study, run, url)
        yield lease
    finally:
        lease.end()


def _belong(study: optuna.Study, run: str | None, url: str) -> None:
    """Notes whose storage it is; studies have fixed names, so that it is one run's alone."""
    owner = study.user_attrs.get("run", run)
    if run is None or owner == run:
        storage_of(study).set_study_user_attr(id_of_study(study), "run", owner)
        return
    raise InvalidInput(
        f"storage: {without_password(url)} holds another run's trials; use one database per run, "
        "or continue the other run in its folder"
    )


def refuse_if_driven(url: str) -> None:
    """Raises `InvalidInput` where a process drives the run with the storage at `url`."""
    _refuse(_read_holders(url))


def driver_of(url: str) -> Driver | None:
    """The living process that drives the run with the storage at `url`; None where none does."""
    alive = next(filter(_is_alive, _read_holders(url)), None)
    return _driver(alive) if alive else None


def _read_holders(url: str) -> list[FrozenTrial]:
    with reading(url) as storage:
        if storage is None:
            return []
        try:
            study_id = storage.get_study_id_from_name(DRIVERS)
        except KeyError:
            return []
        return _holders(storage, study_id)


def _holders(storage: BaseStorage, study_id: int) -> list[FrozenTrial]:
    return storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))


def _make_way(storage: BaseStorage, holders: list[FrozenTrial], take_over: bool) -> bool:
    """Ends the holders' leases; whether one of them is alive.

    Raises `InvalidInput` for a living one that is not to be taken over.
    """
    if not take_over:
        _refuse(holders)
    alive = any(map(_is_alive, holders))
    for holder in holders:
        _end(storage, id_of_trial(holder), TrialState.FAIL)
    return alive


def _refuse(holders: list[FrozenTrial]) -> None:
    alive = next(filter(_is_alive, holders), None)
    if alive is not None:
        raise InvalidInput(
            f"this run is driven by {_driver(alive)}, last seen at {alive.user_attrs['renewed']}; "
            "wait for it, stop it, or take over with --take-over"
        )


def _end(
    storage: BaseStorage, trial_id: int, state: TrialState, seconds: float | None = None
) -> None:
    try:
        storage.set_trial_state_values(trial_id, state, None if seconds is None else [seconds])
    except UpdateFinishedTrialError:
        return


def _driver(holder: FrozenTrial) -> Driver:
    names = Driver.__dataclass_fields__
    return Driver(**{name: holder.user_attrs[name] for name in names})


def _is_alive(holder: FrozenTrial) -> bool:
    driver = _driver(holder)
    if driver.machine == _machine():
        return driver.began == _began(driver.process)
    renewed = datetime.fromisoformat(holder.user_attrs["renewed"])
    return (datetime.now(UTC) - renewed).total_seconds() < EXPIRY


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> str:
    """This boot of this machine, or of this container, whose processes have numbers of their own.

    Elsewhere than on Linux, the host's name.
    """
    if sys.platform != "linux":
        return platform.node()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _began(process: int) -> str:
    """When a process of this machine began, in the system's count; empty where there is none."""
    if sys.platform != "linux":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "unknown"
    try:  # its 22nd field; the second, the name, may hold spaces (proc(5))
        fields = (
            Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
