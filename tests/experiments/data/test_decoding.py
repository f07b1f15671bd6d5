"""Whatever a camera or a drawing program writes decodes to the pixels that it means."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.data import decode as decoding
from experiments.data.decode import (
    FORMATS,
    decode,
    digest,
    encode,
    fit,
    header,
)
from experiments.data.source import Unreadable

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def saved(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def two_by_one(left: Any, right: Any, mode: str) -> Image.Image:
    image = Image.new(mode, (2, 1))
    image.putpixel((0, 0), left)
    image.putpixel((1, 0), right)
    return image


@pytest.fixture
def photo() -> Image.Image:
    """A smooth image, which JPEG keeps nearly exactly."""
    x, y = np.meshgrid(np.arange(48), np.arange(32))
    return Image.fromarray(np.stack([x * 5, y * 7, 255 - x * 4], axis=2).astype(np.uint8))


@pytest.mark.parametrize("format_", sorted(set(FORMATS) - {"GIF", "HEIF"}))
def test_every_format_decodes_to_the_same_pixels(photo: Image.Image, format_: str) -> None:
    pixels = decode(saved(photo, format_), 3)
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(photo)).mean() < 3


def test_photos_of_phones_decode_with_pillow_heif(photo: Image.Image) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    pixels = decode(saved(photo, "HEIF", quality=95), 3)
    assert np.abs(pixels.astype(int) - np.asarray(photo)).mean() < 5


def test_grey_is_the_same_in_all_channels() -> None:
    encoded = saved(two_by_one(10, 200, "L"))
    assert decode(encoded, 3).tolist() == [[[10] * 3, [200] * 3]]
    assert decode(encoded, 1).tolist() == [[[10], [200]]]


def test_colour_becomes_grey_by_its_luma() -> None:
    grey = decode(saved(two_by_one(RED, GREEN, "RGB")), 1)
    assert grey.tolist() == [[[round(255 * 0.299)], [round(255 * 0.587)]]]


def test_a_palette_is_looked_up() -> None:
    image = two_by_one(0, 1, "P")
    image.putpalette([*RED, *BLUE])
    assert decode(saved(image), 3).tolist() == [[[*RED], [*BLUE]]]


def test_a_transparent_palette_entry_is_white() -> None:
    image = two_by_one(0, 1, "P")
    image.putpalette([*RED, *BLUE])
    encoded = saved(image, transparency=1)
    assert decode(encoded, 3).tolist() == [[[*RED], [255] * 3]]
    assert decode(saved(image, "GIF", transparency=1), 3).tolist() == [[[*RED], [255] * 3]]


def test_transparent_pixels_are_laid_over_white() -> None:
    encoded = saved(two_by_one((*RED, 255), (*BLUE, 0), "RGBA"))
    assert decode(encoded, 3).tolist() == [[[*RED], [255] * 3]]
    half = decode(saved(two_by_one((*RED, 128), (0, 0, 0, 128), "RGBA")), 3)
    assert half[0, 0].tolist() == [255, 127, 127]
    assert half[0, 1].tolist() == [127, 127, 127]
    assert decode(saved(two_by_one((0, 255), (0, 0), "LA")), 1).tolist() == [[[0], [255]]]


def test_cmyk_becomes_rgb() -> None:
    red, black = (0, 255, 255, 0), (0, 0, 0, 255)
    assert decode(saved(two_by_one(red, black, "CMYK"), "TIFF"), 3).tolist() == [[[*RED], [0] * 3]]
    large = two_by_one(red, black, "CMYK").resize((64, 32), Image.Resampling.NEAREST)
    pixels = decode(saved(large, "JPEG", quality=95), 3).astype(int)
    assert np.abs(pixels[:, :28] - RED).max() < 8
    assert pixels[:, 36:].max() < 8


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight_over_the_whole_range(format_: str) -> None:
    values = np.array([[0, 257 * 100, 65_535, 129, 128]], np.uint16)
    encoded = saved(Image.fromarray(values), format_)
    assert decode(encoded, 1)[0, :, 0].tolist() == [0, 100, 255, 1, 0]
    assert decode(encoded, 3)[0, 1].tolist() == [100] * 3


def test_sixteen_bit_colour_keeps_its_high_bytes() -> None:
    assert decode(png_of_sixteen_bit_rgb((0xFF80, 0x1000, 0x0012)), 3).tolist() == [[[255, 16, 0]]]


def png_of_sixteen_bit_rgb(pixel: tuple[int, int, int]) -> bytes:
    """Written by hand: Pillow does not write this kind."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = zlib.compress(b"\0" + struct.pack(">3H", *pixel))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_rotation_is_applied(orientation: int, format_: str) -> None:
    """The camera stored the scene turned; the tag says how (EXIF 2.3, tag 0x0112)."""
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste("black", (0, 0, 16, 8))
    turns = Image.Transpose
    stored = {
        1: upright,
        2: upright.transpose(turns.FLIP_LEFT_RIGHT),
        3: upright.transpose(turns.ROTATE_180),
        4: upright.transpose(turns.FLIP_TOP_BOTTOM),
        5: upright.transpose(turns.TRANSPOSE),
        6: upright.transpose(turns.ROTATE_90),
        7: upright.transpose(turns.TRANSVERSE),
        8: upright.transpose(turns.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = saved(stored, format_, exif=exif)
    assert header(encoded, 10_000).side == 16
    pixels = decode(encoded, 3).astype(int)
    assert pixels.shape == (16, 32, 3)
    assert np.abs(pixels - np.asarray(upright)).max() < 40


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_harms_no_pixel(photo: Image.Image) -> None:
    whole = saved(photo, "JPEG", quality=95)
    damaged = saved(photo, "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(decode(damaged, 3), decode(whole, 3))


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    for format_ in ("GIF", "WEBP", "TIFF", "PNG"):
        lossless = {"lossless": True} if format_ == "WEBP" else {}
        encoded = saved(frames[0], format_, save_all=True, append_images=frames[1:], **lossless)
        assert (decode(encoded, 3) == RED).all()


# --------------------------------------------------------------------------------------- unusable


def test_no_bytes_are_no_image() -> None:
    with pytest.raises(Unreadable, match=r"^it has zero bytes$"):
        decode(b"", 3)


def test_what_is_no_image_is_said_to_be_none() -> None:
    for text in (b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        with pytest.raises(Unreadable, match=r"^it is not an image of a known format$"):
            decode(text, 3)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_truncated_file_does_not_decode(photo: Image.Image, format_: str) -> None:
    encoded = saved(photo, format_)
    with pytest.raises(Unreadable, match=r"^it (does not decode \(.+\)|is not an image)"):
        decode(encoded[: len(encoded) * 2 // 3], 3)


def png_that_promises(width: int, height: int) -> bytes:
    """A header, with one pixel behind it."""
    whole = saved(Image.new("L", (1, 1)))
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = png_that_promises(12_000, 12_000)
    with pytest.raises(Unreadable, match=r"12000 × 12000 = 144,000,000 pixels are more than"):
        decode(bomb, 3, 140_000_000)
    with pytest.raises(Unreadable, match="pixels are more than"):
        header(bomb, 1_000_000)


def test_more_pixels_than_pillow_opens_are_refused() -> None:
    with pytest.raises(Unreadable, match=r"^it has more than 178,956,970 pixels$"):
        decode(png_that_promises(30_000, 300_000), 3)


def test_the_cap_is_the_last_size_that_is_allowed() -> None:
    encoded = saved(Image.new("L", (10, 7)))
    assert decode(encoded, 1, 70).shape == (7, 10, 1)
    with pytest.raises(
        Unreadable, match=r"10 × 7 = 70 pixels are more than data.max_pixels \(69\)"
    ):
        decode(encoded, 1, 69)


def test_float_and_32_bit_pixels_are_refused_by_name() -> None:
    with pytest.raises(Unreadable, match="floating-point"):
        decode(saved(Image.new("F", (2, 2)), "TIFF"), 1)
    deep = Image.fromarray(np.full((2, 2), 70_000, np.int32))
    with pytest.raises(Unreadable, match=r"more than 16 bits \(70000 … 70000\)"):
        decode(saved(deep, "TIFF"), 1)


@given(st.binary(max_size=300), st.sampled_from(["PNG", "JPEG", "GIF", "BMP"]), st.integers(0, 200))
def test_damage_of_any_kind_gives_pixels_or_a_reason(
    noise: bytes, format_: str, start: int
) -> None:
    encoded = saved(Image.new("RGB", (9, 9), RED), format_)
    damaged = encoded[:start] + noise + encoded[start + len(noise) :]
    try:
        decode(damaged, 3, 10_000)
        outcome = "it decodes"
    except Unreadable as reason:
        outcome = str(reason)
    assert outcome.startswith("it")
    assert "\n" not in outcome


# ------------------------------------------------------------------------------------- to a square


def test_an_image_of_the_right_size_is_kept_byte_for_byte() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert fit(pixels, 16) is pixels


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40)])
def test_the_centre_is_kept_and_the_ends_are_cut(height: int, width: int) -> None:
    pixels = np.zeros((height, width, 1), np.uint8)
    long = np.arange(100)
    inside = ((long >= 30) & (long < 70)).astype(np.uint8) * 255
    pixels[...] = inside[None, :, None] if width == 100 else inside[:, None, None]
    assert fit(pixels, 20).min() > 230


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3]), st.integers(1, 40))
def test_every_size_becomes_a_square_of_the_same_colour(
    height: int, width: int, channels: int, resolution: int
) -> None:
    pixels = np.full((height, width, channels), 77, np.uint8)
    square = fit(pixels, resolution)
    assert square.shape == (resolution, resolution, channels)
    assert (square == 77).all()


