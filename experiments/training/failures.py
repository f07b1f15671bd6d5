"""What a training run can do wrong, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from experiments.training import cuda_context
from space.evaluation import WorkerUnusable

#: What messages of the CPU's allocator, of CUDA, cuBLAS and cuDNN say where memory is short; only
#: the caching allocator of a GPU raises an error of its own type.
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "_ALLOC_FAILED", "_ALLOCATION_FAILED")


class TrainingFailed(Exception):
    """Why a training run cannot go on, in a sentence."""


class OutOfMemory(TrainingFailed):
    """A training run that does not fit the memory of its device."""


@contextmanager
def device_errors(doing: str) -> Iterator[None]:
    """Tells two kinds of exception inside from all others; `doing` says what was being done.

    Raises `OutOfMemory` where memory was short, and `WorkerUnusable` where CUDA has ended all work
    of this process. Any other exception passes.
    """
    try:
        yield
    except TrainingFailed:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f"{doing} ran out of memory") from None
        if cuda_context.is_lost():
            raise WorkerUnusable(
                f"{_described(doing, error)}; CUDA can do no more work in this process"
            ) from error
        raise


@contextmanager
def network_errors(doing: str) -> Iterator[None]:
    """As `device_errors`, and any other exception inside becomes `TrainingFailed`."""
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


def is_out_of_memory(error: Exception) -> bool:
    """Whether a library raised `error` because memory was short."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
