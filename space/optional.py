"""Packages that only some need: imported at first use, with a word on how to get them."""

from __future__ import annotations

import importlib
from typing import Any

from space.validation import InvalidInput


def needed(module: str, extra: str, what: str) -> Any:
    """The module `module`; raises `InvalidInput` with the extra that has it where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"{what} needs the package {error.name}, which is not installed; "
            f"pip install 'phiscale[{extra}]'"
        ) from None
