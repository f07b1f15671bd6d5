"""Image files as a network's inputs, exactly as `scaling.saved_family.Preprocessing` says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.data import decode
from experiments.data.source import Unreadable
from experiments.data.tree import walk
from experiments.progress import log
from scaling.formats import Portable
from space.validation import InvalidInput


def image_files(given: Iterable[Path]) -> Iterator[Path]:
    """Files as they are, and the images below folders, in order; raises `InvalidInput` for others.

    A folder is searched as a data set is: by suffix, without hidden files and folders.
    """
    for path in given:
        if path.is_dir():
            tree = walk(path, decode.SUFFIXES)
            for name, reason in tree.skipped:
                log.remark(f"{path / name}: skipped, {reason}")
            if not tree.files:
                raise InvalidInput(f"{path}: no image was found in this folder")
            yield from (path.joinpath(*file.parts) for file in tree.files)
        elif path.exists():
            yield path
        else:
            raise InvalidInput(f"{path}: no such file or folder")


def read(path: Path, portable: Portable) -> NDArray[np.float32]:
    """The input of an image file: channels × resolution × resolution.

    Raises `InvalidInput`, naming the file, for one that is not an image.
    """
    try:
        channels, white = portable.architecture.in_channels, portable.preprocessing.white
        pixels = decode.decode(path.read_bytes(), channels, white=white)
    except Unreadable as error:
        raise InvalidInput(f"{path}: must be an image, but {error}") from None
    except OSError as error:
        raise InvalidInput(f"{path}: must be readable, but {error.strerror}") from None
    return prepare(pixels, portable)


def prepare(pixels: decode.Pixels, portable: Portable) -> NDArray[np.float32]:
    """The input of decoded `pixels` (height × width × channels, uint8)."""
    given, side = portable.preprocessing, portable.architecture.resolution
    square = decode.fit(pixels, given.stored or side)
    if square.shape[0] != side:
        channels = square.shape[2]
        image = Image.fromarray(square[..., 0] if channels == 1 else square)
        filter_ = Image.Resampling[given.resize.upper()]
        square = np.asarray(image.resize((side, side), filter_)).reshape(side, side, channels)
    mean, std = (np.array(values, np.float32) for values in (given.mean, given.std))
    normal = (square.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(normal.transpose(2, 0, 1))
