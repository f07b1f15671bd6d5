"""Decodes one image, from any camera or drawing program, to pixels.

Grey stays grey, palettes are looked up, transparent pixels are laid over white (assumed: as a page
shows them), CMYK is converted by Pillow's formula. Of more than 8 bits, 0 … `white` become 0 … 255,
one scale for a whole data set: files of 16 bits often use only 8 or 12 of them. EXIF rotation is
applied, colour profiles are not. Of an animation or a stack of pages the first one counts.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from experiments.data.messages import reason_of
from experiments.data.source import WHITE, Unreadable
from space.optional import install

Pixels = NDArray[np.uint8]

#: Formats that are opened. Others that Pillow knows start outside programs (EPS) or are rare.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")
#: File names that are taken for images.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".heic", ".heif"}
)

#: Pillow's own cap: twice `Image.MAX_IMAGE_PIXELS`, above which it refuses to open an image.
MOST_PIXELS = 178_956_970

#: Numbers of bits that cameras and scanners store in 16.
_BITS = (8, 10, 12, 14, 16)

_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
#: Pillow reads the high bytes of 16 bits a channel. The same file read in the other order of bytes
#: gives the low ones; grey and alpha together give both at once where read as four channels.
_LOW_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B"))
}
_GREY_ALPHA = "LA;16B"

#: The first bytes of HEIF files, from the fifth on; Pillow reads AVIF itself.
_HEIF = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"))

#: How many pixels a JPEG is decoded to for each that is needed, along a side, at least.
_DETAIL = 2


class Header(NamedTuple):
    """What an image is before it is converted: its shorter side in pixels, Pillow's mode (`array`
    for pixels without a file), its largest value if it has more than 8 bits a channel, else 0
    (transparency aside), and whether it has any colour (None: not asked)."""

    side: int
    mode: str
    peak: int
    colour: bool | None = None


def header(
    content: bytes | Pixels, max_pixels: int = MOST_PIXELS, *, colour: bool = False
) -> Header:
    """What an image is. It is decoded only to find `colour`, or if it has more than 8 bits.

    Raises `Unreadable` where `decode` would, so far as this was found out.
    """
    if isinstance(content, bytes):
        with _opened(content, max_pixels) as image:
            side, mode = min(image.size), image.mode
            peak = int(_deep_values(content, image)[..., :3].max()) if _is_deep(image) else 0
        found = Header(side, mode, peak)
    else:
        _check_size(content.shape[1], content.shape[0], max_pixels)
        found = Header(min(content.shape[:2]), "array", 0)
    if not colour:
        return found
    pixels = decode(content, 3, max_pixels)
    return found._replace(colour=bool((pixels[..., :1] != pixels[..., 1:]).any()))


def decode(
    content: bytes | Pixels, channels: int, max_pixels: int = MOST_PIXELS, white: int = WHITE
) -> Pixels:
    """The pixels of an image, upright: uint8 (height, width, channels).

    `content` is an encoded image, or pixels (height, width) or (height, width, 1, 3 or 4).
    `channels` is 3 (RGB) or 1 (grey: ITU-R 601 luma). `white` is the value of an image of more than
    8 bits that becomes 255. Raises `Unreadable` where there are no bytes, more than `max_pixels`
    pixels (found out before decoding), or no image that decodes.
    """
    if not isinstance(content, bytes):
        _check_size(content.shape[1], content.shape[0], max_pixels)
        return _pixels(_as_image(content), channels)
    with _opened(content, max_pixels) as image:
        return _decoded(content, image, channels, white)


def decode_fitted(
    content: bytes | Pixels,
    channels: int,
    resolution: int,
    white: int = WHITE,
    *,
    whole: Pixels | None = None,
) -> Pixels:
    """As `fit(decode(content, …), resolution)`, from a large JPEG in less time.

    A JPEG decoder gives a half, quarter or eighth of the pixels directly. It is asked for twice
    what is needed at least, so that resizing decides how the image looks. `whole` is what `decode`
    gave, if that is known.
    """
    if isinstance(content, bytes):
        with _opened(content, MOST_PIXELS) as image:
            size = image.size
            image.draft(None, (_DETAIL * resolution, _DETAIL * resolution))
            if whole is None or image.size != size:
                whole = _decoded(content, image, channels, white)
    return fit(decode(content, channels) if whole is None else whole, resolution)


def _decoded(encoded: bytes, image: ImageFile.ImageFile, channels: int, white: int) -> Pixels:
    if not _is_deep(image):
        _turn_upright(image)
        return _pixels(image, channels)
    values = np.minimum(_deep_values(encoded, image), white)
    eight_bits = ((values * 255 + white // 2) // white).astype(np.uint8)
    return _pixels(_as_image(eight_bits), channels)


def white_of(largest: int) -> int:
    """The white of a set of images of more than 8 bits whose largest value is `largest`."""
    return next((1 << bits) - 1 for bits in _BITS if largest < 1 << bits)


@contextmanager
def _opened(encoded: bytes, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The image, its header read; any error inside becomes `Unreadable`."""
    if not encoded:
        raise Unreadable("it has zero bytes")
    try:
        with Image.open(io.BytesIO(encoded), formats=_formats()) as image:
            _check_size(image.width, image.height, max_pixels)
            yield image
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"it has more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        if encoded[4:].startswith(_HEIF) and "HEIF" not in _formats():
            raise Unreadable(
                f"it is a HEIC image, which needs pillow-heif: {install('heif')}"
            ) from None
        raise Unreadable("it is not an image of a known format") from None
    except Exception as error:  # a damaged file makes decoders raise anything
        raise Unreadable(f"it does not decode ({reason_of(error)})") from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises `Unreadable` where an image has no pixels or more than `max_pixels`."""
    if width * height > max_pixels:
        raise Unreadable(
            f"its {width} × {height} = {width * height:,} pixels are more than data.max_pixels "
            f"({max_pixels:,})"
        )
    if width * height == 0:
        raise Unreadable(f"it has no pixels ({width} × {height})")


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


def digest(content: bytes | Pixels) -> bytes:
    """16 bytes that are the same for the same bytes, or the same pixels in the same shape."""
    if isinstance(content, bytes):
        return hashlib.blake2b(content, digest_size=16).digest()
    shape = np.array(content.shape, np.int64).tobytes()
    return hashlib.blake2b(np.ascontiguousarray(content).data, digest_size=16, key=shape).digest()


def _as_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow has."""
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
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
    """An image of 8 bits without transparency, in a mode that converts to grey and RGB."""
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers")
    if not image.has_transparency_data:
        return image
    if image.mode in ("RGBa", "La"):  # premultiplied
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


