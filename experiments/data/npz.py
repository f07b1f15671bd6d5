"""Reader of an .npz file: `images`, uint8 (n, h, w) or (n, h, w, 1, 3 or 4), and `labels`, integers
(n,); `classes`, strings, may name the classes. Images are streamed, never all in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from experiments.data.decode import MOST_PIXELS
from experiments.data.source import ImageSource, Item, OpenedSource, numbered, printable, stamp_of
from space.validation import InvalidInput

SUFFIX = ".npz"


def open_npz(path: Path) -> OpenedSource:
    """The file `path`."""
    return OpenedSource("npz", path, stamp_of([path]), partial(_scan, path))


def _scan(path: Path) -> ImageSource:
    count = _shape(path)[0]
    labels = _array(path, "labels")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != count:
        raise InvalidInput(
            f"{path}: `labels` must be {count:,} integers, one for each image, but got "
            f"{labels.dtype} {labels.shape}"
        )
    labels = labels.astype(np.int64)
    if "classes" in _names(path):
        named = _array(path, "classes")
        if named.ndim != 1 or named.dtype.kind != "U":
            raise InvalidInput(
                f"{path}: `classes` must be a list of strings, but got {named.dtype} {named.shape}"
            )
        classes = tuple(printable(str(name)) for name in named)
    else:
        classes, labels = numbered(path, labels)
    splits = np.zeros(count, np.uint8)
    return ImageSource(classes, labels, splits, partial(_items, path))


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path}: this is not an .npz file ({error})") from None


def _array(path: Path, name: str) -> NDArray[Any]:
    if name not in _names(path):
        raise InvalidInput(
            f"{path}: arrays `images` and `labels` are needed, but there is no `{name}` among: "
            f"{', '.join(map(printable, _names(path))) or 'nothing'}"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            array: NDArray[Any] = arrays[name]
            return array
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path}: `{name}` cannot be read ({error})") from None


def _shape(path: Path) -> tuple[int, ...]:
    """The shape of `images`, from its header. Raises `InvalidInput` where it is not of images."""
    if "images" not in _names(path):
        _array(path, "images")
    with zipfile.ZipFile(path) as archive, archive.open("images.npy") as stream:
        shape, fortran, dtype = _header(path, stream)
    if dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4))):
        raise InvalidInput(
            f"{path}: `images` must be uint8 of shape (n, h, w) or (n, h, w, 1, 3 or 4), but got "
            f"{dtype} {shape}"
        )
    if not 0 < shape[1] * shape[2] <= MOST_PIXELS:
        raise InvalidInput(
            f"{path}: images must have 1 … {MOST_PIXELS:,} pixels, but got {shape[1]} × {shape[2]}"
        )
    if fortran:
        raise InvalidInput(
            f"{path}: `images` must be stored image by image, but is in Fortran order; save "
            "numpy.ascontiguousarray(images)"
        )
    return shape


def _header(path: Path, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path}: `images` cannot be read ({error})") from None
    return shape, fortran, dtype


def _items(path: Path) -> Iterator[Item]:
    count, *shape = _shape(path)
    size = int(np.prod(shape))
    with zipfile.ZipFile(path) as archive, archive.open("images.npy") as stream:
        _header(path, stream)
        for index in range(count):
            data = _exactly(path, stream, size)
            yield Item(f"{path.name} image {index}", partial(_image, data, shape))


def _exactly(path: Path, stream: IO[bytes], size: int) -> bytes:
    try:
        data = stream.read(size)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(f"{path}: `images` cannot be read ({error})") from None
    if len(data) < size:
        raise InvalidInput(f"{path}: `images` ends too early; the file is incomplete")
    return data


def _image(data: bytes, shape: list[int]) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8).reshape(shape)
