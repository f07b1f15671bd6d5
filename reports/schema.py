"""The vocabulary of all tables: each column's meaning, unit and type."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.formatting import to_csv
from space.files import write_file

if TYPE_CHECKING:
    import pandas as pd


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of this package."""
    with (resources.files("reports") / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


_ROWS = read_rows("columns.csv")
#: The meaning of each column, by its name.
COLUMNS: Mapping[str, str] = {row["column"]: row["meaning"] for row in _ROWS}
#: The types of numeric columns; whole numbers stay whole if some are missing.
_DTYPES = {"whole": "Int64", "real": "float64"}
_TYPES = {row["column"]: _DTYPES[row["type"]] for row in _ROWS if row["type"]}


def names(text: str) -> list[str]:
    """The names in a text, separated by spaces."""
    return text.split()


def frame(rows: Iterable[Mapping[str, Any]], columns: list[str]) -> pd.DataFrame:
    """A frame with exactly these columns, each with its own type, even if there are no rows."""
    import pandas as pd

    made = pd.DataFrame(list(rows), columns=columns)
    return made.astype({name: _TYPES[name] for name in columns if name in _TYPES})


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain Python values, with None for missing ones."""
    return [
        {str(name): _plain(cell) for name, cell in row.items()} for row in table.to_dict("records")
    ]


def _plain(cell: Any) -> Any:
    cell = cell.item() if hasattr(cell, "item") else cell
    missing = type(cell).__name__ == "NAType" or (isinstance(cell, float) and math.isnan(cell))
    return None if missing else cell


def glossary() -> pd.DataFrame:
    """`COLUMNS` as a table."""
    return frame(_ROWS, ["column", "meaning"])


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Writes each table as NAME.csv, and `columns.csv`; returns the names of the files."""
    files = {f"{name}.csv": table for name, table in (*tables.items(), ("columns", glossary()))}
    for name, table in files.items():
        write_file(folder / name, to_csv(table))
    return list(files)
