"""Images of more than 8 bits keep what they hold: one scale for a whole data set."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from experiments.data.decode import decode, header, white_of
from experiments.data.source import Unreadable
from tests.deep_images import png, tiff

Values = NDArray[np.uint16]


def saved(image: Image.Image, format_: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format_)
    return file.getvalue()


RANDOM = np.random.default_rng(0)
TWELVE_BITS = RANDOM.integers(0, 4096, (5, 7, 3)).astype(np.uint16)
TWELVE_BITS[0, 0] = 4095


@pytest.mark.parametrize(
    ("largest", "white"),
    [(0, 255), (255, 255), (256, 1023), (4095, 4095), (4096, 16_383), (65_535, 65_535)],
)
def test_white_is_the_most_of_the_bits_that_are_used(largest: int, white: int) -> None:
    assert white_of(largest) == white


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_grey_of_any_bits_in_sixteen_becomes_the_whole_range(format_: str, bits: int) -> None:
    most = (1 << bits) - 1
    values = np.linspace(0, most, 256).round().astype(np.uint16).reshape(16, 16)
    encoded = saved(Image.fromarray(values), format_)
    assert header(encoded).peak == most
    assert decode(encoded, 1, white=most).ravel().tolist() == list(range(256))


def test_mode_i_of_eight_bits_becomes_the_whole_range() -> None:
    encoded = saved(Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16)), "TIFF")
    assert header(encoded)[1:3] == ("I", 255)
    assert decode(encoded, 3, white=255)[..., 1].ravel().tolist() == list(range(256))


@pytest.mark.parametrize(
    "encode",
    [
        png,
        tiff,
        lambda values: tiff(values, ">"),
        lambda values: tiff(values, deflate=True),
        lambda values: tiff(values, ">", deflate=True),
    ],
)
def test_colour_of_sixteen_bits_keeps_its_low_bytes(encode: Any) -> None:
    encoded = encode(TWELVE_BITS)
    assert header(encoded).peak == 4095
    expected = (TWELVE_BITS.astype(int) * 255 + 2047) // 4095
    assert np.array_equal(decode(encoded, 3, white=4095), expected)


@pytest.mark.parametrize("encode", [png, tiff])
def test_transparency_of_sixteen_bits_is_laid_over_white(encode: Any) -> None:
    values = np.concatenate([TWELVE_BITS, np.full((5, 7, 1), 65_535, np.uint16)], axis=2)
    values[0, 1, 3] = 0
    encoded = encode(values)
    assert header(encoded).peak == 4095
    pixels = decode(encoded, 3, white=4095)
    assert pixels[0, 1].tolist() == [255] * 3
    assert pixels[1, 1].tolist() == ((TWELVE_BITS[1, 1].astype(int) * 255 + 2047) // 4095).tolist()


def test_grey_and_alpha_of_sixteen_bits_are_read() -> None:
    values = np.array([[[4095, 65_535], [1000, 0], [2048, 65_535]]], np.uint16)
    encoded = png(values)
    assert header(encoded).peak == 4095
    assert decode(encoded, 1, white=4095)[0, :, 0].tolist() == [255, 255, 128]


def test_planes_of_sixteen_bits_which_pillow_misreads_are_refused() -> None:
    with pytest.raises(Unreadable, match="its layout of 16-bit channels is not supported"):
        decode(tiff(TWELVE_BITS, planar=2), 3)


def test_brighter_images_than_white_are_white() -> None:
    encoded = saved(Image.fromarray(np.full((4, 4), 65_535, np.uint16)), "PNG")
    assert (decode(encoded, 1, white=4095) == 255).all()


def test_an_image_of_eight_bits_is_not_deep() -> None:
    for mode in ("L", "RGB", "RGBA", "P", "1"):
        assert header(saved(Image.new(mode, (4, 4), 1), "PNG")).peak == 0


# --------------------------------------------------------------------------------- a whole data set


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two classes of scans of 12 bits that differ in brightness, and one image of 8 bits."""
    for name, least in (("benign", 0), ("malignant", 3000)):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for seed in range(8):
            values = np.random.default_rng(seed).integers(least, least + 1000, (8, 8))
            values[0, 0] = least + 1000
            image = Image.fromarray(values.astype(np.uint16))
            image.save(tmp_path / "scans" / name / f"{seed}.png")
    Image.new("L", (8, 8), 50).save(tmp_path / "scans/benign/eight.png")
    return tmp_path / "scans"


@pytest.mark.parametrize("limit", [10**9, 1])
def test_one_scale_for_all_is_found_and_said(scans, loaded, limit: int) -> None:
    data = loaded(scans, cache_limit=limit, channels=1)
    assert data.summary.white == 4095
    assert "Images of 16 bits use 12 of them: 4,095 is white." in data.summary.warnings
    pixels = data.full_train.read(np.arange(len(data.full_train)))
    dark = pixels[data.full_train.labels == 0].max()
    assert dark == (1000 * 255 + 2047) // 4095
    assert pixels.max() == (4000 * 255 + 2047) // 4095


def test_images_of_eight_bits_alone_have_no_scale(tree, loaded) -> None:
    summary = loaded(tree({"a": 5, "b": 5})).summary
    assert (summary.white, summary.warnings) == (65_535, ())
