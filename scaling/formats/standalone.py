"""Standalone Python: `model.py`, which builds one network, and `preprocess.py`, which reads images.

`model.py` needs torch alone. Its classes are the real blocks, cut to what the network uses
(`scaling.formats.cut`), so it loads the same weights. The table `STAGES` has what the blocks differ
in. `preprocess.py` needs numpy and Pillow; every runtime's inputs come from it.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from itertools import groupby

from scaling.formats import Portable, render
from space.cost import cost

FILE = "model.py"
PREPROCESS = "preprocess.py"

_WIDTH = 100

#: A space at which no line is broken.
_HELD = "\0"


def source(portable: Portable) -> str:
    """The text of `model.py`; `docs/export.md` says what it offers."""
    from scaling.formats.cut import cut  # which imports torch

    classes, types, stages = cut(portable.architecture)
    code = ["\n".join(map(_formatted, text.splitlines())) for text in classes]
    return render(
        "model.py.jinja",
        name=portable.name,
        network=portable.architecture,
        cost=cost(portable.architecture),
        types=types,
        stages=[_runs(stage) for stage in stages],
        filled=_filled,
        code=code,
    )


def _runs(rows: Sequence[str]) -> list[str]:
    """The rows of a stage, equal ones together; those that fit on a line are not broken."""
    held = [row.replace(" ", _HELD) if len(row) < 80 else row for row in rows]
    runs = [(row, len([*run])) for row, run in groupby(held)]
    return [row if count == 1 else f"*{count} * [{row}]" for row, count in runs]


def _filled(text: str, indent: str = "    ") -> str:
    """The text on lines of at most 96 characters, the later ones indented."""
    lines = textwrap.wrap(
        text, 96, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace(_HELD, " ")


def _formatted(line: str) -> str:
    """A line of unparsed code as ruff formats it."""
    if line.lstrip().startswith('"""'):
        return line
    line = line.replace("'", '"').replace(' is "', ' == "')
    line = re.sub(r"^( *\w+, .*) = \((.*)\)$", r"\1 = \2", line)  # several variables
    line = re.sub(r"(: [\w.\[\]| ]+)(?<! )=(?! )", r"\1 = ", line)  # a default
    if len(line) <= _WIDTH:
        return line
    pad = " " * (len(line) - len(line.lstrip()))
    before, _, rest = line.partition("(")
    inside, _, after = rest.rpartition(")")
    lines = [inside]
    if len(pad + inside) + 4 > _WIDTH:
        lines = [f"{item}," for item in re.split(r", (?![^(\[]*[)\]])", inside)]
    return "\n".join([f"{before}(", *(f"{pad}    {each}" for each in lines), f"{pad}){after}"])


# --------------------------------------------------------------------------------- preprocess.py


def preprocess(portable: Portable) -> str:
    """The text of `preprocess.py`: `CLASSES`, and `preprocess(path)`, which gives an input."""
    return render(
        "preprocess.py.jinja",
        name=portable.name,
        network=portable.architecture,
        given=portable.preprocessing,
        classes=_classes(portable.classes),
        filled=_filled,
    )


def _classes(names: Sequence[str]) -> str:
    if len(names) > 1 and list(names) == [str(index) for index in range(len(names))]:
        return f"[str(index) for index in range({len(names)})]"
    # JSON escapes quotes, and characters that do not print, such as a change of direction.
    words = [json.dumps(name, ensure_ascii=not name.isprintable()) for name in names]
    return f"[{', '.join(word.replace(' ', _HELD) for word in words)}]"
