"""The built-in data set: characters drawn with the fonts that matplotlib ships. It is synthetic.

An image is a letter or digit, turned, tilted and scaled, over a mottled background, with lines of
a stroke's width across it, a patch that hides a part, and noise. What tells two classes apart (the
bar of a G, the tail of a Q) is a stroke one to three pixels wide at the native 64 pixels, so
resolution matters; lines that look like strokes ask for context, so depth and width do too.
"""

from __future__ import annotations

import io
import math
import string
from collections.abc import Iterator
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from experiments.data.source import Item, Known, Opened, Source, Split
from space.validation import InvalidInput

if TYPE_CHECKING:
    from experiments.config import GlyphsConfig

Pixels = NDArray[np.uint8]

CHARACTERS = string.ascii_uppercase + string.digits
#: Side of an image, pixels.
NATIVE = 64
#: Changes whenever the same configuration would draw other images.
VERSION = 1

#: matplotlib's fonts that have all characters, each in its usual form.
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSansMono-BoldOblique.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralBolIta.ttf",
    "STIXGeneralItalic.ttf",
    "cmb10.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmti10.ttf",
    "cmtt10.ttf",
)

#: Everything is drawn this many times larger, then averaged down.
_OVERSAMPLING = 2
_CANVAS = NATIVE * _OVERSAMPLING
#: Side of the square in which a character is drawn once per font, and its height there.
_MASK = 192
_MASK_HEIGHT = 128

#: Height of a character, as a part of the image's side.
_HEIGHT = (0.36, 0.75)
#: Rotation, shear and tilt: largest, in either direction. (Chosen with the others by measurement.)
_ROTATION = math.radians(25)
_SHEAR = 0.25
_TILT = 0.25
_STRETCH = 0.2
#: Width of a clutter line, native pixels.
_LINE_WIDTH = (0.8, 2.5)
#: Side of the hiding patch, as a part of the image's side.
_PATCH = (0.05, 0.22)


def open_glyphs(config: GlyphsConfig) -> Opened:
    """The set that `config` describes."""
    versions = [metadata.version(name) for name in ("matplotlib", "pillow", "numpy")]
    identity = f"glyphs {VERSION} {versions} {config.model_dump_json()}"
    return Opened("glyphs", "glyphs", identity, partial(_scan, config, identity))


def _scan(config: GlyphsConfig, identity: str) -> Source:
    counts = {Split.TRAIN: config.train_images, Split.TEST: config.test_images}
    indices = np.concatenate([np.arange(count) for count in counts.values()])
    return Source(
        classes=tuple(CHARACTERS[: config.classes]),
        labels=indices % config.classes,
        splits=np.repeat([split.value for split in counts], list(counts.values())).astype(np.uint8),
        items=partial(_items, config, counts),
        known=Known(identity, NATIVE),
    )


def _items(config: GlyphsConfig, counts: dict[Split, int]) -> Iterator[Item]:
    for split, count in counts.items():
        for index in range(count):
            yield Item(f"{split.name.lower()} image {index}", partial(draw, config, split, index))


def draw(config: GlyphsConfig, split: Split, index: int) -> Pixels:
    """Image `index` of a split: uint8 (64, 64, 3).

    It depends on the seed, the split and the index (its class is `index` modulo the classes), not
    on how many images there are.
    """
    random = np.random.default_rng((config.seed, split, index))
    background, ink = _brightness(config.contrast, random)
    strokes = Image.new("L", (_CANVAS, _CANVAS))
    strokes.paste(_character(index % config.classes, random))
    image = _mottled(background, random)
    image.paste(_colour(ink, random), mask=strokes.reduce(_OVERSAMPLING))
    _hide(image, background, random)
    _clutter(image, ink, config.clutter, random)
    pixels = np.asarray(image, np.float32)
    noise = random.standard_normal(pixels.shape, np.float32)
    return np.clip(pixels + noise * (255 * config.noise) + 0.5, 0, 255).astype(np.uint8)


def _brightness(contrast: float, random: np.random.Generator) -> tuple[float, float]:
    """Of background and ink, in [0, 1], at least `contrast` apart."""
    apart = random.uniform(contrast, 1)
    low = random.uniform(0, 1 - apart)
    pair = low, low + apart
    return pair if random.random() < 0.5 else pair[::-1]


