"""Standalone Python: `preprocess.py`, which reads images with numpy and Pillow alone.

Every runtime's inputs come from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from scaling.formats import HELD, Portable, filled, render

FILE = "preprocess.py"


def source(portable: Portable) -> str:
    """The text of `preprocess.py`: `CLASSES`, and `preprocess(path)`, which gives an input."""
    return render(
        "preprocess.py.jinja",
        name=portable.name,
        network=portable.architecture,
        given=portable.preprocessing,
        classes=filled(f"CLASSES = {_classes(portable.classes)}"),
    )


def _classes(names: Sequence[str]) -> str:
    if len(names) > 1 and list(names) == [str(index) for index in range(len(names))]:
        return f"[str(index) for index in range({len(names)})]"
    # JSON escapes quotes, and characters that do not print, such as a change of direction.
    words = [json.dumps(name, ensure_ascii=not name.isprintable()) for name in names]
    return f"[{', '.join(word.replace(' ', HELD) for word in words)}]"
