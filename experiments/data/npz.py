"""Reader of an .npz file: arrays of images, uint8 (n, h, w) or (n, h, w, 1, 3 or 4), and of labels,
integers or strings (n,) or (n, 1).

They are called `images` and `labels`, or as MedMNIST (`train_images`, `train_labels`, `val_…`,
`test_…`) and Keras (`x_train`, `y_train`, `x_test`, `y_test`) do; `classes`, strings, may name the
classes. Images are streamed, never all in memory, and nothing is unpickled.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from experiments.data.decode import MOST_PIXELS
from experiments.data.source import (
    ImageSource,
    Item,
    OpenedSource,
    Split,
    numbered,
    printable,
    reason_of,
    stamp_of,
)
from experiments.data.split_names import split_of
from space.validation import InvalidInput

SUFFIX = ".npz"

#: What arrays of images and of labels are called; a word before or after it says the split.
_NAME = re.compile(r"(?:([a-z]+)_)?(?:(images?|x)|labels?|y)(?:_([a-z]+))?", re.IGNORECASE)

#: The most bytes of an array of labels or of class names (assumed: ten million names).
_MOST_BYTES = 1_000_000_000


class _Array(NamedTuple):
    """An array in the archive, known by its header."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


class _Part(NamedTuple):
    """The images of a split and their labels."""

    split: Split
    images: _Array
    labels: _Array


def open_npz(path: Path) -> OpenedSource:
    """The file `path`."""
    return OpenedSource("npz", path, stamp_of([path]), partial(_scan, path))


def _scan(path: Path) -> ImageSource:
    with _reading(path) as archive:
        arrays = {array.name: array for array in _arrays(archive)}
        parts = list(_parts(path, arrays))
        labels = np.concatenate([_labels(path, archive, part) for part in parts])
        if "classes" in arrays:
            classes = _classes(path, archive, arrays["classes"])
            labels = _numbers(path, labels)
        else:
            classes, labels = numbered(path, labels)
    counts = [part.images.shape[0] for part in parts]
    splits = np.repeat([part.split.value for part in parts], counts).astype(np.uint8)
    return ImageSource(classes, labels, splits, partial(_items, path, parts))


@contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    """The opened archive; a damaged one makes zipfile, zlib and numpy raise anything."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(
            f"{path}: this .npz file cannot be read ({reason_of(error)}); save it again with "
            "numpy.savez"
        ) from None


def _arrays(archive: zipfile.ZipFile) -> Iterator[_Array]:
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            with archive.open(info) as stream:
                shape, fortran, dtype = _header(stream)
                size = stream.tell() + math.prod(shape) * dtype.itemsize
            if min(shape, default=0) < 0 or (not dtype.hasobject and size != info.file_size):
                raise ValueError(f"the header of {info.filename} does not fit its size")
            yield _Array(info.filename.removesuffix(".npy"), shape, dtype, fortran)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    read = (
        npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
    )
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def _parts(path: Path, arrays: dict[str, _Array]) -> Iterator[_Part]:
    """Images and labels that belong together. Raises `InvalidInput` where one is missing."""
    images: dict[Split, _Array] = {}
    labels: dict[Split, _Array] = {}
    twice = False
    for array in arrays.values():
        found = _NAME.fullmatch(array.name)
        words = [word for word in (found[1], found[3]) if word] if found else ["", ""]
        split = split_of(words[0]) if words else Split.TRAIN
        if found and len(words) < 2 and split is not None:
            of_kind = images if found[2] else labels
            twice |= split in of_kind
            of_kind[split] = array
    if not images or images.keys() != labels.keys() or twice:
        raise InvalidInput(
            f"{path}: arrays `images` and `labels` are needed (or `train_images`, `train_labels`, "
            "`test_images` …, or `x_train`, `y_train`, `x_test` …), but it has: "
            f"{', '.join(map(printable, arrays)) or 'nothing'}"
        )
    for split in sorted(images):
        _check_images(path, images[split])
        yield _Part(split, images[split], labels[split])


def _check_images(path: Path, array: _Array) -> None:
    """Raises `InvalidInput` where an array is not of images."""
    name, shape = array.name, array.shape
    grey, colour = len(shape) == 3, len(shape) == 4 and shape[3] in (1, 3, 4)
    if array.dtype != np.uint8 or not (grey or colour):
        raise InvalidInput(
            f"{path}: `{name}` must be uint8 of shape (n, h, w) or (n, h, w, 1, 3 or 4), but got "
            f"{array.dtype} {shape}"
        )
    if not 0 < shape[1] * shape[2] <= MOST_PIXELS:
        raise InvalidInput(
            f"{path}: images must have 1 … {MOST_PIXELS:,} pixels, but got {shape[1]} × {shape[2]}"
        )
    if array.fortran:
        raise InvalidInput(
            f"{path}: `{name}` must be stored image by image, but is in Fortran order; save "
            f"numpy.ascontiguousarray({name})"
        )


def _labels(path: Path, archive: zipfile.ZipFile, part: _Part) -> NDArray[Any]:
    count, array = part.images.shape[0], part.labels
    if array.shape not in ((count,), (count, 1)) or array.dtype.kind not in "iuUS":
        raise InvalidInput(
            f"{path}: `{array.name}` must be {count:,} integers or strings, one for each image, "
            f"but got {array.dtype} {array.shape}"
        )
    return _read(archive, array).reshape(count)


def _numbers(path: Path, labels: NDArray[Any]) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or (labels > np.iinfo(np.int64).max).any():
        raise InvalidInput(
            f"{path}: labels must be integers that index `classes`, but got {labels.dtype}"
        )
    return labels.astype(np.int64)


def _classes(path: Path, archive: zipfile.ZipFile, array: _Array) -> tuple[str, ...]:
    if len(array.shape) != 1 or array.dtype.kind not in "US":
        raise InvalidInput(
            f"{path}: `classes` must be a list of strings, but got {array.dtype} {array.shape}; "
            "save numpy.array(names, dtype=str)"
        )
    return tuple(printable(str(name)) for name in _read(archive, array))


def _read(archive: zipfile.ZipFile, array: _Array) -> NDArray[Any]:
    """A small array; bytes become strings."""
    size = math.prod(array.shape) * array.dtype.itemsize
    if size > _MOST_BYTES:
        raise ValueError(f"`{array.name}` has {size:,} bytes")
    with archive.open(f"{array.name}.npy") as stream:
        _header(stream)
        found = np.frombuffer(stream.read(size), array.dtype).reshape(array.shape)
    return np.char.decode(found, "utf-8") if found.dtype.kind == "S" else found


def _items(path: Path, parts: list[_Part]) -> Iterator[Item]:
    with _reading(path) as archive:
        for part in parts:
            count, *shape = part.images.shape
            size, prefix = math.prod(shape), "" if len(parts) == 1 else f"{part.images.name} "
            with archive.open(f"{part.images.name}.npy") as stream:
                if _header(stream)[0] != part.images.shape:
                    raise ValueError("it has changed")
                for index in range(count):
                    data = stream.read(size)
                    if len(data) < size:
                        raise ValueError(f"`{part.images.name}` ends too early")
                    name = f"{path.name} {prefix}image {index}"
                    yield Item(name, partial(_image, data, shape), size)


def _image(data: bytes, shape: list[int]) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8).reshape(shape)
