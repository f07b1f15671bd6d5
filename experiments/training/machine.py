"""The machine that training runs use: its devices, threads, memory and floating point."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from experiments.config import ExecutorConfig
from experiments.training import cuda_context
from search.executors.processes import cores
from space.validation import InvalidInput

#: glibc's names of what `mallopt` sets (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def choose_device(name: str) -> torch.device:
    """The device `cpu`, `cuda` or `cuda:N`; `auto` is a GPU if there is one, else the CPU.

    Raises `InvalidInput` if torch does not find the GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(
            f"executor.device: {name} needs a GPU, but torch {torch.__version__} finds none; use "
            "`cpu` or `auto`"
        )
    return device


def worker_variables(settings: ExecutorConfig) -> list[dict[str, str]]:
    """The environment variables of each worker of this machine: its share of the threads, its GPU.

    If there are more workers than GPUs, several see the same GPU.
    """
    names, count = gpus(settings), settings.workers
    if isinstance(count, str):
        count = len(names) or max(1, cores() // (settings.threads or 1))
    threads = settings.threads or max(1, cores() // count)
    shares = process_variables(threads)
    if not names:
        return [shares] * count
    return [shares | {"CUDA_VISIBLE_DEVICES": names[i % len(names)]} for i in range(count)]


def process_variables(threads: int) -> dict[str, str]:
    """The environment variables of a process that trains on `threads`; libraries read them once.

    GLIBC_TUNABLES makes malloc ask Linux for pages of 2 MiB: handling 4 KiB pages of a step's
    activations took 8 to 13 % of it (measured: Zen 4, 64 images of 32 pixels).
    """
    given = os.environ.get("GLIBC_TUNABLES")
    tunables = ":".join([*([given] if given else []), "glibc.malloc.hugetlb=1"])
    return {"OMP_NUM_THREADS": str(threads), "GLIBC_TUNABLES": tunables}


def gpus(settings: ExecutorConfig) -> list[str]:
    """The GPUs that training runs may use, as CUDA_VISIBLE_DEVICES names them."""
    if settings.device == "cpu" or not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


@contextmanager
def prepared(threads: int | None) -> Iterator[None]:
    """Sets this process up for training within the block: `threads`, no denormals, memory kept.

    `threads` None leaves torch's choice: all cores, or the variable OMP_NUM_THREADS. Denormal
    numbers, into which weights decay, take some hundred cycles each on a CPU. They are flushed to
    zero only within the block, because other computations of this process need them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Makes glibc's malloc keep what is freed instead of returning it to the system.

    Each step frees its activations and the next allocates them again; fetching fresh pages took 10
    to 35 % of a step with 128 to 256 images (measured: two cores, 32 pixels, 6M MACs).
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, 1)  # large blocks of all threads, not of the main one alone
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 64 * 2**20)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


@contextmanager
def float32_precision(*, tf32: bool) -> Iterator[None]:
    """Within the block, a GPU computes in float32, or rounds inputs to 10 bits (`tf32`).

    torch's default is TF32 for convolutions and float32 for matrix products.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32
    cudnn.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        cudnn.allow_tf32, products.allow_tf32 = before


def reset_peak_memory(device: torch.device) -> None:
    """Starts a new measurement of `peak_memory`, and frees memory that is not used."""
    if device.type == "cuda":
        if not cuda_context.capture_failed():  # after that, emptying the cache may fail
            torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
        # Linux: "5" resets the peak to what is resident now (proc(5)); some containers forbid it.
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def peak_memory(device: torch.device) -> int:
    """Peak in bytes since `reset_peak_memory`: allocated on a GPU, or resident in this process.

    If the system cannot reset its count, the peak since this process started.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
