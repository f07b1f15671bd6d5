"""Where studies are kept: SQLite and journal files, PostgreSQL and MySQL, by URL.

    (none)               study.db in the run's folder, SQLite
    journal              study.journal in the run's folder, for network drives
    sqlite:///FILE       journal:///FILE
    postgresql://USER@HOST/DATABASE     mysql://USER@HOST/DATABASE

Passwords are never written down: in a URL that says ***, the environment variable
PHISCALE_STORAGE_PASSWORD replaces it, and without one PostgreSQL's own PGPASSWORD or ~/.pgpass
apply.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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

from search.database import Database, TrialCache, first_line, reconnect, tune_sqlite
from search.fence import Fence, fence_engine
from search.journal import JournalFile
from space.optional import install
from space.validation import InvalidInput

#: What an open storage raises if it is gone, full, or out of reach.
FAILURES = (SQLAlchemyError, StorageInternalError, sqlite3.Error, OSError)

#: Holds the password of a storage's URL that says ***.
PASSWORD_VARIABLE = "PHISCALE_STORAGE_PASSWORD"

#: Seconds for which a process waits for another's write to end (assumed: ample for one trial's).
_BUSY_SECONDS = 60

#: Engine settings for a server, which has these seconds to answer (assumed); a connection that a
#: restarted server has forgotten is noticed before it is used.
_SERVER: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}

#: Attempts to create a schema that other processes may be creating at the same moment.
_ATTEMPTS = 7

#: What SQLite, PostgreSQL and MySQL say if another process was faster to create something.
_RACE = ("exist", "UNIQUE", "unique", "Duplicate", "locked")

#: The drivers of the two servers' extras.
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


# ------------------------------------------------------------------------------------------- URLs


def storage_url(folder: Path, given: str | None) -> str:
    """The URL, with password, of the storage of the run in `folder`, whose recipe says `given`."""
    if given is None or given == "journal":
        kind, name = ("journal", "study.journal") if given else ("sqlite", "study.db")
        return URL.create(kind, database=str(folder / name)).render_as_string()
    if _is_ambiguous(given):
        raise InvalidInput(
            f"storage: {without_password(given)}: the URL has several @; percent-encode the "
            "special characters of its password (@ is %40, / is %2F, : is %3A), or give it in "
            f"the environment variable {PASSWORD_VARIABLE} and write *** in the URL"
        )
    url = _parsed(given)
    if url is None or url.password != "***":
        return given
    url = url._replace(password=os.environ.get(PASSWORD_VARIABLE) or None)
    return url.render_as_string(hide_password=False)


def without_password(url: str) -> str:
    """A storage's URL as it may be shown and written down: with *** for the password."""
    parsed = _parsed(url)
    if parsed is None:
        return repr(url.rpartition("@")[2])
    if _is_ambiguous(url):
        return f"{parsed.drivername}://***"
    secret = {name: "***" for name in parsed.query if "pass" in name.lower()}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


def absolute(url: str) -> str:
    """The URL of a file with the file's absolute path; any other as it is."""
    parsed = _parsed(url)
    if parsed is None or not _is_file(parsed) or parsed.database in (None, "", ":memory:"):
        return url
    path = Path(str(parsed.database)).absolute()
    return parsed.set(database=str(path)).render_as_string(hide_password=False)


def is_missing(url: str) -> bool:
    """Whether `url` names a file that does not exist or is empty."""
    parsed = _parsed(url)
    if parsed is None or not _is_file(parsed):
        return False
    file = Path(str(parsed.database))
    return not file.is_file() or file.stat().st_size == 0


def _is_ambiguous(url: str) -> bool:
    """Whether the URL of a server has several @, so that its password may contain one."""
    place = url.partition("://")[2]
    return not place.startswith("/") and place.count("@") > 1


def _parsed(url: str) -> URL | None:
    try:
        return sqlalchemy.make_url(url)
    except ArgumentError:
        return None


def _is_file(url: URL) -> bool:
    return url.get_backend_name() in ("sqlite", "journal")


def _refuse_query(url: URL) -> None:
    """SQLAlchemy ignores arguments that it does not know, and opens a file of another name."""
    if url.query:
        raise ValueError(
            f"it has a query ({', '.join(url.query)}), but files have none; write %3F for a "
            "question mark in the path"
        )


def _rendered(url: URL) -> str:
    """The URL with its password, and the driver of the server's extra."""
    driver = _DRIVERS.get(url.drivername, url.drivername)
    return url.set(drivername=driver).render_as_string(hide_password=False)


# ---------------------------------------------------------------------------------------- opening


def open_storage(url: str, fence: Fence | None = None) -> BaseStorage:
    """The Optuna storage at `url`, created if it does not exist.

    Several processes may open a fresh storage at once: all but one wait for the tables. Lost
    connections to a database server are retried. With a `fence`, writes raise `LeaseLost` once the
    lease has ended. Raises `InvalidInput`, without the URL's password, if the storage cannot be
    opened.
    """
    attempt = 0
    while True:
        try:
            return _open(sqlalchemy.make_url(url), fence)
        except (*FAILURES, ImportError, ValueError) as error:
            reason = _reason(error)
            if attempt == _ATTEMPTS or not any(word in reason for word in _RACE):
                raise _cannot(url, reason) from None
            time.sleep(0.05 * 2**attempt)
            attempt += 1


