"""One encoded image to pixels, whatever a camera or a drawing program has written.

Grey stays grey, palettes are looked up, transparent pixels are laid over white (assumed: as a page
shows them), CMYK is converted by Pillow's formula, 16 bits become 8 by v / 257. EXIF rotation is
applied, colour profiles are not. Of an animation or a stack of pages the first one counts.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.uint8]

#: Formats that are opened. Others that Pillow knows start outside programs (EPS) or are rare.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
#: File names that are taken for images.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2"}
)

#: Pillow's own cap: twice `Image.MAX_IMAGE_PIXELS`, above which it refuses to open an image.
MOST_PIXELS = 178_956_970

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


class Unreadable(ValueError):
    """An image that cannot be used; its message is the reason, to stand after the image's name."""


def decode(encoded: bytes, channels: int, max_pixels: int = MOST_PIXELS) -> Pixels:
    """The pixels of an encoded image, upright: uint8 (height, width, channels).

    `channels` is 3 (RGB) or 1 (grey: ITU-R 601 luma). Raises `Unreadable` where there are no
    bytes, more than `max_pixels` pixels (found out before decoding), or no image that decodes.
    """
    if not encoded:
        raise Unreadable("it has zero bytes")
    try:
        with Image.open(io.BytesIO(encoded), formats=_formats()) as image:
            check_size(image.width, image.height, max_pixels)
            _turn_upright(image)
            return _pixels(image, channels)
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"it has more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise Unreadable("it is not an image of a known format") from None
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error).strip().splitlines()
        raise Unreadable(
            f"it does not decode ({reason[0] if reason else type(error).__name__})"
        ) from None


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises `Unreadable` where an image has no pixels or more than `max_pixels`."""
    if width * height > max_pixels:
        raise Unreadable(
            f"its {width} × {height} = {width * height:,} pixels are more than data.max_pixels "
            f"({max_pixels:,})"
        )
    if width * height == 0:
        raise Unreadable(f"its {width} × {height} pixels are none")


def encode(pixels: Pixels) -> bytes:
    """PNG bytes that `decode` turns into `pixels` again, exactly."""
    file = io.BytesIO()
    _as_image(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def fit(pixels: Pixels, resolution: int) -> Pixels:
    """The image as a square of `resolution` pixels: shorter side scaled to it, centre cropped.

    (height, width, channels) → (resolution, resolution, channels), bicubic, with antialiasing. An
    image that has this size already is returned as it is.
    """
    height, width, channels = pixels.shape
    if height == width == resolution:
        return pixels
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    square = _as_image(pixels).resize(
        (resolution, resolution),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
        reducing_gap=3.0,  # Pillow's documentation: almost no visible difference, and faster
    )
    return np.asarray(square).reshape(resolution, resolution, channels)


def from_array(pixels: Pixels, channels: int, max_pixels: int) -> Pixels:
    """(height, width) or (height, width, 1, 3 or 4) as (height, width, `channels`).

    Raises `Unreadable` as `decode` does.
    """
    check_size(pixels.shape[1], pixels.shape[0], max_pixels)
    return _pixels(_as_image(pixels), channels)


def shorter_side(encoded: bytes, max_pixels: int) -> int:
    """Pixels, from the image's header; 0 where `decode` would refuse it for its header."""
    try:
        with Image.open(io.BytesIO(encoded), formats=_formats()) as image:
            return min(image.size) if image.width * image.height <= max_pixels else 0
    except Exception:  # as in `decode`
        return 0


def digest(pixels: Pixels) -> bytes:
    """16 bytes that are the same for the same pixels and shape."""
    shape = np.array(pixels.shape, np.int64)
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, key=shape.tobytes()).digest()


def _as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _turn_upright(image: Image.Image) -> None:
    image.load()  # so that what fails below is the EXIF data, not the pixels
    with suppress(Exception):  # damaged EXIF data raises anything, and harms no pixel
        ImageOps.exif_transpose(image, in_place=True)


def _pixels(image: Image.Image, channels: int) -> Pixels:
    mode = "RGB" if channels == 3 else "L"
    flat = _flat(image)
    converted = flat if flat.mode == mode else flat.convert(mode)
    return np.asarray(converted).reshape(image.height, image.width, channels)


def _flat(image: Image.Image) -> Image.Image:
    """8 bits a channel and no transparency, in a mode that converts to grey and RGB."""
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers")
    if not image.has_transparency_data:
        return image
    if image.mode in ("RGBa", "La"):  # premultiplied
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _eight_bits(values: NDArray[np.integer]) -> Pixels:
    if values.min() < 0 or values.max() > 65_535:
        found = f"{values.min()} … {values.max()}"
        raise Unreadable(f"its pixels have more than 16 bits ({found})")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
