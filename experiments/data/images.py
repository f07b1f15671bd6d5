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
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from experiments.data import decode
from experiments.data.decode import Pixels
from experiments.data.parallel import threads

Indices = NDArray[np.int64]

#: Images that a worker decodes at a time: enough to outweigh handing them over (assumed).
_DECODED_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """N labelled square images: rows of `pixels`, uint8 (M, resolution, resolution, channels).

    Image i is `pixels[rows[i]]`, so a trainer may put the memory map on a device once, for all
    splits. `rows` and `labels` are (N,).
    """

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
    """N labelled square images: rows of an indexed file of encoded images, decoded when read.

    Row r lies in `path` from byte `offsets[r]` to `offsets[r + 1]`. `rows` and `labels` are (N,).
    `white` is the value of images of more than 8 bits that becomes 255.
    """

    pixels: ClassVar[None] = None
    path: Path
    offsets: Indices
    rows: Indices
    labels: Indices
    resolution: int
    channels: int
    white: int

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Indices) -> Pixels:
        """As `DecodedImages.read`; threads decode."""
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
        """As `DecodedImages.subset`."""
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


Images = DecodedImages | CompressedImages
