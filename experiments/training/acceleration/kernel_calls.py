"""Calls the loops of `kernels` on tensors, if they can be used here."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor


def available() -> bool:
    """Whether the loops can be used: torch has one thread, as they do, and numba works."""
    return not why_not()


def why_not() -> str:
    """Why the loops cannot be used here; empty if they can."""
    if torch.get_num_threads() != 1:
        return f"torch has {torch.get_num_threads()} threads"
    _, problem = _kernels()
    return problem


def fits(x: Tensor) -> bool:
    """Whether the loops can read `x`, N × C × H × W: float32, and channels last in memory."""
    return x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)


def call(name: str, tensors: tuple[Tensor, ...], *numbers: float) -> None:
    """Calls the loop `name` with the memory of `tensors`, of which the first is a map."""
    images, channels, height, width = tensors[0].shape
    addresses = [tensor.data_ptr() for tensor in tensors]
    module, _ = _kernels()
    getattr(module, name).ctypes(*addresses, images, height * width, channels, *numbers)


@cache
def _kernels() -> tuple[ModuleType | None, str]:
    """The loops, or why there are none; imported here, since numba takes half a second."""
    try:
        from experiments.training.acceleration import kernels
    except (ImportError, RuntimeError) as error:  # numba does not know the Python or file system
        return None, f"numba cannot be used: {error}"
    return kernels, ""
