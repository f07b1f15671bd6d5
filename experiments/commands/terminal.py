"""What commands print: results on standard output, all else on standard error."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

#: For what is no terminal: a table there is as wide as its rows.
_wide = Console(highlight=False, width=10_000)


def wrote(path: Path | str) -> None:
    """Says where a result is."""
    out.print(f"wrote {path}", markup=False, soft_wrap=True)


def typed(path: Path) -> str:
    """A path as one would type it here."""
    near = path.is_relative_to(Path.cwd())
    return shlex.quote(str(path.relative_to(Path.cwd()) if near else path))


def print_json(data: object) -> None:
    """Prints a result as JSON, in ASCII unless the output is UTF-8: no character is lost."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(data, indent=2, ensure_ascii=ascii_only))


def print_rows(
    headers: tuple[str, ...], rows: list[list[str]], numeric: tuple[int, ...] | None = None
) -> None:
    """Prints a table; `numeric` are the columns aligned right, all but the first where None.

    On a terminal that is too narrow, text goes on in the next line; numbers stay whole.
    """
    table = Table(*headers, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index in range(1, len(headers)) if numeric is None else numeric:
        table.columns[index].justify = "right"
    for column in table.columns:
        column.no_wrap, column.overflow = column.justify == "right", "fold"
    for row in rows:
        table.add_row(*map(Text, row))
    (out if out.is_terminal else _wide).print(table)
