"""The sections `data` and `data.glyphs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from experiments.config.value_types import (
    Count,
    Fraction,
    Pixels,
    Quantity,
    Scale,
    Section,
    Seed,
    Share,
)
from space.convert import IMAGENET, PixelStatistics


class GlyphsConfig(Section):
    """The built-in synthetic data set: characters drawn with the fonts that matplotlib ships."""

    classes: Annotated[int, Field(ge=2, le=36)] = 10
    """Number of classes: the first characters of A…Z, then 0…9."""
    train_images: Annotated[int, Field(ge=2, le=10**7)] = 6000
    """Number of training images over all classes."""
    test_images: Annotated[int, Field(ge=2, le=10**7)] = 2000
    """Number of test images over all classes."""
    clutter: Annotated[int, Field(ge=0, le=20)] = 3
    """Maximum number of lines drawn over a character."""
    contrast: Scale = 0.5
    """Minimum difference in brightness between stroke and background."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Standard deviation of the pixel noise. The full range of a pixel is 1."""
    seed: Seed = 0
    """Seed of the images. The same seed gives the same data set."""


SplitName = Literal["train", "validation", "test"]


def _patterns(value: Any) -> Any:
    """One pattern as a list of one; a list as the tuple that strict validation asks for."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _with_train(value: dict[SplitName, tuple[str, ...]]) -> dict[SplitName, tuple[str, ...]]:
    if not value.get("train"):
        raise ValueError("`train` must be named, such as {train: training_set, test: test_set}")
    return value


#: Patterns of names by split.
SplitPatterns = Annotated[
    dict[SplitName, Annotated[tuple[str, ...], BeforeValidator(_patterns)]],
    AfterValidator(_with_train),
]


#: A number for each colour channel.
Statistics = Annotated[
    tuple[Annotated[float, Field(ge=-10, le=10)], ...], Field(min_length=1, max_length=3)
]


class DataConfig(Section):
    """Where images come from and how they are split."""

    source: str = "glyphs"
    """`glyphs` (built in), or the path of a folder tree, of a CSV of labels, of Parquet files or of
    an .npz file."""
    format: Literal["auto", "glyphs", "folder", "csv", "parquet", "npz"] = "auto"
    """Format of `source`. `auto` detects it."""
    splits: SplitPatterns | None = None
    """Folders, files, or values of a column `split` that are `train`, `validation` and `test`:
    names or patterns such as `fold[1-4]`, or lists of them; `.` is the source itself. Default:
    recognised by name."""
    follow_links: bool = False
    """Whether to follow symbolic links that lead out of the source's folder."""
    resolution: Pixels | None = None
    """Maximum resolution, in pixels, at which images are stored. Default: the largest resolution
    that the recipe can need."""
    channels: Literal[1, 3] = 3
    """Number of colour channels: 3 (RGB) or 1 (grey)."""
    mean: Statistics | None = None
    """Mean by which pixels from 0 to 1 are normalised, per channel. Default: that of the network
    in `start`, or ImageNet's."""
    std: Statistics | None = None
    """Standard deviation by which they are normalised."""
    held_out: Share = 0.1
    """Part of the training images, as a fraction or a count, on which the search is measured."""
    return_held_out: bool = True
    """Whether the family also trains on the held-out images."""
    test: Share = 0.1
    """Part of the images set aside as a test set if the source has none."""
    max_bad: Fraction = 0.01
    """Maximum fraction of unusable images. The run stops if more images are unusable."""
    max_pixels: Quantity = 50_000_000
    """Maximum number of pixels of an image. Larger images are refused before they are decoded."""
    cache: Path | None = None
    """Folder for the decoded images. Default: `phiscale` in the user's cache folder."""
    cache_limit: Quantity = 8_000_000_000
    """Maximum size of the decoded images in bytes. Above it, compressed images are cached
    instead."""
    limit: Count | None = None
    """Use only this many training images, spread evenly over the classes. Default: all."""
    glyphs: GlyphsConfig = GlyphsConfig()
    """Size and difficulty of the built-in data set."""

    @property
    def normalisation(self) -> PixelStatistics:
        """How pixels are normalised."""
        if self.mean is None or self.std is None:
            return IMAGENET.of(self.channels)
        return PixelStatistics(self.mean, self.std)

    @model_validator(mode="after")
    def _normalised_per_channel(self) -> Self:
        if self.mean is None and self.std is None:
            return self
        counts = [len(values or ()) for values in (self.mean, self.std)]
        if counts != [self.channels] * 2 or min(self.std or ()) <= 0:
            raise ValueError(
                f"mean and std: {self.channels} numbers each, one per channel, and std above 0, "
                f"but got mean={self.mean}, std={self.std}"
            )
        return self
