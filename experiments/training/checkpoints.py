"""Checkpoints of unfinished training runs. No fault of a file stops a run: it is reported."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from space.files import write_file

if TYPE_CHECKING:
    from upath import UPath

_logger = logging.getLogger(__name__)


def save(path: Path | UPath, fingerprint: str, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values), whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"fingerprint": fingerprint, "state": state}, buffer)
    try:
        write_file(path, buffer.getvalue())
    except OSError as error:
        _logger.warning(
            "%s: cannot write the checkpoint (%s); training continues without it",
            path,
            error.strerror or error,
        )


def load(path: Path | UPath, fingerprint: str) -> dict[str, Any] | None:
    """The state that `save` wrote with the same fingerprint, on the CPU; None if there is none."""
    if not path.is_file():
        return None
    try:
        file = io.BytesIO(path.read_bytes())
        content = torch.load(file, map_location="cpu", weights_only=True)
        found, state = content["fingerprint"], content["state"]
    except Exception as error:  # torch raises many kinds for a file that is damaged or of another
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
