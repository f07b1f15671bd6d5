"""What one image is, found out before it is stored: the checks that `init` and a run share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from experiments.data import decode
from experiments.data.source import Item, Skipped, Splits, Unreadable

T = TypeVar("T")


class Examined(NamedTuple, Generic[T]):
    """An image's name, a digest of its content, and what was found, or why it cannot be used."""

    name: str
    content: bytes
    found: T | None = None
    broken: Skipped | None = None


def examine(item: Item, work: Callable[[bytes | decode.Pixels], T]) -> Examined[T]:
    """What `work` finds in the content of an image, unless that is `Unreadable`."""
    content: bytes | decode.Pixels = b""
    try:
        content = item.fetch()
        return Examined(item.name, decode.digest(content), work(content))
    except Unreadable as error:
        broken = Skipped(item.name, str(error))
        return Examined(item.name, decode.digest(content), broken=broken)


def in_two_splits(contents: list[bytes], splits: Splits) -> int:
    """How many contents are those of images in more than one split."""
    by_content = pd.Series(splits).groupby(np.array(contents, object))
    return int((by_content.nunique() > 1).sum())


def two_splits(count: int) -> list[str]:
    """A note about images that are in two splits, if there are any."""
    are = "image is" if count == 1 else "images are"
    note = f"{count:,} {are} in two splits (same content), so accuracy may be too high."
    return [note] if count else []


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings (damaged EXIF data, many pixels); real problems are reported."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
