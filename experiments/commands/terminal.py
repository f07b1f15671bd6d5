"""What commands print: results on standard output, all else on standard error."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def wrote(path: Path | str) -> None:
    """Says where a result is."""
    out.print(f"wrote {path}", markup=False, soft_wrap=True)


def print_json(data: object) -> None:
    """Prints a result as JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def short(count: int) -> str:
    """A count as people say it: 1.55M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def print_rows(
    headers: tuple[str, ...], rows: list[list[str]], numeric: tuple[int, ...] | None = None
) -> None:
    """Prints a table; `numeric` are the columns aligned right, all but the first where None."""
    table = Table(*headers, box=None)
    for index in range(1, len(headers)) if numeric is None else numeric:
        table.columns[index].justify = "right"
    for column in table.columns:
        column.no_wrap = column.justify == "right"
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
