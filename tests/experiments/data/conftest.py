"""Small data sets, made as users have them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from experiments.config import DataConfig
from experiments.data.load import Data, load

Picture = Callable[[int], NDArray[np.uint8]]
Png = Callable[[int], bytes]
Tree = Callable[[dict[str, int]], Path]


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., Data]:
    """`load` with a cache of the test's own; keywords are those of `DataConfig`."""

    def load_(source: Path | str, resolution: int = 8, seed: int = 0, **config: Any) -> Data:
        settings = {"source": str(source), "cache": tmp_path / "cache", **config}
        return load(DataConfig(**settings), resolution=resolution, seed=seed)

    return load_


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Pictures by number, (8, 8, 3); no two are equal."""
    return lambda number: np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.fixture(scope="session")
def png(picture: Picture) -> Png:
    """The same pictures as PNG files."""

    def encoded(number: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture(number)).save(file, "PNG")
        return file.getvalue()

    return encoded


@pytest.fixture
def tree(tmp_path: Path, png: Png) -> Tree:
    """Writes a folder tree with so many PNG files in each folder, and gives its root."""

    def write(folders: dict[str, int]) -> Path:
        root, number = tmp_path / "tree", 0
        for name, count in folders.items():
            (root / name).mkdir(parents=True)
            for index in range(count):
                (root / name / f"{index}.png").write_bytes(png(number))
                number += 1
        return root

    return write
