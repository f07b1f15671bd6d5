"""The vocabulary of all tables: each column's meaning, unit and type."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


with (resources.files("reports") / "columns.csv").open(encoding="utf-8") as _file:
    _ROWS = tuple(csv.DictReader(_file))

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
    return frame([{"column": k, "meaning": v} for k, v in COLUMNS.items()], ["column", "meaning"])
