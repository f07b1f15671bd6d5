"""Where studies are kept: SQLite and journal files, PostgreSQL and MySQL, by URL.

    (none)               study.db in the run's folder, SQLite
    journal              study.journal in the run's folder, for network drives
    sqlite:///FILE       journal:///FILE
    postgresql://USER@HOST/DATABASE     mysql://USER@HOST/DATABASE

A password is never written down: a URL that says *** has that of the environment variable
PHISCALE_STORAGE_PASSWORD, and one that says none has what PostgreSQL's own PGPASSWORD or ~/.pgpass
give.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from search.database import Database, Remembered, reconnect, tune_sqlite
from search.fence import Fence, fence_engine
from search.journal import JournalFile
from space.validation import InvalidInput

#: What a storage raises that is gone, full, or out of reach, though it was opened.
FAILURES = (SQLAlchemyError, StorageInternalError, sqlite3.Error, OSError)

#: Holds the password of a storage's URL that says ***.
PASSWORD_VARIABLE = "PHISCALE_STORAGE_PASSWORD"

#: Seconds for which a process waits for another's write to end (assumed: ample for one trial's).
_BUSY_SECONDS = 60

#: Seconds for a database server to answer (assumed).
_CONNECT_SECONDS = 10

#: Attempts to create a schema that other processes may be creating at the same moment.
_ATTEMPTS = 7

#: What SQLite, PostgreSQL and MySQL say where another process was quicker to create something.
_RACE = ("exist", "UNIQUE", "unique", "Duplicate", "locked")

#: The drivers of the two servers' extras.
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


# ------------------------------------------------------------------------------------------- URLs


def storage_url(folder: Path, given: str | None) -> str:
    """The URL of the storage of the run in `folder`, whose recipe gives `given`; with password."""
    if given is None:
        return _file_url("sqlite", folder / "study.db")
    if given == "journal":
        return _file_url("journal", folder / "study.journal")
    if _is_ambiguous(given):
        raise InvalidInput(
            f"storage: {without_password(given)}: the URL has several @; percent-encode the "
            "special characters of its password (@ is %40, / is %2F, : is %3A), or give it in "
            f"the environment variable {PASSWORD_VARIABLE} and write *** in the URL"
        )
    url = _parsed(given)
    if url is None or url.password != "***":
        return given
    password = os.environ.get(PASSWORD_VARIABLE)
    url = url.set(password=password) if password else URL.create(**_parts(url) | {"password": None})
    return url.render_as_string(hide_password=False)


def _file_url(kind: str, path: Path) -> str:
    """The URL of a file; what URLs reserve in its path is percent-encoded."""
    return URL.create(kind, database=str(path)).render_as_string()


def without_password(url: str) -> str:
    """A storage's URL as it may be shown and written down: with *** for the password."""
    parsed = _parsed(url)
    if parsed is None:
        return repr(url.rpartition("@")[2])
    if _is_ambiguous(url):
        return f"{parsed.drivername}://***"
    secret = {name: "***" for name in parsed.query if "pass" in name.lower()}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


def _is_ambiguous(url: str) -> bool:
    """Whether the URL of a server has several @, so that a password may reach beyond the first."""
    place = url.partition("://")[2]
    return not place.startswith("/") and place.count("@") > 1


def absolute(url: str) -> str:
    """The URL of a file with the file's absolute path; any other as it is."""
    parsed = _parsed(url)
    if parsed is None or not _is_file(parsed) or parsed.database in (None, "", ":memory:"):
        return url
    path = Path(str(parsed.database)).absolute()
    return parsed.set(database=str(path)).render_as_string(hide_password=False)


def _parsed(url: str) -> URL | None:
    try:
        return sqlalchemy.make_url(url)
    except ArgumentError:
        return None


def _parts(url: URL) -> dict[str, Any]:
    return dict(url._asdict())


def _is_file(url: URL) -> bool:
    return url.get_backend_name() in ("sqlite", "journal")


# ---------------------------------------------------------------------------------------- opening


def open_storage(url: str, fence: Fence | None = None) -> BaseStorage:
    """The Optuna storage at `url`, created where it does not exist.

    Several processes may open a fresh storage at once: those that come second wait for the tables.
    A database server that is gone later is waited for. With a `fence`, writes raise `LeaseLost`
    once the lease has ended. Raises `InvalidInput`, without the URL's password, where the storage
    cannot be opened.
    """
    attempt = 0
    while True:
        try:
            return _open(url, fence)
        except (*FAILURES, ImportError, ValueError) as error:
            reason = _first_line(error)
            if attempt == _ATTEMPTS or not any(word in reason for word in _RACE):
                raise _cannot(url, reason) from None
            time.sleep(0.05 * 2**attempt)
            attempt += 1


def is_missing(url: str) -> bool:
    """Whether `url` names a file that is not there, or has not begun."""
    parsed = _parsed(url)
    if parsed is None or not _is_file(parsed):
        return False
    file = Path(str(parsed.database))
    return not file.is_file() or file.stat().st_size == 0


@contextmanager
def reading(url: str) -> Iterator[BaseStorage | None]:
    """The storage at `url` for reading, in which nothing is created; None where it has not begun.

    Raises `InvalidInput`, without the URL's password, where it is none.
    """
    parsed = _parsed(url)
    if is_missing(url):
        yield None
        return
    try:
        if parsed is not None and parsed.get_backend_name() == "journal":
            yield JournalStorage(JournalFileBackend(str(parsed.database)))
            return
        storage, copied = _opened_to_read(url) if _has_tables(url) else (None, None)
    except (*FAILURES, ImportError, RuntimeError, ValueError) as error:
        raise _cannot(url, _first_line(error)) from None
    try:
        yield storage
    finally:
        if storage is not None:
            storage.engine.dispose()
        if copied is not None:
            copied.cleanup()


