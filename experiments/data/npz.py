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
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from experiments.config import DataConfig
from experiments.data.decode import MOST_PIXELS
from experiments.data.messages import printable, readable
from experiments.data.source import ImageSource, Item, OpenedSource, Split, numbered, plain_labels
from experiments.data.split_names import split_of
from experiments.data.tree import stamp_of
from space.validation import InvalidInput

#: What arrays of images and of labels are called; a word before or after it says the split.
_NAME = re.compile(r"(?:([a-z]+)_)?(?:(images?|x)|labels?|y)(?:_([a-z]+))?", re.IGNORECASE)

#: The most bytes of an array of labels or of class names (assumed: ten million names).
_MOST_BYTES = 1_000_000_000


class _Array(NamedTuple):
    """An array in the archive, known by its header."""

    name: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


#: The images and the labels of each split.
_Parts = dict[Split, tuple[_Array, _Array]]


def open_npz(path: Path, config: DataConfig) -> OpenedSource:
    """The file `path`. Raises `InvalidInput` for `data.splits`, as the arrays name their splits."""
    if config.splits is not None:
        raise InvalidInput(
            f"data.splits: the arrays of {path} name their splits (train_images, test_images); "
            "rename them and leave this key out"
        )
    return OpenedSource("npz", path, stamp_of([path]), partial(_scan, path))


def _scan(path: Path) -> ImageSource:
    with _reading(path) as archive:
        arrays = {array.name: array for array in _arrays(archive)}
        parts = _parts(path, arrays)
        found = np.concatenate([_labels(path, archive, *part) for part in parts.values()])
        names = _classes(path, archive, arrays["classes"]) if "classes" in arrays else None
        classes, labels = numbered(path, found, names)
    counts = [images.shape[0] for images, _ in parts.values()]
    splits = np.repeat(np.array(list(parts), np.uint8), counts)
    return ImageSource(classes, labels, splits, partial(_items, path, parts))


@contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    with readable(path, ".npz", "save it again with numpy.savez"), zipfile.ZipFile(path) as archive:
        yield archive


def _arrays(archive: zipfile.ZipFile) -> Iterator[_Array]:
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            with archive.open(info) as stream:
                array = _Array(info.filename.removesuffix(".npy"), *_header(stream))
                size = stream.tell() + math.prod(array.shape) * array.dtype.itemsize
            sized = array.dtype.hasobject or size == info.file_size
            if min(array.shape, default=0) < 0 or not sized:
                raise ValueError(f"the header of {info.filename} does not fit its size")
            yield array


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type."""
    if npy.read_magic(stream) == (1, 0):
        return npy.read_array_header_1_0(stream)
    return npy.read_array_header_2_0(stream)


def _parts(path: Path, arrays: dict[str, _Array]) -> _Parts:
    """Images and labels that belong together. Raises `InvalidInput` where one is missing."""
    images: dict[Split, list[_Array]] = defaultdict(list)
    labels: dict[Split, list[_Array]] = defaultdict(list)
    for array in arrays.values():
        name = _NAME.fullmatch(array.name)
        words = [word for word in (name[1], name[3]) if word] if name else ["", ""]
        split = split_of(words[0]) if words else Split.TRAIN
        if name and len(words) < 2 and split is not None:
            (images if name[2] else labels)[split].append(array)
    alone = all(len(each) == 1 for each in (*images.values(), *labels.values()))
    if not images or images.keys() != labels.keys() or not alone:
        raise InvalidInput(
            f"{path}: arrays `images` and `labels` are needed (or `train_images`, `train_labels`, "
            "`test_images` …, or `x_train`, `y_train`, `x_test` …), but it has: "
            f"{', '.join(map(printable, arrays)) or 'nothing'}"
        )
    for [array] in images.values():
        _check_images(path, array)
    return {split: (images[split][0], labels[split][0]) for split in sorted(images)}


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


def _labels(path: Path, archive: zipfile.ZipFile, images: _Array, array: _Array) -> NDArray[Any]:
    count = images.shape[0]
    if array.shape not in ((count,), (count, 1)) or array.dtype.kind not in "iuUS":
        raise InvalidInput(
            f"{path}: `{array.name}` must be {count:,} integers or strings, one for each image, "
            f"but got {array.dtype} {array.shape}"
        )
    return plain_labels(path, array.name, _read(archive, array).reshape(count))


def _classes(path: Path, archive: zipfile.ZipFile, array: _Array) -> tuple[str, ...]:
    if len(array.shape) != 1 or array.dtype.kind not in "US":
        raise InvalidInput(
            f"{path}: `classes` must be a list of strings, but got {array.dtype} {array.shape}; "
            "save numpy.array(names, dtype=str)"
        )
    return tuple(map(printable, _read(archive, array).tolist()))


def _read(archive: zipfile.ZipFile, array: _Array) -> NDArray[Any]:
    """A small array; bytes become strings."""
    size = math.prod(array.shape) * array.dtype.itemsize
    if size > _MOST_BYTES:
        raise ValueError(f"`{array.name}` has {size:,} bytes")
    with archive.open(f"{array.name}.npy") as stream:
        found: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    return np.char.decode(found, "utf-8") if found.dtype.kind == "S" else found


def _items(path: Path, parts: _Parts) -> Iterator[Item]:
    with _reading(path) as archive:
        for images, _ in parts.values():
            count, *shape = images.shape
            size, prefix = math.prod(shape), "" if len(parts) == 1 else f"{images.name} "
            with archive.open(f"{images.name}.npy") as stream:
                if _header(stream)[0] != images.shape:
                    raise ValueError("it has changed")
                for index in range(count):
                    data = stream.read(size)
                    if len(data) < size:
                        raise ValueError(f"`{images.name}` ends too early")
                    name = f"{path.name} {prefix}image {index}"
                    yield Item(name, partial(np.frombuffer(data, np.uint8).reshape, shape), size)
