"""Printing: results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

out = Console(highlight=False, markup=False, emoji=False)
err = Console(highlight=False, markup=False, emoji=False, stderr=True)

#: For output that is no terminal: a table there is as wide as its rows.
_wide = Console(highlight=False, markup=False, emoji=False, width=10_000)


def say(line: str) -> None:
    """Prints a line without breaking it, so that paths and commands can be copied."""
    out.print(line, soft_wrap=True)


def wrote(path: Path | str) -> None:
    """Says where a result is."""
    say(f"wrote {path}")


def typed(path: Path) -> str:
    """A path as it is typed in the current folder."""
    near = path.is_relative_to(Path.cwd())
    return shlex.quote(str(path.relative_to(Path.cwd()) if near else path))


def shown(value: Any, form: Callable[[Any], str], missing: str = "") -> str:
    """`form(value)`; `missing` where the value is None or NaN."""
    return missing if value is None or value != value else form(value)


def print_json(data: object) -> None:
    """Prints a result as JSON, in ASCII unless the output is UTF-8: no character is lost."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(data, indent=2, ensure_ascii=ascii_only))


def print_rows(
    headers: tuple[str, ...], rows: list[list[str]], numeric: tuple[int, ...] | None = None
) -> None:
    """Prints a table; `numeric` are the columns aligned right, all but the first where None.

    On a terminal that is too narrow, text continues on the next line; numbers stay whole.
    """
    table = Table(*headers, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index in range(1, len(headers)) if numeric is None else numeric:
        table.columns[index].justify = "right"
    for column in table.columns:
        column.no_wrap, column.overflow = column.justify == "right", "fold"
    for row in rows:
        table.add_row(*row)
    (out if out.is_terminal else _wide).print(table)
