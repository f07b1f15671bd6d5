"""Stored images on a device: kept there as bytes if they fit, else streamed."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from experiments.data.images import Images
from experiments.training import augment

T = TypeVar("T")

#: Reads batches of indices (N, on the CPU) as images on the device: uint8 N × H × W × C.
Reader = Callable[[Iterable[Tensor]], Iterator[Tensor]]

#: Bytes of decoded or resized images that are kept on a CPU, and the part of a GPU's free memory
#: that images may take; what exceeds it is read batch by batch (assumed).
_CPU_ROOM = 2**30
_GPU_ROOM = 0.5
_READ_AT_ONCE = 1024
#: Batches that are read before they are needed (assumed: enough for an uneven disk).
_AHEAD = 2


class Kept:
    """Resized images on a device, shared by all training runs of this process.

    The least recently used make room for others. Threads may share it; pickled, it is empty.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, str], Tensor] = OrderedDict()

    def get(self, images: Images, device: torch.device, resolution: int) -> Tensor | None:
        """All of `images` (N × resolution × resolution × C, uint8); None if they do not fit."""
        shape = (len(images), resolution, resolution, images.channels)
        size = int(np.prod(shape, dtype=np.int64))
        key = (_identity(images), resolution, str(device))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            while self._kept and size > self._room(device):
                self._kept.popitem(last=False)
            if size > self._room(device):
                return None
            kept = torch.empty(shape, dtype=torch.uint8, device=device)
            for rows in torch.split(torch.arange(len(images)), _READ_AT_ONCE):
                kept[rows[0] : rows[-1] + 1] = _fetch(images, rows, device, resolution)
            if device.type == "cuda":  # other streams will read it
                torch.cuda.current_stream(device).synchronize()
            self._kept[key] = kept
            return kept

    def _room(self, device: torch.device) -> float:
        if device.type == "cuda":
            return torch.cuda.mem_get_info(device)[0] * _GPU_ROOM
        return _CPU_ROOM - sum(each.nbytes for each in self._kept.values() if not each.is_cuda)

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, ()


def _identity(images: Images) -> str:
    """Equal for equal rows of the same array or file."""
    where = getattr(images.pixels, "filename", None) or getattr(images, "path", None)
    rows = hashlib.blake2b(images.rows.tobytes(), digest_size=16).hexdigest()
    return f"{where or id(images.pixels)} {rows}"


def open_reader(images: Images, device: torch.device, resolution: int, kept: Kept) -> Reader:
    """Reads `images` onto `device`, resized to `resolution` pixels.

    They stay in `kept` if they fit, except on a CPU if the memory map already holds them at this
    resolution. Else a thread reads, resizes and copies batches ahead.
    """

    def fetch(indices: Tensor) -> Tensor:
        return _fetch(images, indices, device, resolution)

    mapped = images.pixels is not None and resolution == images.resolution
    if mapped and device.type == "cpu":
        return lambda batches: map(fetch, batches)
    resident = kept.get(images, device, resolution)
    if resident is not None:
        return lambda batches: _looked_up(resident, list(batches))
    if device.type == "cuda":
        return lambda batches: _streamed(images, batches, device, resolution)
    return lambda batches: _ahead(fetch, batches)


def _fetch(images: Images, indices: Tensor, device: torch.device, resolution: int) -> Tensor:
    pixels = torch.from_numpy(images.read(indices.numpy())).to(device)
    return augment.resize(pixels, resolution)


def _looked_up(resident: Tensor, batches: list[Tensor]) -> Iterator[Tensor]:
    """Batches of images that are on the device.

    All indices are copied there at once: a copy from the host's pageable memory waits for the
    stream, which would leave a GPU idle in every step.
    """
    order = torch.cat(batches).to(resident.device)
    yield from (resident[each] for each in torch.split(order, [*map(len, batches)]))


def _streamed(
    images: Images, batches: Iterable[Tensor], device: torch.device, resolution: int
) -> Iterator[Tensor]:
    """Batches that a separate stream copies from pinned memory, ahead of the current stream."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(indices: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        pinned = torch.from_numpy(images.read(indices.numpy())).pin_memory()
        with torch.cuda.stream(stream):
            pixels = augment.resize(pinned.to(device, non_blocking=True), resolution)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(stream)
        return pixels, copied

    current = torch.cuda.current_stream(device)
    for pixels, copied in _ahead(copy, batches):
        current.wait_event(copied)
        pixels.record_stream(current)  # its memory is not given away before it was read
        yield pixels


def _ahead(function: Callable[[Tensor], T], batches: Iterable[Tensor]) -> Iterator[T]:
    """Applies `function` to each batch, in a thread that is a few batches ahead."""
    with ThreadPoolExecutor(1, "read ahead") as thread:
        pending: deque[Future[T]] = deque()
        for batch in batches:
            pending.append(thread.submit(function, batch))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        for future in pending:
            yield future.result()