def _colour(brightness: float, random: np.random.Generator) -> tuple[int, int, int]:
    """A random colour of about this brightness."""
    tint = random.uniform(-0.25, 0.25, 3)
    tint -= tint @ (0.299, 0.587, 0.114)
    red, green, blue = np.clip(255 * (brightness + tint), 0, 255).astype(int).tolist()
    return red, green, blue


def _mottled(brightness: float, random: np.random.Generator) -> Image.Image:
    """A background that varies slowly around a colour."""
    colour = np.array(_colour(brightness, random))
    spots = np.clip(colour + random.normal(0, 18, (5, 5, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(spots).resize((NATIVE, NATIVE), Image.Resampling.BICUBIC)


def _character(label: int, random: np.random.Generator) -> Image.Image:
    """The character on a canvas, transformed: an oversampled mask."""
    mask = _mask(CHARACTERS[label], int(random.integers(len(FONTS))))
    height = random.uniform(*_HEIGHT) * _CANVAS
    angle = random.uniform(-_ROTATION, _ROTATION)
    shear = random.uniform(-_SHEAR, _SHEAR)
    stretch = math.exp(random.uniform(-_STRETCH, _STRETCH))
    free = (_CANVAS - height) / 2
    x, y = _CANVAS / 2 + random.uniform(-free, free, 2) * 0.8
    tilt = random.uniform(-_TILT, _TILT, 2) / _CANVAS
    # Output pixel → pixel of the mask: move to the centre, turn, shear, scale, move back.
    scale = _MASK_HEIGHT / height
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    turn = np.array([[cos, sin], [-sin, cos]])
    matrix = np.array([[stretch, shear], [0, 1 / stretch]]) @ turn
    # x' = (a·u + b·v) / (1 + g·u + h·v) + _MASK / 2, with (u, v) = (x, y) - centre
    g, h = tilt
    (a, b), (c, d) = matrix
    half = _MASK / 2
    a, b, c, d = a + half * g, b + half * h, c + half * g, d + half * h
    one = 1 - g * x - h * y
    coefficients = (a, b, half - a * x - b * y, c, d, half - c * x - d * y, g, h)
    return mask.transform(
        (_CANVAS, _CANVAS),
        Image.Transform.PERSPECTIVE,
        tuple(float(value / one) for value in coefficients),
        Image.Resampling.BILINEAR,
    )


@cache
def _mask(character: str, font: int) -> Image.Image:
    """A character, centred and `_MASK_HEIGHT` high, white on black."""
    drawn = Image.new("L", (4 * _MASK, 4 * _MASK))
    ImageDraw.Draw(drawn).text((_MASK, _MASK), character, 255, _font(font))
    box = drawn.getbbox()
    assert box is not None
    left, top, right, bottom = box
    height = bottom - top
    side = height * _MASK / _MASK_HEIGHT
    x, y = (left + right) / 2, (top + bottom) / 2
    square = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return drawn.resize((_MASK, _MASK), Image.Resampling.BICUBIC, box=square)


@cache
def _font(index: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", FONTS[index])
    try:
        # Not by its path: where that fails, Pillow takes a font of this name from the system.
        return ImageFont.truetype(io.BytesIO(path.read_bytes()), _MASK)
    except OSError:
        raise InvalidInput(
            f"data.source: glyphs are drawn with matplotlib's fonts, but {path} is missing; "
            "install matplotlib again"
        ) from None


def _clutter(image: Image.Image, ink: float, most: int, random: np.random.Generator) -> None:
    """Lines across the image that look like strokes."""
    lines = Image.new("L", (_CANVAS, _CANVAS))
    pen = ImageDraw.Draw(lines)
    for _ in range(int(random.integers(1, most + 1)) if most else 0):
        ends = random.uniform(0, _CANVAS, (2, 2))
        width = round(random.uniform(*_LINE_WIDTH) * _OVERSAMPLING)
        pen.line([tuple(end) for end in ends.tolist()], 255, width)
    image.paste(_colour(ink, random), mask=lines.reduce(_OVERSAMPLING))


def _hide(image: Image.Image, background: float, random: np.random.Generator) -> None:
    """A patch of about the background's colour somewhere near the middle."""
    width, height = random.uniform(*_PATCH, 2) * NATIVE
    x, y = random.uniform(0.2, 0.8, 2) * NATIVE
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    ImageDraw.Draw(image).rectangle(box, _colour(background, random))
