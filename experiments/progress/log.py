"""Messages of a run: lines on standard error, all of which are also written to `RUN/phiscale.log`.

A *remark* is a warning and always shown. A *note* reports progress; it is not shown on a terminal,
which has a live table instead. *Trouble* is the error that ends a command. Results go to standard
output and are not logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

#: Where people look while a run works. Its `quiet` is set by `recorded`.
console = Console(stderr=True, highlight=False)
_errors = Console(stderr=True, highlight=False)

#: The file in a run's folder.
FILE = "phiscale.log"

_logger = logging.getLogger("phiscale")

#: Whose warnings belong in the log, too: what happened to a training is said where it happened.
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
    """A file whose disk may become full: then it lacks lines, and the run goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's)
        """Says nothing, where logging would print a traceback for every line."""


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
    """Inside, all messages are also written to the log of the folder, one line each, in UTC.

    `quiet` shows errors only. A log that cannot be written does not stop a run.
    """
    before = console.quiet
    console.quiet = quiet
    file = _open(folder / FILE)
    _logger.addHandler(file)
    for logger in _OTHERS:
        logger.addHandler(file)
        logger.addHandler(_shown)
    try:
        yield
    finally:
        for logger in (_logger, *_OTHERS):
            logger.removeHandler(file)
        for logger in _OTHERS:
            logger.removeHandler(_shown)
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
