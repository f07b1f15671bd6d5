"""One driver at a time: whoever drives a run holds a lease on its storage.

Each start is a trial of the study `drivers`, RUNNING while the lease is held. Its attributes say
who holds it (`host`, `process`) and when it was last renewed (`renewed`, UTC). Guarantees:

- Of two drivers that start at the same moment one is refused: after creating its trial, each looks
  for living holders with a lower number.
- The lease of a process that has ended is free at once on the same machine, and after `EXPIRY`
  seconds elsewhere, if the machines' clocks agree to within half of that.
- A driver whose lease was taken over writes nothing any more, even if it was suspended in the
  middle of a write: the storage refuses it (`search.fence`). It finds out at its next write, or
  `RENEWAL` seconds later at the latest; a take-over waits so long, since both would train.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
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

#: Seconds between two renewals, and after the last of which a lease expires (assumed: longer than
#: a server that restarts is waited for).
RENEWAL, EXPIRY = 15.0, 90.0


@dataclass(frozen=True, slots=True)
class Driver:
    """A process on a machine; `machine` and `began` tell it from others with the same number."""

    host: str
    process: int
    machine: str
    began: str

    @classmethod
    def this(cls) -> Driver:
        """This process."""
        return cls(platform.node(), os.getpid(), _machine(), _began(os.getpid()))

    @classmethod
    def of(cls, holder: FrozenTrial) -> Driver:
        """The process that a trial of the study `drivers` records."""
        return cls(**{field.name: holder.user_attrs[field.name] for field in fields(cls)})

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
        """For opening a storage whose writes need this lease."""
        return Fence(self._trial_id)

    def check(self) -> None:
        """Raises `LeaseLost` if another driver has taken over."""
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
    """A `Proposer` that needs the lease: each method raises `LeaseLost` without it."""

    def __init__(self, inner: Proposer, lease: Lease) -> None:
        self._inner, self._lease = inner, lease

    def ask(self) -> Job | None:
        """The inner proposer's."""
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
    """Inside, this process and no other drives the run with the storage at `url`.

    `run` identifies the run, in case the storage is another's by mistake. Raises `InvalidInput` if
    the storage is another run's, or if there is a living driver, unless `take_over` ends its lease.
    """
    study = open_study(url, DRIVERS)
    storage, study_id = storage_of(study), id_of_study(study)
    waits = _make_way(storage, _holders(storage, study_id), take_over)
    record = asdict(Driver.this()) | {"renewed": _now()}
    template = create_trial(state=TrialState.RUNNING, user_attrs=record)
    trial_id = storage.create_new_trial(study_id, template)
    own = storage.get_trial_number_from_id(trial_id)
    try:
        earlier = [each for each in _holders(storage, study_id) if each.number < own]
        waits |= _make_way(storage, earlier, take_over)
    except InvalidInput:
        _end(storage, trial_id, TrialState.FAIL)
        raise
    lease = Lease(storage, trial_id)
    try:
        if waits:
            _logger.warning("Waiting %d seconds for the other process to stop", RENEWAL)
            time.sleep(RENEWAL)
        _claim(study, run, url)
        yield lease
    finally:
        lease.end()


def refuse_if_driven(url: str) -> None:
    """Raises `InvalidInput` if a process drives the run with the storage at `url`."""
    _refuse(_read_holders(url))


def driver_of(url: str) -> Driver | None:
    """The living process that drives the run with the storage at `url`; None if there is none."""
    alive = next(filter(_is_alive, _read_holders(url)), None)
    return Driver.of(alive) if alive else None


def _claim(study: optuna.Study, run: str | None, url: str) -> None:
    """Notes whose storage it is: studies have fixed names, so it can be that of one run only."""
    owner = study.user_attrs.get("run", run)
    if run is not None and owner != run:
        raise InvalidInput(
            f"storage: {without_password(url)} holds another run's trials; use one database per "
            "run, or continue the other run in its folder"
        )
    study.set_user_attr("run", owner)


def _read_holders(url: str) -> list[FrozenTrial]:
    with reading(url) as storage:
        if storage is None:
            return []
        try:
            return _holders(storage, storage.get_study_id_from_name(DRIVERS))
        except KeyError:
            return []


def _holders(storage: BaseStorage, study_id: int) -> list[FrozenTrial]:
    return storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))


def _make_way(storage: BaseStorage, holders: list[FrozenTrial], take_over: bool) -> bool:
    """Ends the holders' leases; whether one of them was alive.

    Raises `InvalidInput` if one is alive, unless it is taken over.
    """
    if not take_over:
        _refuse(holders)
    alive = any(map(_is_alive, holders))
    for holder in holders:
        _end(storage, id_of_trial(holder), TrialState.FAIL)
    return alive


def _refuse(holders: list[FrozenTrial]) -> None:
    for holder in filter(_is_alive, holders):
        raise InvalidInput(
            f"this run is driven by {Driver.of(holder)}, last seen at "
            f"{holder.user_attrs['renewed']}; wait for it, stop it, or take over with --take-over"
        )


def _end(
    storage: BaseStorage, trial_id: int, state: TrialState, seconds: float | None = None
) -> None:
    with suppress(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, state, None if seconds is None else [seconds])


def _is_alive(holder: FrozenTrial) -> bool:
    driver = Driver.of(holder)
    if driver.machine == _machine():
        return driver.began == _began(driver.process)
    renewed = datetime.fromisoformat(holder.user_attrs["renewed"])
    return (datetime.now(UTC) - renewed).total_seconds() < EXPIRY


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> str:
    """This boot of this machine or container, within which process numbers mean the same.

    On other systems than Linux, the host's name.
    """
    if sys.platform != "linux":
        return platform.node()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _began(process: int) -> str:
    """When a process of this machine began, in clock ticks since boot; empty if it has ended.

    On other systems than Linux, `unknown`.
    """
    try:
        if sys.platform != "linux":
            os.kill(process, 0)
            return "unknown"
        stat = Path(f"/proc/{process}/stat").read_text("ascii", "replace")
    except PermissionError:
        return "unknown"
    except OSError:
        return ""
    # The second field, the name, may hold spaces; the state is the third, the start the 22nd
    # (proc(5)).
    state, *others = stat.rpartition(")")[2].split()
    return "" if state == "Z" else others[18]
