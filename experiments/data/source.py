"""What every reader gives: labelled images, still encoded, in a fixed order."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.data.messages import listed, plural, printable
from space.validation import InvalidInput

Labels = NDArray[np.int64]
Splits = NDArray[np.uint8]

#: White of 16 bits.
WHITE = 65_535

#: Characters of a label, as many as a folder's name may have on most disks.
_LONGEST_LABEL = 255


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
    """What is known of a source before it is read.

    `identity` differs where the content does. `side` is the shorter side of its largest image in
    pixels (0: none is usable), `white` the value of images of more than 8 bits that is white.
    """

    identity: str
    side: int
    white: int = WHITE


@dataclass(frozen=True)
class ImageSource:
    """Images as a reader finds them.

    `labels` index `classes`; `splits` holds a `Split` for each image; `items()` gives the images
    in the same order, and may be called again. `stamped`, asked when the items were read, is
    false if some lie in files that the stamp does not cover.
    """

    classes: tuple[str, ...]
    labels: Labels
    splits: Splits
    items: Callable[[], Iterator[Item]]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    known: KnownContent | None = None
    stamped: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class OpenedSource:
    """A source that was found, not yet read.

    `path` is its name in errors. `stamp` changes whenever the files do (paths, sizes, times of
    change), and costs no reading.
    """

    format: str
    path: Path | str
    stamp: str
    scan: Callable[[], ImageSource]

    def read(self) -> ImageSource:
        """What `scan` gives. Raises `InvalidInput` unless there are at least two classes, with
        different names and with training images, and every label is one of them."""
        where, found = self.path, self.scan()
        classes, labels, last = found.classes, found.labels, len(found.classes) - 1
        # Names that look the same are the same (NFKC).
        names = Counter(unicodedata.normalize("NFKC", name).strip() for name in classes)
        for name, times in names.most_common(1):
            if times > 1:
                raise InvalidInput(
                    f"{where}: class names must differ, but {times} classes are called {name!r}; "
                    "rename all but one"
                )
        if len(classes) < 2:
            got = f"only {classes[0]!r}" if classes else "none"
            raise InvalidInput(f"{where}: at least two classes are needed, but got {got}")
        outside = labels[(labels < 0) | (labels >= len(classes))]
        if len(outside):
            raise InvalidInput(
                f"{where}: labels must be 0 … {last} for {len(classes)} classes, but got "
                f"{outside[0]} ({plural(len(outside), 'image')}); correct the labels or the class "
                "names"
            )
        trained = labels[found.splits == Split.TRAIN]
        empty = [classes[each] for each in np.setdiff1d(np.arange(len(classes)), trained)]
        if empty:
            raise InvalidInput(
                f"{where}: every class needs training images, but {len(empty)} of {len(classes)} "
                f"classes have none: {listed(empty)}; add images or remove the class"
            )
        return found


def plain_labels(where: Path, name: str, found: NDArray[Any]) -> NDArray[np.int64 | np.str_]:
    """The labels of a column or an array: integers of any type as int64, all else as strings.

    Raises `InvalidInput` if an integer does not fit or a string is too long.
    """
    if found.dtype.kind == "O":
        names = list(map(str, found))
        # An array of strings takes as much for each as for the longest.
        longest = max(map(len, names), default=0)
        if longest > _LONGEST_LABEL:
            raise InvalidInput(
                f"{where}: labels must have at most {_LONGEST_LABEL} characters, but {name!r} has "
                f"one of {longest:,}"
            )
        return np.array(names, np.str_)
    if found.dtype.kind == "u" and found.size and found.max() >= 2**63:
        raise InvalidInput(f"{where}: labels must be below 2^63, but {name!r} has larger ones")
    return found.astype(np.int64, copy=False) if found.dtype.kind in "iu" else found


def numbered(
    where: Path, found: NDArray[Any], classes: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], Labels]:
    """Class names and labels 0 … n − 1 of plain labels.

    The labels index `classes`; if there are none, the classes are the labels, sorted. Raises
    `InvalidInput` for strings beside class names, and for negative labels without them.
    """
    if classes is not None:
        if found.dtype.kind != "i":
            raise InvalidInput(
                f"{where}: labels must be integers that index the class names, but they are "
                "strings; leave the class names out"
            )
        return classes, found
    if found.dtype.kind == "i" and found.size and found.min() < 0:
        raise InvalidInput(
            f"{where}: labels must not be negative, but got {found.min()} "
            f"({plural(int(np.count_nonzero(found < 0)), 'image')}); correct or remove them"
        )
    names, labels = np.unique(found, return_inverse=True)
    return tuple(printable(str(name)) for name in names), labels.astype(np.int64)
