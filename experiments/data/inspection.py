"""What one image is, found out before it is stored: the checks that `init` and a run share."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.data import decode
from experiments.data.source import Item, Skipped, Unreadable
from space.validation import InvalidInput


class Inspected(NamedTuple):
    """What an image is.

    `content` is a hash of its bytes. `side` is the shorter side in pixels and `mode` Pillow's
    (`array`: pixels without a file); where it cannot be used, these are 0 and empty, and `broken`
    says why. `peak` is the largest value of an image of more than 8 bits, else 0; `colour` says
    whether it has any (None: not asked).
    """

    content: bytes
    side: int = 0
    mode: str = ""
    peak: int = 0
    colour: bool | None = None
    broken: Skipped | None = None


def inspect(item: Item, max_pixels: int, *, colour: bool = False) -> Inspected:
    """What an image is; `colour` makes it decode the image, and look for some."""
    try:
        content = item.fetch()
    except Unreadable as error:
        return Inspected(digest(b""), broken=Skipped(item.name, str(error)))
    found = digest(content)
    try:
        if not isinstance(content, bytes):
            height, width = content.shape[:2]
            decode.check_size(width, height, max_pixels)
            pixels = decode.from_array(content, 3, max_pixels) if colour else None
            return Inspected(found, min(height, width), "array", 0, _has_colour(pixels))
        side, mode, deep = decode.header(content, max_pixels)
        peak = decode.peak(content, max_pixels) if deep else 0
        pixels = decode.decode(content, 3, max_pixels) if colour else None
        return Inspected(found, side, mode, peak, _has_colour(pixels))
    except Unreadable as error:
        return Inspected(found, broken=Skipped(item.name, str(error)))


def _has_colour(pixels: decode.Pixels | None) -> bool | None:
    return None if pixels is None else bool((pixels[..., :1] != pixels[..., 1:]).any())


def digest(content: bytes | NDArray[np.uint8]) -> bytes:
    """16 bytes that differ where the contents do."""
    if not isinstance(content, bytes):
        content = repr(content.shape).encode() + content.tobytes()
    return hashlib.blake2b(content, digest_size=16).digest()


def refuse_bad(where: Path | str, skipped: tuple[Skipped, ...], total: int, most: float) -> None:
    """Raises `InvalidInput` where more than `most` of `total` images cannot be used."""
    if len(skipped) > most * total:
        raise InvalidInput(
            f"{where}: {len(skipped):,} of {total:,} images cannot be used, which is more than "
            f"data.max_bad ({most:.2%}): {named(skipped)}; repair or remove them, or raise "
            "data.max_bad"
        )


def named(skipped: tuple[Skipped, ...], most: int = 5) -> str:
    """The first images by name, each with its reason."""
    first = "; ".join(f"{name!r}: {reason}" for name, reason in skipped[:most])
    rest = len(skipped) - most
    return first + (f"; and {rest:,} more" if rest > 0 else "")


def changed(how: str) -> InvalidInput:
    """The error for a source that was written to while it was read."""
    return InvalidInput(
        f"data.source: the images changed while they were read ({how}); start again when nothing "
        "writes there"
    )


def two_splits(count: int) -> str:
    """The sentence about images that are in two splits."""
    are = "image is" if count == 1 else "images are"
    return f"{count:,} {are} in two splits (same content), so accuracy may be too high."


def white_said(white: int) -> str:
    """The sentence about images of more than 8 bits that use fewer than 16."""
    bits = (white + 1).bit_length() - 1
    return f"Images of 16 bits use {bits} of them: {white:,} is white."


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings (damaged EXIF data, many pixels); real problems are reported."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
