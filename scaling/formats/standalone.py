"""Standalone Python: `model.py`, which builds one network with torch alone.

Its classes are the real blocks, cut to what the network uses (`scaling.formats.cut`), so it loads
the same weights. The table `STAGES` has what the blocks differ in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from scaling.formats import HELD, Portable, filled, render

FILE = "model.py"


def source(portable: Portable) -> str:
    """The text of `model.py`; `docs/export.md` says what it offers."""
    from scaling.formats.cut import cut  # which imports torch

    classes, stages = cut(portable.architecture)
    code = ["\n".join(map(_formatted, text.splitlines())) for text in classes]
    return render(
        "model.py.jinja",
        about=portable.about(),
        stages=[filled(f"[{_runs(stage)}],", "     ") for stage in stages],
        blocks="\n\n\n".join(code[:-1]),
        model=code[-1],
    )


def _runs(rows: Sequence[str]) -> str:
    """The rows of a stage, equal ones together; those that fit on a line are not broken."""
    held = [row.replace(" ", HELD) if len(row) < 80 else row for row in rows]
    runs = [(row, len([*run])) for row, run in groupby(held)]
    return ", ".join(row if count == 1 else f"*{count} * [{row}]" for row, count in runs)


def _formatted(line: str) -> str:
    """A line of unparsed code as ruff formats it."""
    if '"""' in line:
        return line
    line = line.replace("'", '"').replace(' is "', ' == "')
    line = re.sub(r"^( *[\w.]+, .*) = \((.*)\)$", r"\1 = \2", line)  # several variables
    line = re.sub(r"(: [\w.\[\]| ]+)(?<! )=(?! )", r"\1 = ", line)  # a default
    if len(line) <= 100:
        return line
    before, _, rest = line.partition("(")
    inside, _, after = rest.rpartition(")")
    end = "\n" + " " * (len(line) - len(line.lstrip()))
    if len(end + inside) > 97:
        inside = inside.replace(", ", f",{end}    ") + ","
    return f"{before}({end}    {inside}{end}){after}"
