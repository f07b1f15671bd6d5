"""Where numba's kernels can be used, and their calls with torch's memory."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

_logger = logging.getLogger(__name__)


def available(device: torch.device) -> bool:
    """Whether what trains now can use the kernels: by one thread, of a CPU, with numba at hand."""
    return device.type == "cpu" and torch.get_num_threads() == 1 and _kernels() is not None


def fits(x: Tensor) -> bool:
    """Whether the kernels can read `x`, N × C × H × W: float32, and channels last in memory."""
    return x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)


def call(name: str, tensors: tuple[Tensor, ...], *numbers: float) -> None:
    """Calls the kernel `name` with the memory of `tensors`, of which the first is a map."""
    images, channels, height, width = tensors[0].shape
    addresses = [tensor.data_ptr() for tensor in tensors]
    getattr(_kernels(), name).ctypes(*addresses, images, height * width, channels, *numbers)


@cache
def _kernels() -> ModuleType | None:
    """The kernels: imported where they are needed, since numba takes half a second."""
    try:
        from experiments.training import kernels
    except (ImportError, RuntimeError) as error:  # a Python or a file system numba cannot work with
        _logger.info("training goes on without its own kernels: numba cannot be used: %s", error)
        return None
    return kernels
