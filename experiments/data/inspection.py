"""What one image is, found out before it is stored: the checks that `init` and a run share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.data import decode
from experiments.data.source import WHITE, Item, Splits, Unreadable


class Inspected(NamedTuple):
    """What an image is: its name, a digest of its content, and its header.

    `colour` says whether it has any (None: not asked), `broken` why it cannot be used.
    """

    name: str
    content: bytes
    side: int = 0
    mode: str = ""
    peak: int = 0
    colour: bool | None = None
    broken: str = ""


def inspect(item: Item, max_pixels: int, *, colour: bool = False) -> Inspected:
    """What an image is; `colour` makes it decode the image, and look for some."""
    content: bytes | decode.Pixels = b""
    coloured = None
    try:
        content = item.fetch()
        header = decode.header(content, max_pixels)
        if colour:
            pixels = decode.decode(content, 3, max_pixels)
            coloured = bool((pixels[..., :1] != pixels[..., 1:]).any())
    except Unreadable as error:
        return Inspected(item.name, decode.digest(content), broken=str(error))
    return Inspected(item.name, decode.digest(content), *header, coloured)


def in_two_splits(contents: list[bytes], splits: Splits) -> int:
    """How many contents are those of images in more than one split."""
    by_content = pd.Series(splits).groupby(np.array(contents, object))
    return int((by_content.nunique() > 1).sum())


def two_splits(count: int) -> list[str]:
    """A note about images that are in two splits, if there are any."""
    are = "image is" if count == 1 else "images are"
    note = f"{count:,} {are} in two splits (same content), so accuracy may be too high."
    return [note] if count else []


def low_range(white: int) -> list[str]:
    """A note about images of more than 8 bits, if they use fewer than 16."""
    bits = (white + 1).bit_length() - 1
    note = f"Images of 16 bits use {bits} of them: {white:,} is white."
    return [note] if white != WHITE else []


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings (damaged EXIF data, many pixels); real problems are reported."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
