"""The scale of a data set of 12 bits goes with its family: predict and preprocess.py read alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.families.preprocess import read
from scaling.formats import Portable, Preprocessing, preprocess
from space.architecture import Architecture, Head, Operator, Stage, Stem

NETWORK = Architecture(
    Stem(8, stride=1),
    (Stage(Operator.SEPARABLE, 8),),
    Head(16),
    resolution=16,
    num_classes=2,
    in_channels=1,
)


def portable(white: int) -> Portable:
    given = Preprocessing((0.0,), (1.0,), stored=16, white=white)
    return Portable("scans", NETWORK, ("benign", "malignant"), given)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An image of 16 × 16 values from 0 to 4,095, stored in 16 bits."""
    values = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "scan.png")
    return tmp_path / "scan.png"


@pytest.mark.parametrize("white", [4095, 16_383, 65_535])
def test_predict_and_exported_code_read_an_image_by_the_familys_scale(
    scan: Path, white: int
) -> None:
    found = read(scan, portable(white))
    assert found.max() == pytest.approx(round(4095 * 255 / white) / 255)
    spec: dict[str, Any] = {}
    exec(preprocess.source(portable(white)), spec)
    assert np.abs(spec["preprocess"](scan)[0] - found).max() < 1e-6


def test_metadata_say_the_scale() -> None:
    assert portable(4095).about()["preprocessing"]["white"] == 4095


@pytest.mark.parametrize("white", [0, 254, 65_536])
def test_a_scale_that_cannot_be_is_refused(white: int) -> None:
    with pytest.raises(ValueError, match="`255 <= white <= 65535` must hold"):
        Preprocessing((0.0,), (1.0,), white=white)
