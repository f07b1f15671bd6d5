"""Packages that only some users need, imported at first use."""

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
            f"{what} needs the package {error.name}, which is not installed: {install(extra)}"
        ) from None


def install(extra: str) -> str:
    """How to install an extra of phiscale, whether it came from a checkout or from an index."""
    return f"pip install 'phiscale[{extra}]', or in a checkout pip install '.[{extra}]'"