def _open(url: URL, fence: Fence | None) -> BaseStorage:
    kind = url.get_backend_name()
    if kind == "journal":
        if not url.database:
            raise ValueError("it does not name a file")
        return _replayed(JournalFile(url.database, fence))
    if any("pass" in name.lower() for name in url.query):
        raise ValueError("the password is in the query; write USER:PASSWORD@HOST, or leave it out")
    if kind == "sqlite":
        _refuse_query(url)
        # Rendered, since Optuna takes braces in a URL for fields of its own.
        busy = {"connect_args": {"timeout": _BUSY_SECONDS}}
        storage = Database(url.render_as_string(), engine_kwargs=busy)
        sqlalchemy.event.listen(storage.engine, "connect", tune_sqlite)
        storage.engine.dispose()  # connections from now on are tuned ones
        storage.engine.connect().close()  # the first may have to wait for another process
    else:
        storage = Database(_rendered(url), engine_kwargs=_SERVER)
        sqlalchemy.event.listen(storage.engine, "do_connect", reconnect)
        weakref.finalize(storage, storage.engine.dispose)  # a server's connections are few
    if fence is not None:
        fence_engine(storage.engine, fence)
    return TrialCache(storage)


def _replayed(file: JournalFileBackend) -> JournalStorage:
    """The storage of a journal; raises `ValueError` where its lines contradict each other."""
    try:
        return JournalStorage(file)
    except (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise ValueError(f"its lines contradict each other ({error!r}); restore the file") from None


@contextmanager
def reading(url: str) -> Iterator[BaseStorage | None]:
    """The storage at `url` for reading, which creates nothing; None if there is none yet.

    Raises `InvalidInput`, without the URL's password, if it cannot be opened.
    """
    if is_missing(url):
        yield None
        return
    with ExitStack() as stack:
        try:
            storage = _open_to_read(sqlalchemy.make_url(url), stack)
        except (*FAILURES, ImportError, RuntimeError, ValueError) as error:
            raise _cannot(url, _reason(error)) from None
        yield storage


def _open_to_read(url: URL, stack: ExitStack) -> BaseStorage | None:
    """The storage, or None for a server's database without tables; `stack` closes it."""
    match url.get_backend_name():
        case "journal":
            return _replayed(JournalFileBackend(str(url.database)))
        case "sqlite":
            _refuse_query(url)
            opened, settings = _readable(Path(str(url.database)), stack), {}
        case _:
            opened, settings = _rendered(url), _SERVER
            engine = sqlalchemy.create_engine(opened, **settings)
            stack.callback(engine.dispose)
            if not sqlalchemy.inspect(engine).has_table("version_info"):  # Optuna's first
                return None
    storage = RDBStorage(opened, engine_kwargs=settings, skip_table_creation=True)
    stack.callback(storage.engine.dispose)
    return storage


def _readable(file: Path, stack: ExitStack) -> str:
    """The URL at which an SQLite file can be read: a copy's, if it needs writes that nobody may."""
    how = {"mode": "rw"}  # not ro: what a killed process left half-written is rolled back
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        unwritten = [file.with_name(f"{file.name}{end}") for end in ("-wal", "-journal")]
        left = [each for each in unwritten if each.is_file() and each.stat().st_size]
        if left:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="phiscale-")))
            for each in (file, *left):
                shutil.copyfile(each, folder / each.name)
            file = folder / file.name
        else:
            how = {"mode": "ro", "immutable": "1"}
    place = f"file:{quote(str(file.absolute()))}"
    return URL.create("sqlite", database=place, query=how | {"uri": "true"}).render_as_string()


def _cannot(url: str, reason: str) -> InvalidInput:
    parsed = _parsed(url)
    todo = "give the URL of an Optuna storage, such as sqlite:///study.db"
    if "No module named" in reason and parsed and parsed.get_backend_name() in _DRIVERS:
        todo = f"install it with: {install(parsed.get_backend_name())}"
    elif "password" in reason.lower():
        todo = f"write :*** as the password to take it from ${PASSWORD_VARIABLE}"
    return InvalidInput(f"storage: {without_password(url)} cannot be opened: {reason}; {todo}")


def end_trial(
    storage: BaseStorage,
    trial_id: int,
    state: TrialState,
    values: Sequence[float] | None,
    attributes: Mapping[str, Any],
) -> None:
    """Ends an open trial with `attributes`, in one transaction if `storage` is a database."""
    if isinstance(storage, TrialCache):
        storage.end_trial(trial_id, state, values, attributes)
        return
    for key, value in attributes.items():
        storage.set_trial_user_attr(trial_id, key, value)
    storage.set_trial_state_values(trial_id, state, values)


# -------------------------------------------------------------------------------------- failures


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return first_line(getattr(cause, "orig", None) or cause)


def is_gone(error: BaseException) -> bool:
    """Whether one of `FAILURES` is that of a storage or disk: full, read-only, broken, gone."""
    return not isinstance(error, OSError) or error.errno in _DISK


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)


def sentence(error: BaseException) -> str:
    """One line on a storage or disk that failed."""
    what = "a disk" if isinstance(error, OSError) else "the storage"
    return f"cannot write to {what} ({_reason(error)})"