# ------------------------------------------------------------------------- more than 8 bits


def _is_deep(image: ImageFile.ImageFile) -> bool:
    if image.mode in _DEEP_GREY or any(";16" in raw for raw in _raw_modes(image)):
        return True
    # Pillow reads planes of 16 bits as if they had 8.
    bits = image.tag_v2.get(258, (8,)) if isinstance(image, TiffImageFile) else (8,)
    return image.mode != "F" and max(bits) > 8


def _raw_modes(image: ImageFile.ImageFile) -> list[str]:
    """How the file stores its pixels, in the words of Pillow's decoders."""
    arguments = [tile.args for tile in image.tile]
    firsts = [args[0] if isinstance(args, tuple) and args else args for args in arguments]
    return [first for first in firsts if isinstance(first, str)]


def _deep_values(encoded: bytes, image: ImageFile.ImageFile) -> NDArray[np.int32]:
    """The values of an image of more than 8 bits, upright: (h, w, 1, 3 or 4)."""
    modes = _raw_modes(image)
    if image.mode in _DEEP_GREY:
        _turn_upright(image)
        values = np.asarray(image)
        if values.min() < 0 or values.max() > WHITE:
            found = f"{values.min()} … {values.max()}"
            raise Unreadable(f"its pixels have more than 16 bits ({found})")
        return values.astype(np.int32)[..., None]
    if modes == [_GREY_ALPHA]:
        read = _reread(encoded, "RGBA")  # high and low bytes of grey, then of alpha
        return (read[..., 0::2] << 8 | read[..., 1::2])[..., [0, 0, 0, 1]]
    if len(modes) != 1 or modes[0] not in _LOW_BYTES:
        raise Unreadable("its layout of 16-bit channels is not supported; save it as PNG")
    high, low = _reread(encoded, modes[0]), _reread(encoded, _LOW_BYTES[modes[0]])
    return high << 8 | low


def _reread(encoded: bytes, raw_mode: str) -> NDArray[np.int32]:
    """The image, its file's pixels taken for `raw_mode`, upright."""
    with Image.open(io.BytesIO(encoded), formats=_formats()) as image:
        [tile] = image.tile
        args = (raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode
        image.tile = [tile._replace(args=args)]
        _turn_upright(image)
        return np.asarray(image).astype(np.int32)