def test_shrinking_averages() -> None:
    """A fine checkerboard becomes grey, not a moiré."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None]
    assert np.abs(fit(board, 16).astype(int) - 127).max() < 12


# ------------------------------------------------------------------------------- arrays and hashes


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.randoms())
def test_encoding_is_lossless(height: int, width: int, channels: int, random: Any) -> None:
    size = height * width * channels
    pixels = np.frombuffer(random.randbytes(size), np.uint8).reshape(height, width, channels)
    assert np.array_equal(decode(encode(pixels), channels), pixels)


def test_arrays_become_the_channels_asked_for() -> None:
    grey = np.array([[1, 2]], np.uint8)
    assert decode(grey, 3, 100).tolist() == [[[1] * 3, [2] * 3]]
    assert decode(grey[..., None], 1, 100).tolist() == [[[1], [2]]]
    transparent = np.array([[[9, 9, 9, 0]]], np.uint8)
    assert decode(transparent, 3, 100).tolist() == [[[255] * 3]]
    with pytest.raises(Unreadable, match=r"2 × 1 = 2 pixels"):
        decode(grey, 3, 1)


def test_a_digest_tells_pixels_and_shapes_apart() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert digest(pixels) == digest(pixels.copy())
    assert digest(pixels) != digest(pixels.reshape(1, 4, 3))
    assert digest(pixels) != digest(pixels[::-1])


def test_a_large_jpeg_is_decoded_to_less_and_looks_the_same(monkeypatch) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    image = Image.fromarray(rough).resize((400, 300), Image.Resampling.BICUBIC)
    encoded = saved(image, "JPEG", quality=95)
    whole = decode(encoded, 3)
    sizes: list[int] = []
    fit = decoding.fit
    monkeypatch.setattr(decoding, "fit", lambda x, side: sizes.append(len(x)) or fit(x, side))
    for resolution in (32, 150, 300):
        found = decoding.decode_fitted(encoded, 3, resolution)
        difference = np.abs(found.astype(int) - fit(whole, resolution).astype(int))
        assert difference.mean() < 2
        assert np.array_equal(found, decoding.decode_fitted(encoded, 3, resolution, whole=whole))
    assert sizes == [75, 75, 300, 300, 300, 300]


def test_other_formats_are_fitted_from_all_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 160, 3), np.uint8)
    encoded = saved(Image.fromarray(pixels))
    assert np.array_equal(decoding.decode_fitted(encoded, 3, 16), decoding.fit(pixels, 16))
