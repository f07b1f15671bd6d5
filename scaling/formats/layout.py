"""Python as ruff formats it, for the files that are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

WIDTH = 100


def call(before: str, items: Sequence[str], after: str = "", indent: int = 0) -> str:
    """`before(items)after`: on a line, on three, or an item a line."""
    pad = " " * indent
    line = f"{pad}{before}({', '.join(items)}){after}"
    if len(line) <= WIDTH:
        return line
    inner = f"{pad}    {', '.join(items)}"
    if len(inner) <= WIDTH:
        return f"{pad}{before}(\n{inner}\n{pad}){after}"
    lines = "".join(f"{pad}    {item},\n" for item in items)
    return f"{pad}{before}(\n{lines}{pad}){after}"


def init(parameters: Sequence[str]) -> str:
    """The first line of a class's `__init__`, or lines."""
    return call("def __init__", ["self", *parameters], " -> None:", 4)


def indented(lines: Iterable[str], indent: int) -> str:
    """Each line after so many spaces."""
    return "\n".join(f"{' ' * indent}{line}" for line in lines)


def strings(name: str, values: Sequence[str]) -> str:
    """A list of strings called `name`, several on a line."""
    if len(values) > 1 and list(values) == [str(index) for index in range(len(values))]:
        return f"{name} = [str(index) for index in range({len(values)})]"
    # What does not print, such as a change of direction, is escaped; nothing ends a string early.
    words = [json.dumps(value, ensure_ascii=not value.isprintable()) for value in values]
    line = f"{name} = [{', '.join(words)}]"
    if len(line) <= WIDTH and "\\" not in line:
        return line
    rows, row = [], "   "
    for word in words:
        if len(row) + len(word) + 2 > WIDTH and row.strip():
            rows.append(row)
            row = "   "
        row += f" {word},"
    return "\n".join(["# fmt: off", f"{name} = [", *rows, row, "]", "# fmt: on"])
