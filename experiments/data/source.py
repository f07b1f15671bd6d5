"""What every reader gives: labelled images, still encoded, in a fixed order."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from space.validation import InvalidInput

Labels = NDArray[np.int64]
Splits = NDArray[np.uint8]


class Split(IntEnum):
    """The splits that a source may come in; where it has none, everything is TRAIN."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Item(NamedTuple):
    """One image: `fetch` gives its encoded bytes, or its pixels, uint8 (h, w) or (h, w, c).

    `size` is how many bytes the item keeps in memory until then. `fetch` raises `Unreadable` if
    there is no image.
    """

    name: str
    fetch: Callable[[], bytes | NDArray[np.uint8]]
    size: int = 0


class Unreadable(ValueError):
    """An image that cannot be used; its message is the reason, to stand after the image's name."""


class Skipped(NamedTuple):
    """An image that is not used, by name, and why."""

    name: str
    reason: str


class KnownContent(NamedTuple):
    """What a content is, in a string that differs where the content does.

    `side` is the shorter side of its largest image in pixels (0: none is usable), `white` the value
    of images of more than 8 bits that is white.
    """

    identity: str
    side: int
    white: int = 65_535


@dataclass(frozen=True)
class ImageSource:
    """Images as a reader finds them.

    `labels` index `classes`; `splits` holds a `Split` for each image; `items()` gives the images
    in the same order, and may be called again. `known` stands where nothing need be read for it.
    `stamped` is false where files take part that the stamp does not cover.
    """

    classes: tuple[str, ...]
    labels: Labels
    splits: Splits
    items: Callable[[], Iterator[Item]]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    known: KnownContent | None = None
    stamped: bool = True


@dataclass(frozen=True)
class OpenedSource:
    """A source that was found, not yet read.

    `path` is what to call it in errors. `stamp` changes whenever the files do (paths, sizes, times
    of change), and costs no reading.
    """

    format: str
    path: Path | str
    stamp: str
    scan: Callable[[], ImageSource]


def stamp_of(files: list[Path]) -> str:
    """Paths, sizes and times of change, in a string."""
    status = [(file, file.stat()) for file in files]
    return json.dumps([(str(f), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for f, s in status])


def printable(name: str) -> str:
    """`name` with unprintable characters escaped, for terminals and JSON."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def reason_of(error: Exception) -> str:
    """What a library's error says, in one printable line."""
    return printable(str(error).strip().partition("\n")[0].strip()) or type(error).__name__


def numbered(where: Path, found: NDArray[Any]) -> tuple[tuple[str, ...], Labels]:
    """Class names and labels 0 … n − 1 for labels that come without class names: sorted.

    Raises `InvalidInput` where a label is negative.
    """
    if found.dtype.kind == "i" and found.size and found.min() < 0:
        raise InvalidInput(
            f"{where}: labels must not be negative, but got {found.min()} "
            f"({plural(int(np.count_nonzero(found < 0)), 'image')}); correct or remove them"
        )
    names, labels = np.unique(found, return_inverse=True)
    return tuple(printable(str(name)) for name in names), labels.astype(np.int64)


def check(where: Path | str, classes: tuple[str, ...], labels: Labels, splits: Splits) -> None:
    """Raises `InvalidInput` unless there are at least two classes, with different names and with
    training images, and every label is one of them."""
    name, times = Counter(map(_normal, classes)).most_common(1)[0] if classes else ("", 0)
    if times > 1:
        raise InvalidInput(
            f"{where}: class names must differ, but {times} classes are called {name!r}; "
            "rename all but one"
        )
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise InvalidInput(f"{where}: at least two classes are needed, but got {found}")
    outside = labels[(labels < 0) | (labels >= len(classes))]
    if len(outside):
        raise InvalidInput(
            f"{where}: labels must be 0 … {len(classes) - 1} for {len(classes)} classes, but got "
            f"{outside[0]} ({plural(len(outside), 'image')}); correct the labels or the class names"
        )
    counts = np.bincount(labels[splits == Split.TRAIN], minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise InvalidInput(
            f"{where}: every class needs training images, but {len(empty)} of {len(classes)} "
            f"classes have none: {listed(empty)}; add images or remove the class"
        )


def _normal(name: str) -> str:
    """A name without differences that cannot be seen (case can be)."""
    return unicodedata.normalize("NFKC", name).strip()


def plural(count: int, noun: str) -> str:
    """A count with its noun: 1 image, 2,000 images."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def listed(names: list[str], most: int = 5) -> str:
    """The first names, quoted, and how many more there are."""
    rest = len(names) - most
    return ", ".join(map(repr, names[:most])) + (f" and {rest:,} more" if rest > 0 else "")