def _has_tables(url: str) -> bool:
    """Whether a server's database was made a storage yet; a file is one, or damaged."""
    parsed = sqlalchemy.make_url(url)
    if _is_file(parsed):
        return True
    engine = sqlalchemy.create_engine(_with_driver(parsed), **_SERVER)
    try:
        return sqlalchemy.inspect(engine).has_table("version_info")  # the first that Optuna asks
    finally:
        engine.dispose()


def _open(url: str, fence: Fence | None) -> BaseStorage:
    parsed = sqlalchemy.make_url(url)
    kind = parsed.get_backend_name()
    if kind == "journal":
        return _open_journal(parsed, fence)
    if any("pass" in name.lower() for name in parsed.query):
        raise ValueError("the password is in the query; write USER:PASSWORD@HOST, or leave it out")
    if kind == "sqlite":
        _refuse_query(parsed)
        # Rendered, since Optuna takes braces in a URL for fields of its own.
        opened = parsed.render_as_string()
        storage = Database(opened, engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}})
        sqlalchemy.event.listen(storage.engine, "connect", tune_sqlite)
        storage.engine.dispose()  # connections from now on are tuned ones
        storage.engine.connect().close()  # the first may have to wait for another process
    else:
        opened = _with_driver(parsed).render_as_string(hide_password=False)
        storage = Database(opened, engine_kwargs=_SERVER)
        sqlalchemy.event.listen(storage.engine, "do_connect", reconnect)
        weakref.finalize(storage, storage.engine.dispose)  # a server's connections are few
    if fence is not None:
        fence_engine(storage.engine, fence)
    return Remembered(storage)


def _opened_to_read(url: str) -> tuple[RDBStorage, TemporaryDirectory[str] | None]:
    """The storage, and the folder that holds a copy of it, where it could not be read in place."""
    parsed, copied = sqlalchemy.make_url(url), None
    if parsed.get_backend_name() == "sqlite":
        _refuse_query(parsed)
        settings: dict[str, Any] = {}
        file = Path(str(parsed.database))
        how = {"mode": "rw"}  # not ro: what a killed process left half-written is rolled back
        if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
            how = {"mode": "ro", "immutable": "1"}
            copied = _copied(file)
        if copied is not None:
            file, how = Path(copied.name) / file.name, {"mode": "rw"}
        place = f"file:{quote(str(file.absolute()))}"
        opened = URL.create("sqlite", database=place, query=how | {"uri": "true"})
    else:
        opened, settings = _with_driver(parsed), _SERVER
    text = opened.render_as_string(hide_password=False)
    return RDBStorage(text, engine_kwargs=settings, skip_table_creation=True), copied


def _refuse_query(url: URL) -> None:
    """SQLAlchemy ignores arguments that it does not know, and opens a file of another name."""
    if url.query:
        raise ValueError(
            f"it has a query ({', '.join(url.query)}), which a file has none of; write %3F for a "
            "question mark in its path"
        )


def _copied(file: Path) -> TemporaryDirectory[str] | None:
    """A copy of a database with what SQLite has not written into it yet; None where that is
    nothing."""
    unwritten = [file.with_name(f"{file.name}{end}") for end in ("-wal", "-journal")]
    left = [each for each in unwritten if each.is_file() and each.stat().st_size]
    if not left:
        return None
    folder = TemporaryDirectory(prefix="phiscale-")
    for each in (file, *left):
        shutil.copyfile(each, Path(folder.name) / each.name)
    return folder


#: A connection that a restarted server has forgotten is noticed before it is used.
_SERVER: dict[str, Any] = {
    "pool_pre_ping": True,
    "connect_args": {"connect_timeout": _CONNECT_SECONDS},
}


def _with_driver(url: URL) -> URL:
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _open_journal(url: URL, fence: Fence | None) -> JournalStorage:
    if not url.database:
        raise ValueError("it does not name a file")
    return JournalStorage(JournalFile(url.database, fence))


def _cannot(url: str, reason: str) -> InvalidInput:
    parsed = _parsed(url)
    needed = ""
    if "No module named" in reason and parsed and parsed.get_backend_name() in _DRIVERS:
        needed = f"; install it with: pip install 'phiscale[{parsed.get_backend_name()}]'"
    elif "password" in reason.lower():
        needed = f"; write :*** as the password to take it from ${PASSWORD_VARIABLE}"
    return InvalidInput(
        f"storage: {without_password(url)} cannot be opened: {reason}{needed or _EXAMPLE}"
    )


_EXAMPLE = "; give the URL of an Optuna storage, such as sqlite:///study.db"


def end_trial(
    storage: BaseStorage,
    trial_id: int,
    state: TrialState,
    values: Sequence[float] | None,
    attributes: Mapping[str, Any],
) -> None:
    """Ends an open trial with `attributes`, all at once where `storage` is a database."""
    if isinstance(storage, Remembered):
        storage.end_trial(trial_id, state, values, attributes)
        return
    for key, value in attributes.items():
        storage.set_trial_user_attr(trial_id, key, value)
    storage.set_trial_state_values(trial_id, state, values)


# -------------------------------------------------------------------------------------- failures


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return next(iter(str(getattr(cause, "orig", None) or cause).splitlines()), repr(cause))


def is_gone(error: BaseException) -> bool:
    """Whether one of `FAILURES` is a storage's or a disk's: full, read-only, broken, gone."""
    return not isinstance(error, OSError) or error.errno in _DISK


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)


def sentence(error: BaseException) -> str:
    """What a storage or disk that failed says, in a line."""
    what = "a disk" if isinstance(error, OSError) else "the storage"
    return f"cannot write to {what} ({_first_line(error)})"
