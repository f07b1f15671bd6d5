"""Standalone PyTorch: the source of a `model.py` that builds one network and needs torch alone.

Its classes are the real blocks, cut to what the network uses (`scaling.formats.cut`), so the file
loads the same weights; what its blocks differ in is the table `STAGES`.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import chain, groupby

from scaling.formats import Portable, template
from space.architecture import Architecture, Block
from space.cost import cost

FILE = "model.py"

_WIDTH = 100

#: Patterns in the sources, and what a model has in their place.
_WRITTEN = {
    r"\bblock\.in_channels\b": "inputs",
    r"\bblock\.inner_channels\b": "inner",
    r"\bblock\.out_channels\b": "outputs",
    r"\bblock\.squeeze_channels\b": "squeezed",
    r"\bblock\.": "",
    r"\bblock\b": "row",
    r"\bBlock\b": "Row",
    r"\bNetwork\b": "Model",
    r"(?<![.\w])Dropout\b": "nn.Dropout",
    r" is (?=')": " == ",
    r"'": '"',
    r"(: [\w.\[\]| ]+)(?<! )=(?! )": r"\1 = ",  # a default
}


def source(portable: Portable) -> str:
    """The text of `model.py`; `docs/export.md` says what it offers."""
    from scaling.formats.cut import cut, imports  # which imports torch
    from space import blocks

    network, given = portable.architecture, portable.preprocessing
    kinds = {block: blocks.BLOCKS[block.operator].__name__ for block in chain(*network.blocks())}
    several = len({*kinds.values()}) > 1
    made = "kind(block) for kind, block" if several else f"{min(kinds.values())}(block) for block"
    code = re.sub(r"BLOCKS\[[^]]*\]\(block\) for block", made, cut(network))
    fields = [field for field in Block._fields if re.search(rf"\bblock\.{field}\b", code)]
    names = [_written(f"block.{field}") for field in fields]
    code = code.replace("fields = block", f"{', '.join(names)}{',' * (len(names) == 1)} = block")
    *classes, model = "\n".join(map(_written, code.splitlines())).split("\n\n\n")
    types, rows = _rows(network, fields)
    words = {*re.findall(r"\w+", code)}
    found = cost(network)
    head = [
        *textwrap.wrap(
            f'"""{portable.name}: {network.num_classes} classes, '
            f"{network.resolution} × {network.resolution} pixels, {found.macs / 1e6:.4g}M "
            f"multiply–adds, {found.params / 1e6:.3g}M parameters.",
            _WIDTH,
        ),
        _USE,
        *_sorted({*template.IMPORTS, *imports(words)}),
        "",
        'WEIGHTS = Path(__file__).with_name("model.safetensors")',
        f"MEAN, STD = {list(given.mean)}, {list(given.std)}",
        _classes(portable.classes),
        *(
            _table(name, vars(blocks)[name], network)
            for name in ("ACTIVATIONS", "GATES")
            if name in words
        ),
        _broken("Row = tuple[", types or ["()"], "]"),
    ]
    if several:
        rows = {block: f"({kinds[block]}, {row})" for block, row in rows.items()}
    kind = "tuple[type[Residual], Row]" if several else "Row"
    stages = _stages(network, rows, ", ".join(names), kind)
    parts = [*classes, *([stages] if several else []), model, template.load()]
    parts += [template.preprocess(portable), template.main(portable)]
    top = "\n".join(head if several else [*head, stages])
    return "\n\n\n".join([top, *(part.strip("\n") for part in parts)]) + "\n"


_USE = """
`python model.py image.png` prints the most probable classes; needs torch and Pillow. By phiscale.
\"""
"""


def _sorted(statements: set[str]) -> list[str]:
    """Imports as isort has them: the standard library's, then torch's."""
    torch = [each for each in statements if each.split()[1].startswith("torch")]
    key = lambda each: (each.startswith("from"), each.lower())  # noqa: E731
    return [*sorted(statements - {*torch}, key=key), "", *sorted(torch, key=key)]


