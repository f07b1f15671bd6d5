"""CUDA's state in this process and its threads: streams, the capture lock, and fatal errors."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

#: torch allows one capture at a time in a process; packed training runs are threads of one. If a
#: library made its first handle in another thread meanwhile, it would break the capture, so threads
#: make theirs under this lock too.
capture_lock = threading.Lock()

#: Set by the first failed capture, after which there must be no other: the allocator may believe
#: for good that a capture is under way; then it frees nothing when memory runs out, and emptying
#: its cache may fail.
_capture_failed = threading.Event()


class _Streams(threading.local):
    """The streams of a thread."""

    def __init__(self) -> None:
        self.by_device: dict[torch.device, torch.cuda.Stream] = {}


_streams = _Streams()


def note_failed_capture() -> None:
    """Notes that a capture has failed in this process."""
    _capture_failed.set()


def capture_failed() -> bool:
    """Whether a capture has failed in this process."""
    return _capture_failed.is_set()


def is_replaceable() -> bool:
    """Whether this process is a worker that its driver can replace."""
    return multiprocessing.parent_process() is not None


def is_lost() -> bool:
    """Whether CUDA answers every call of this process with an earlier ("sticky") error, as it does
    after an illegal memory access or a failed device assertion."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    try:
        torch.cuda.current_stream().synchronize()
    except RuntimeError:
        return True
    return False


@contextmanager
def thread_stream(device: torch.device) -> Iterator[None]:
    """Runs the block's GPU work on this thread's own stream, and waits for it at the end.

    A thread keeps one stream per device for life: cuBLAS keeps a workspace for each stream, and the
    allocator keeps freed blocks for the stream that used them.
    """
    if device.type != "cuda":
        yield
        return
    streams = _streams.by_device
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with capture_lock, torch.cuda.stream(streams[device]):
            start_libraries(device)
    with torch.cuda.stream(streams[device]):
        yield
        streams[device].synchronize()


def start_libraries(device: torch.device) -> None:
    """Makes cuDNN's and cuBLAS's handles by a small convolution and product, both ways."""
    images = torch.zeros(2, 8, 4, 4, device=device, requires_grad=True)
    weight = torch.zeros(8, 8, 3, 3, device=device, requires_grad=True)
    result = F.linear(F.conv2d(images, weight, padding=1).mean((2, 3)), weight[:, :, 0, 0])
    torch.autograd.grad(result.sum(), (images, weight))
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
