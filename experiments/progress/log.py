"""Messages of a run: lines on standard error, which are also written to `RUN/phiscale.log`.

A *remark* is a warning, always shown. A *note* reports progress; a terminal does not show it, since
it has a live table instead. *Trouble* is the error that ends a command. Results go to standard
output and are not logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

#: Where messages are shown. `recorded` sets its `quiet`.
console = Console(stderr=True, highlight=False, emoji=False)
_errors = Console(stderr=True, highlight=False, emoji=False)

#: The file in a run's folder.
FILE = "phiscale.log"

_logger = logging.getLogger("phiscale")

#: Other loggers whose warnings belong in the log.
_OTHERS = tuple(map(logging.getLogger, ("search", "experiments")))


def say(line: str, where: Console | None = None, style: str = "") -> None:
    """Prints a line without markup; a terminal wraps it between words."""
    to = where or console
    to.print(line, style=style, markup=False, soft_wrap=not to.is_terminal)


class _ToConsole(logging.Handler):
    """Prints what is logged above a live display, without rich's markup."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            line = f"phiscale: {record.getMessage()}"
            say(line, _errors, "red")
        elif record.levelno >= logging.WARNING or not console.is_terminal:
            say(record.getMessage())


class _LogFile(logging.FileHandler):
    """A file that misses lines when its disk is full, while the run goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's)
        """Does nothing, where logging would print a traceback for every line."""


_shown = _ToConsole()


def trouble(line: str) -> None:
    """Logs an error, which is shown even with `--quiet`."""
    _say(logging.ERROR, line)


def remark(line: str) -> None:
    """Logs a warning."""
    _say(logging.WARNING, line)


def note(line: str) -> None:
    """Logs progress."""
    _say(logging.INFO, line)


def _say(level: int, line: str) -> None:
    if _shown not in _logger.handlers:
        _logger.addHandler(_shown)
        _logger.setLevel(logging.INFO)
        _logger.propagate = False
    _logger.log(level, "%s", line)


@contextmanager
def recorded(folder: Path, *, quiet: bool = False) -> Iterator[None]:
    """Also writes all messages inside the block to the folder's log, with their times in UTC.

    `quiet` shows errors only. A log that cannot be written does not stop a run.
    """
    before, console.quiet = console.quiet, quiet
    file = _open(folder / FILE)
    added = [(_logger, file), *((each, to) for each in _OTHERS for to in (file, _shown))]
    for logger, handler in added:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, handler in added:
            logger.removeHandler(handler)
        file.close()
        console.quiet = before


def _open(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file: logging.Handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        say(f"{path}: cannot be written, so there is no log ({error.strerror})")
        return logging.NullHandler()
    form = logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    form.converter = time.gmtime
    file.setFormatter(form)
    return file
