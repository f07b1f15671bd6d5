"""What an unfinished training run leaves on disk, so that it can continue where it stopped."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from space.files import write_file

if TYPE_CHECKING:
    from upath import UPath

_logger = logging.getLogger(__name__)

#: What torch raises for a file that is cut short, of another kind, or gone.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def save(path: Path | UPath, fingerprint: str, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values), whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"fingerprint": fingerprint, "state": state}, buffer)
    write_file(path, buffer.getvalue())


def load(path: Path | UPath, fingerprint: str) -> dict[str, Any] | None:
    """The state that `save` wrote with the same fingerprint, on the CPU; None if there is none.

    A file that cannot be read, or that belongs to another training run, is reported and ignored.
    """
    if not path.is_file():
        return None
    try:
        file = io.BytesIO(path.read_bytes())
        content = torch.load(file, map_location="cpu", weights_only=True)
        found, state = content["fingerprint"], content["state"]
    except _UNREADABLE as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        _logger.warning(
            "%s: cannot read the checkpoint, so training starts from the beginning (%s)", path, what
        )
        return None
    if found != fingerprint:
        _logger.warning(
            "%s: the checkpoint is from another training run, so training starts from scratch",
            path,
        )
        return None
    loaded: dict[str, Any] = state
    return loaded
