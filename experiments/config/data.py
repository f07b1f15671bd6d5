"""The sections `data` and `data.glyphs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from experiments.config.value_types import Fraction, Quantity, Section, Share


class GlyphsConfig(Section):
    """The built-in synthetic set: characters drawn with the fonts that matplotlib ships."""

    classes: Annotated[int, Field(ge=2, le=36)] = 10
    """Characters to tell apart: the first of A…Z, then 0…9."""
    train_images: Annotated[int, Field(ge=2)] = 6000
    """Training images, over all classes."""
    test_images: Annotated[int, Field(ge=2)] = 2000
    """Test images, over all classes."""
    clutter: Annotated[int, Field(ge=0, le=20)] = 3
    """Lines drawn over a character, at most."""
    contrast: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Difference in brightness between stroke and background, at least."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Standard deviation of the pixel noise, of a full range of 1."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the images; the same seed gives the same set."""


class DataConfig(Section):
    """Where images come from and how they are divided."""

    source: str = "glyphs"
    """`glyphs` (built in), or the path of a folder tree, Parquet files, or an .npz file."""
    format: Literal["auto", "glyphs", "folder", "parquet", "npz"] = "auto"
    """How to read `source`; `auto` recognises it."""
    resolution: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Pixels at which images are stored at most; none: the largest that the recipe can need."""
    channels: Literal[1, 3] = 3
    """Colour channels: 3 (RGB) or 1 (grey)."""
    held_out: Share = 0.1
    """The part of the training images, as a fraction or a count, that measures the search."""
    return_held_out: bool = True
    """Whether the family trains on the held-out part too."""
    test: Share = 0.1
    """The part of the images set aside as a test set, where the source has none."""
    max_bad: Fraction = 0.01
    """The fraction of unreadable files above which the run stops."""
    max_pixels: Quantity = 50_000_000
    """Pixels above which an image is refused before it is decoded."""
    cache: Path | None = None
    """Folder of the decoded images; none: `phiscale` in the user's cache folder."""
    cache_limit: Quantity = 8_000_000_000
    """Bytes above which compressed images are kept instead of decoded ones."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only this many training images, evenly from all classes; none: all."""
    glyphs: GlyphsConfig = GlyphsConfig()
    """The built-in set's size and difficulty."""
