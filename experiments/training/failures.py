"""Why a training run fails, and which errors of libraries mean what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from experiments.training import cuda_context
from space.evaluation import WorkerUnusable

#: Parts of messages of the CPU's allocator, CUDA, cuBLAS and cuDNN about too little memory; only
#: the caching allocator of a GPU raises an error of its own type.
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "_ALLOC_FAILED", "_ALLOCATION_FAILED")


class TrainingFailed(Exception):
    """A training run cannot go on; the message says why."""


class OutOfMemory(TrainingFailed):
    """A training run does not fit the memory of its device."""


@contextmanager
def device_errors(doing: str) -> Iterator[None]:
    """Turns an exception of the block into `OutOfMemory` if memory was short, and into
    `WorkerUnusable` if CUDA can do no more work in this process; others pass.

    `doing` says in messages what was being done.
    """
    try:
        yield
    except TrainingFailed:
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            raise OutOfMemory(f"{doing} ran out of memory") from None
        if cuda_context.is_lost():
            raise WorkerUnusable(
                f"{_described(doing, error)}; CUDA can do no more work in this process"
            ) from error
        raise


@contextmanager
def network_errors(doing: str) -> Iterator[None]:
    """As `device_errors`, but all other exceptions become `TrainingFailed`."""
    try:
        with device_errors(doing):
            yield
    except TrainingFailed:
        raise
    except Exception as error:
        raise TrainingFailed(_described(doing, error)) from error


def _described(doing: str, error: Exception) -> str:
    message = (str(error).strip() or "no message").splitlines()[0]
    return f"{doing} raised {type(error).__name__}: {message}"


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