def _classes(names: Sequence[str]) -> str:
    if len(names) > 1 and list(names) == [str(index) for index in range(len(names))]:
        return f"CLASSES = [str(index) for index in range({len(names)})]"
    # What does not print, such as a change of direction, is escaped; nothing ends a string early.
    words = [json.dumps(name, ensure_ascii=not name.isprintable()) for name in names]
    line = ", ".join(words)
    if len(line) + 13 <= _WIDTH and "\\" not in line:
        return f"CLASSES = [{line}]"
    held = ", ".join(word.replace(" ", "\0") for word in words)
    rows = textwrap.wrap(f"{held},", _WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    text = "\n".join(f"    {row}" for row in rows).replace("\0", " ")
    return f"# fmt: off\nCLASSES = [\n{text}\n]\n# fmt: on"


def _table(name: str, table: Mapping[str, type], network: Architecture) -> str:
    """A table such as `ACTIVATIONS`, of what the network's blocks name."""
    named = {*chain(*chain(*network.blocks()))}
    items = [f'"{k}": nn.{v.__name__}' for k, v in table.items() if k in named]
    return _broken(f"{name}: dict[str, type[nn.Module]] = {{", items, "}")


def _rows(network: Architecture, fields: Sequence[str]) -> tuple[list[str], dict[Block, str]]:
    """The types of the blocks' fields, and each block's row; text that is None is empty."""
    found = [*dict.fromkeys(chain(*network.blocks()))]
    columns = [[getattr(block, field) for block in found] for field in fields]
    texts = [any(isinstance(value, str) for value in column) for column in columns]
    columns = [[str(v or "") for v in c] if t else c for c, t in zip(columns, texts, strict=True)]
    types = [" | ".join(sorted({type(v).__name__ for v in column})) for column in columns]
    rows = (_written(repr(tuple(column[i] for column in columns))) for i in range(len(found)))
    return types, dict(zip(found, rows, strict=True))


def _stages(network: Architecture, rows: dict[Block, str], title: str, kind: str) -> str:
    """The table of stages: lists of rows."""
    lines = [f"STAGES: list[list[{kind}]] = [  # {title}"]
    if len(lines[0]) > _WIDTH:
        lines = [
            *textwrap.wrap(f"# {title}", _WIDTH, subsequent_indent="# "),
            f"STAGES: list[list[{kind}]] = [",
        ]
    for stage in network.blocks():
        parts = []
        for row, run in groupby(rows[block] for block in stage):
            count = len([*run])
            short = row if count == 1 else f"*{count} * [{row}]"
            if len(row) + 9 > _WIDTH:
                row = re.sub(
                    r"\((\w+), (.*)\)", rf"(\n{' ' * 12}\1,\n{' ' * 12}\2,\n        )", row
                )
            parts += [short] if len(short) + 9 <= _WIDTH else [row] * count
        line = f"    [{', '.join(parts)}],"
        if len(line) > _WIDTH:
            line = "\n".join(["    [", *(f"        {part}," for part in parts), "    ],"])
        lines.append(line)
    return "\n".join([*lines, "]"])


def _written(line: str) -> str:
    """A line of the sources as a model has it, broken as ruff breaks it."""
    if line.lstrip().startswith('"""'):
        return line
    for pattern, other in _WRITTEN.items():
        line = re.sub(pattern, other, line)
    if len(line) <= _WIDTH:
        return line
    pad = " " * (len(line) - len(line.lstrip()))
    if line.endswith(" = row"):
        return "\n".join(
            [f"{pad}(", *(f"{pad}    {n}," for n in line.strip()[:-6].split(", ")), f"{pad}) = row"]
        )
    if found := re.fullmatch(r"(.*? = )(.*) (if .*) (else [\w.]+(\(.*\))?)", line):
        before, *choice = found.groups()[:4]
        return _broken(f"{before}(", [" ".join(choice)], ")", pad)
    before, _, rest = line.partition("(")
    inside, _, after = rest.rpartition(")")
    return _broken(f"{before}(", re.split(r", (?![^(\[]*[)\]])", inside), f"){after}", pad)


def _broken(before: str, items: Sequence[str], after: str, pad: str = "") -> str:
    """`before`, the items, `after`: on a line, on three, or an item a line."""
    line = ", ".join(items)
    if len(before + line + after) <= _WIDTH:
        return before + line + after
    if len(pad + line) + 4 <= _WIDTH and before.endswith("("):
        return f"{before}\n{pad}    {line}\n{pad}{after}"
    return "\n".join([before, *(f"{pad}    {item}," for item in items), f"{pad}{after}"])
