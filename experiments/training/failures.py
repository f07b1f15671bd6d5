"""What a network can do wrong, told in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class TrainingFailed(Exception):
    """Why a training cannot go on, in a sentence."""


class OutOfMemory(TrainingFailed):
    """A training that does not fit the memory of its device."""


@contextmanager
def network_errors(doing: str) -> Iterator[None]:
    """Whatever the network raises inside as `TrainingFailed`; `doing` says what it was doing."""
    try:
        yield
    except Exception as error:
        if _is_out_of_memory(error):
            raise OutOfMemory(f"{doing} ran out of memory") from None
        told = (str(error).strip() or "no message").splitlines()[0]
        raise TrainingFailed(f"{doing} raised {type(error).__name__}: {told}") from error


def _is_out_of_memory(error: Exception) -> bool:
    # The CPU's allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
