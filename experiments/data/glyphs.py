"""The built-in data set: characters drawn with the fonts that matplotlib ships. It is synthetic.

An image is a letter or digit, turned, tilted and scaled, over a mottled background, with lines of
a stroke's width across it, a patch that hides a part, and noise. Most characters are mere contours,
about a pixel wide at the native 64 pixels, so resolution matters; lines that look like strokes ask
for context, so depth and width do too.
"""

from __future__ import annotations

import io
import math
import string
from collections.abc import Iterator
from functools import cache, partial
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from experiments.config import GlyphsConfig
from experiments.data.decode import Pixels
from experiments.data.source import ImageSource, Item, KnownContent, OpenedSource, Split
from space.validation import InvalidInput

CHARACTERS = string.ascii_uppercase + string.digits
#: Side of an image, pixels.
NATIVE = 64
#: Changes whenever the same configuration would draw other images.
VERSION = 2

#: matplotlib's fonts that have all characters, each in its usual form, by family and style.
_STYLES = {
    "DejaVuSans": ("", "-Bold", "-BoldOblique", "-Oblique"),
    "DejaVuSansMono": ("", "-Bold", "-BoldOblique", "-Oblique"),
    "DejaVuSerif": ("", "-Bold", "-BoldItalic", "-Italic"),
    "STIXGeneral": ("", "Bol", "BolIta", "Italic"),
    "cm": ("b10", "r10", "ss10", "ti10", "tt10"),
}
FONTS = tuple(f"{family}{style}.ttf" for family in _STYLES for style in _STYLES[family])

#: Everything is drawn this many times larger, then averaged down.
_OVERSAMPLING = 2
_CANVAS = NATIVE * _OVERSAMPLING
#: Side of the square in which a character is drawn once per font, and its height there.
_MASK = 192
_MASK_HEIGHT = 128

# The difficulty, chosen by measurement together with the defaults of `GlyphsConfig`. One narrow
# MnasNet (2.7M MACs at 32 pixels) reached, after 10 epochs of 6,000 images of ten letters, 0.47
# at 32 pixels and 0.67 at 48. With solid characters alone, turned by up to 25°, and noise of 0.1,
# it reached 0.74 at 32 pixels and 0.70 at 64: there resolution did not help.

#: Height of a character, as a part of the image's side.
_HEIGHT = (0.4, 0.75)
#: How far from the middle a character may stand, as a part of the way to the border.
_OFFSET = 0.8
#: Rotation, shear, tilt and logarithm of the stretch: the largest, in either direction.
_ROTATION = math.radians(15)
_SHEAR = 0.15
_TILT = 0.15
_STRETCH = 0.2
#: The part of the characters of which only the contour is drawn, and the size of the filter that
#: leaves it (its half is the contour's width, in pixels of the mask).
_HOLLOW = 0.6
_ERODED = 7
#: Width of a clutter line, native pixels.
_LINE_WIDTH = (0.8, 2.5)
#: Sides of the hiding patch, as a part of the image's side.
_PATCH = (0.05, 0.22)


def open_glyphs(config: GlyphsConfig) -> OpenedSource:
    """The set that `config` describes."""
    versions = [metadata.version(name) for name in ("matplotlib", "pillow", "numpy")]
    identity = f"glyphs {VERSION} {versions} {config.model_dump_json()}"
    return OpenedSource("glyphs", "glyphs", identity, partial(_scan, config, identity))


def _scan(config: GlyphsConfig, identity: str) -> ImageSource:
    counts = {Split.TRAIN: config.train_images, Split.TEST: config.test_images}
    indices = np.concatenate([np.arange(count) for count in counts.values()])
    return ImageSource(
        classes=tuple(CHARACTERS[: config.classes]),
        labels=indices % config.classes,
        splits=np.repeat([split.value for split in counts], list(counts.values())).astype(np.uint8),
        items=partial(_items, config, counts),
        known=KnownContent(identity, NATIVE),
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
    strokes = _character(index % config.classes, random)
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
    """The character on a canvas, solid or hollow, transformed: an oversampled mask."""
    font, hollow = int(random.integers(len(FONTS))), random.random() < _HOLLOW
    mask = _mask(CHARACTERS[label], font, hollow)
    height = random.uniform(*_HEIGHT) * _CANVAS
    reach = _OFFSET * (_CANVAS - height) / 2
    x, y = _CANVAS / 2 + random.uniform(-reach, reach, 2)
    # From a pixel of the canvas to one of the mask: centre, tilt, turn and stretch, move.
    tilt = np.eye(3)
    tilt[2, :2] = random.uniform(-_TILT, _TILT, 2) / _CANVAS
    shape = np.eye(3)
    shape[:2, :2] = _MASK_HEIGHT / height * _stretch_and_turn(random)
    matrix = _shift(_MASK / 2, _MASK / 2) @ shape @ tilt @ _shift(-x, -y)
    coefficients = (matrix / matrix[2, 2]).ravel()[:8].tolist()
    transform, bilinear = Image.Transform.PERSPECTIVE, Image.Resampling.BILINEAR
    return mask.transform((_CANVAS, _CANVAS), transform, coefficients, bilinear)


def _stretch_and_turn(random: np.random.Generator) -> NDArray[np.float64]:
    """A random linear map (2, 2) of determinant 1."""
    angle = random.uniform(-_ROTATION, _ROTATION)
    stretch, shear = math.exp(random.uniform(-_STRETCH, _STRETCH)), random.uniform(-_SHEAR, _SHEAR)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    both: NDArray[np.float64] = np.array([[stretch, shear], [0, 1 / stretch]]) @ turn
    return both


def _shift(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


@cache
def _mask(character: str, font: int, hollow: bool) -> Image.Image:
    """A character, centred and `_MASK_HEIGHT` high, white on black."""
    if hollow:
        solid = _mask(character, font, hollow=False)
        return ImageChops.subtract(solid, solid.filter(ImageFilter.MinFilter(_ERODED)))
    drawn = Image.new("L", (4 * _MASK, 4 * _MASK))
    ImageDraw.Draw(drawn).text((_MASK, _MASK), character, 255, _font(font))
    left, top, right, bottom = drawn.getbbox() or (0, 0, 1, 1)
    reach = (bottom - top) * _MASK / _MASK_HEIGHT / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    box = (x - reach, y - reach, x + reach, y + reach)
    return drawn.resize((_MASK, _MASK), Image.Resampling.BICUBIC, box)


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
