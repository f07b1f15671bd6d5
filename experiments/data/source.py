"""What every reader gives: a source of labelled images, still encoded, in a fixed order."""

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
    """The parts in which a source may come; where it does not, everything is TRAIN."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


#: How folders and files call the splits.
SPLIT_NAMES = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
    "testing": Split.TEST,
}


class Item(NamedTuple):
    """One image: `fetch` gives its encoded bytes, or its pixels, uint8 (h, w) or (h, w, c)."""

    name: str
    fetch: Callable[[], bytes | NDArray[np.uint8]]


class Skipped(NamedTuple):
    """An image that is not used, by name, and why."""

    name: str
    reason: str


class KnownContent(NamedTuple):
    """What a content is, in a string that differs where the content does, and the shorter side of
    its largest image in pixels (0: none is usable)."""

    identity: str
    side: int


@dataclass(frozen=True)
class ImageSource:
    """Images as a reader finds them.

    `labels` index `classes`; `splits` holds a `Split` for each image; `items()` gives the images
    in the same order, and may be called again. `known` stands where nothing need be read for it.
    """

    classes: tuple[str, ...]
    labels: Labels
    splits: Splits
    items: Callable[[], Iterator[Item]]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    known: KnownContent | None = None


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
    """`name` with whatever a terminal or a JSON file could stumble over written as an escape."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def split_of(name: str) -> Split | None:
    """The split that a folder or file name says ("train-00000-of-00001"), if it says one."""
    letters = len(name) - len(name.lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    return SPLIT_NAMES.get(name[:letters].lower())


def numbered(where: Path, found: NDArray[Any]) -> tuple[tuple[str, ...], Labels]:
    """Class names and labels 0 … n − 1 for labels that come without class names: sorted.

    Raises `InvalidInput` where a label is negative.
    """
    if found.dtype.kind == "i" and found.size and found.min() < 0:
        raise InvalidInput(
            f"{where}: labels must not be negative, but got {found.min()} "
            f"({np.count_nonzero(found < 0):,} such images); correct or remove them"
        )
    names, labels = np.unique(found, return_inverse=True)
    return tuple(printable(str(name)) for name in names), labels.astype(np.int64)


def check(where: Path | str, classes: tuple[str, ...], labels: Labels, splits: Splits) -> None:
    """Raises `InvalidInput` unless there are two classes or more, each named differently and each
    with a training image, and every label is one of them."""
    name, times = Counter(map(_normal, classes)).most_common(1)[0] if classes else ("", 0)
    if times > 1:
        raise InvalidInput(
            f"{where}: class names must differ, but {times} classes are called {name!r}; "
            "rename all but one"
        )
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise InvalidInput(
            f"{where}: two classes or more are needed to tell apart, but got {found}"
        )
    outside = labels[(labels < 0) | (labels >= len(classes))]
    if len(outside):
        raise InvalidInput(
            f"{where}: labels must be 0 … {len(classes) - 1} for {len(classes)} classes, but got "
            f"{outside[0]} ({len(outside):,} such images); correct the labels or the class names"
        )
    counts = np.bincount(labels[splits == Split.TRAIN], minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise InvalidInput(
            f"{where}: every class needs training images, but {len(empty)} of {len(classes)} "
            f"have none: {listed(empty)}; add images or remove the class"
        )


def _normal(name: str) -> str:
    """A name without the differences that nobody sees. (Letters' case is one that people see.)"""
    return unicodedata.normalize("NFKC", name).strip()


def listed(names: list[str], most: int = 5) -> str:
    """The first names, quoted, and how many more there are."""
    rest = len(names) - most
    return ", ".join(map(repr, names[:most])) + (f" and {rest:,} more" if rest > 0 else "")
