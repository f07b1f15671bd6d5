"""Images at rest: what a trainer reads from, however they are stored.

`DecodedImages` are a memory map of pixels, `CompressedImages` one file of encoded images that are
decoded when read. Both hold paths and indices, not pixels, so they pickle in no time and all
processes of a machine share one copy through the page cache.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from experiments.data import decode
from experiments.data.parallel import threads

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]

#: Images that a worker decodes at a time: enough to outweigh handing them over (assumed).
_DECODED_AT_ONCE = 32


class Images(Protocol):
    """N labelled square images of equal size.

    Image i is `pixels[rows[i]]` where there are `pixels`, so a trainer may put these on a device
    once, for all splits.
    """

    @property
    def labels(self) -> Indices:
        """The class of each image: int64 (N,)."""

    @property
    def rows(self) -> Indices:
        """Where each image lies in `pixels`: int64 (N,)."""

    @property
    def resolution(self) -> int:
        """The side in pixels."""

    @property
    def channels(self) -> int:
        """3 (RGB) or 1 (grey)."""

    @property
    def pixels(self) -> Pixels | None:
        """The whole memory map, of which these images are `rows`; None where compressed."""

    def __len__(self) -> int: ...

    def read(self, indices: Indices) -> Pixels:
        """The images at `indices`: uint8 (n, resolution, resolution, channels), a new array."""

    def subset(self, indices: Indices) -> Self:
        """The images at `indices`, in that order; nothing is read."""


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Images that are rows of `pixels`, uint8 (M, resolution, resolution, channels)."""

    pixels: Pixels
    rows: Indices
    labels: Indices

    @property
    def resolution(self) -> int:
        """The side in pixels."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """3 (RGB) or 1 (grey)."""
        return int(self.pixels.shape[3])

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Indices) -> Pixels:
        """The images at `indices`: uint8 (n, resolution, resolution, channels), a new array."""
        return np.asarray(self.pixels)[self.rows[indices]]

    def subset(self, indices: Indices) -> DecodedImages:
        """The images at `indices`, in that order; nothing is read."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def __reduce__(self) -> tuple[Any, ...]:
        """A memory map pickles as its path; pickling the array would copy the whole data set."""
        if isinstance(self.pixels, np.memmap):
            return _open_decoded, (Path(str(self.pixels.filename)), self.rows, self.labels)
        return DecodedImages, (self.pixels, self.rows, self.labels)


def _open_decoded(path: Path, rows: Indices, labels: Indices) -> DecodedImages:
    return DecodedImages(np.load(path, mmap_mode="r"), rows, labels)


@dataclass(frozen=True, eq=False)
class CompressedImages:
    """Images that are rows of an indexed file of encoded images, decoded by threads when read.

    Row r lies in `path` from byte `offsets[r]` to `offsets[r + 1]`. `white` is the value of images
    of more than 8 bits that becomes 255.
    """

    path: Path
    offsets: Indices
    rows: Indices
    labels: Indices
    resolution: int
    channels: int
    white: int = decode.WHITE

    @property
    def pixels(self) -> None:
        """None: there is no array of all pixels."""
        return

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Indices) -> Pixels:
        """The images at `indices`: uint8 (n, resolution, resolution, channels), a new array."""
        rows = self.rows[indices]
        out = np.empty((len(rows), self.resolution, self.resolution, self.channels), np.uint8)

        def fill(start: int) -> None:
            for at in range(start, min(start + _DECODED_AT_ONCE, len(rows))):
                encoded = self._bytes[self.offsets[rows[at]] : self.offsets[rows[at] + 1]]
                out[at] = decode.decode_fitted(
                    encoded.tobytes(), self.channels, self.resolution, self.white
                )

        list(self._workers.map(fill, range(0, len(rows), _DECODED_AT_ONCE)))
        return out

    def subset(self, indices: Indices) -> CompressedImages:
        """The images at `indices`, in that order; nothing is read."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    @cached_property
    def _bytes(self) -> Pixels:
        return np.memmap(self.path, np.uint8, mode="r")

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(threads(), "decode")

    def __reduce__(self) -> tuple[Any, ...]:
        """The open file and the threads stay in their process."""
        return CompressedImages, tuple(getattr(self, field.name) for field in fields(self))
