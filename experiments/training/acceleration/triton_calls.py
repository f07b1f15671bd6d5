"""Launches Triton's kernels, where measurements at first use say that they are better than torch's.

What they compute is torch's to rounding. For each kind of layer, shape and type, the first call in
a process runs both on random numbers. The kernels are used if their results agree with torch's and
their time on the device is shorter. Otherwise, and where they fail, torch's own layer is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from experiments.training import cuda_context

_logger = logging.getLogger(__name__)

#: Computes the same tensors as another.
Compute = Callable[[], Sequence[Tensor]]
#: Makes inputs, and gives what computes with the kernels, and with torch's operations.
Trial = Callable[[], tuple[Compute, Compute]]

#: Where kernels run; the tests, for which Triton interprets them, add the CPU.
_DEVICES = ("cuda",)
#: Distances from torch's results, as fractions of their largest value, up to which results agree.
#: torch's convolutions in float32 may round their inputs to TF32.
_TOLERANCES = {torch.float32: 5e-3, torch.bfloat16: 2e-2}
#: The fraction of torch's time that the kernels may take at most (assumed; times vary).
_GAIN = 0.9
#: Calls per measurement, and measurements, of which the shortest counts (assumed).
_CALLS, _REPEATS = 10, 2
#: Cycles for which the device is kept busy while calls are launched, so that they follow each other
#: at once, as in a replayed step (assumed: some ms).
_BUSY_CYCLES = 5_000_000

_better: dict[Hashable, bool] = {}


def why_not() -> str:
    """Why the kernels cannot be used; empty if they can."""
    _, problem = _kernels()
    return problem


def fits(x: Tensor) -> bool:
    """Whether the kernels can read `x`, N × C × H × W: on a GPU, of a type that they know, and
    channels last in memory."""
    return (
        x.device.type in _DEVICES
        and x.dtype in _TOLERANCES
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def launch(name: str, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launches the kernel `name` on the current stream of the current device."""
    module, _ = _kernels()
    getattr(module, name)[grid](*arguments, **constants)


def are_better(layer: Hashable, x: Tensor, trial: Trial) -> bool:
    """Whether to use the kernels for `layer` and maps like `x`, as `trial` found at first use.

    While a CUDA graph is captured nothing can be measured, so torch's operations are used.
    """
    key = (layer, x.shape, x.dtype, x.device)
    if key not in _better:
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            return False
        # Other threads must not capture while kernels are loaded and measured.
        with cuda_context.capture_lock:
            if key not in _better:
                _better[key] = _measured(x, trial)
    return _better[key]


def chosen() -> tuple[int, int]:
    """How many of the trials of this process the kernels won, and how many there were."""
    return sum(_better.values()), len(_better)


@torch.no_grad()
def _measured(x: Tensor, trial: Trial) -> bool:
    try:
        own, torchs = trial()
        for found, wanted in zip(own(), torchs(), strict=True):
            distance = (found.float() - wanted.float()).abs().max()
            if not distance <= _TOLERANCES[x.dtype] * wanted.float().abs().max():
                _logger.warning(
                    "a Triton kernel and torch differ by %.2g for a map of %s (%s), so torch's own "
                    "layer is used; please report this with the versions of Triton and torch",
                    distance.item(),
                    " × ".join(map(str, x.shape)),
                    x.dtype,
                )
                return False
        return seconds(own, x.device) < _GAIN * seconds(torchs, x.device)
    except Exception as error:  # whatever it is, torch's own layer can be used
        _warn_of((str(error).strip() or type(error).__name__).splitlines()[0])
        return False


@cache
def _warn_of(problem: str) -> None:
    """Warns of each problem once."""
    _logger.warning(
        "Triton's kernels cannot be used (%s); torch's own layers are used instead", problem
    )


def seconds(compute: Compute, device: torch.device) -> float:
    """Seconds of the device for a call of `compute`, without the time of launching."""
    compute()
    found = []
    for _ in range(_REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(_BUSY_CYCLES)  # type: ignore[no-untyped-call]
        start.record()
        for _ in range(_CALLS):
            compute()
        end.record()
        torch.cuda.current_stream(device).synchronize()
        found.append(start.elapsed_time(end) / _CALLS / 1e3)
    return float(min(found))


@cache
def _kernels() -> tuple[ModuleType | None, str]:
    """The kernels, or why there are none; imported here, since only GPUs need Triton."""
    try:
        from experiments.training.acceleration import triton_kernels
    except ImportError as error:
        return None, f"Triton cannot be imported: {error}"
    return triton_kernels, ""
