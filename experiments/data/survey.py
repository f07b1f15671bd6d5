"""A first look at images that nobody has described yet: what is there, and what is wrong."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from experiments.config import DataConfig
from experiments.data import decode
from experiments.data.cache import quiet_pillow
from experiments.data.load import HEAVY_IMBALANCE, recognised
from experiments.data.parallel import Progress, counted, in_order
from experiments.data.source import ImageSource, Item, Skipped, Split, check, listed

#: Images that are looked at, and those among them that are decoded, at most; spread evenly over
#: the source (assumed: a minute for photos from a disk, and one broken image in 300 is met).
_LOOKED_AT = 20_000
_DECODED = 1_000


class Sides(NamedTuple):
    """The shorter sides of the images, in pixels."""

    smallest: int
    median: int
    largest: int


@dataclass(frozen=True)
class Survey:
    """What a look at a source has found.

    `images` counts by split, `per_class` the training images in the order of `classes`. `modes`
    counts Pillow's modes (`array` for pixels without a file) among `looked_at` images; `grey` says
    that no image among the `decoded` has colour. `broken` are those that cannot be used.
    """

    path: str
    format: str
    classes: tuple[str, ...]
    images: dict[str, int]
    per_class: tuple[int, ...]
    sides: Sides
    modes: dict[str, int]
    grey: bool
    looked_at: int
    decoded: int
    broken: tuple[Skipped, ...]
    notes: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """The largest class over the smallest, in training images."""
        return max(self.per_class) / max(1, min(self.per_class))

    @property
    def trained(self) -> int:
        """Training images."""
        return self.images["train"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        broken = [skipped._asdict() for skipped in self.broken]
        return {**vars(self), "sides": self.sides._asdict(), "broken": broken}

    def remarks(self) -> Iterator[str]:
        """What whoever owns the images should know, a sentence each."""
        yield from self.notes
        if self.broken:
            few = [f"{name} ({reason})" for name, reason in self.broken]
            yield (
                f"{len(self.broken):,} of {self.looked_at:,} images cannot be used: "
                f"{listed(few, 3)}; they are passed over, and a run stops where they are more than "
                "data.max_bad."
            )
        if self.imbalance >= HEAVY_IMBALANCE:
            most = self.classes[int(np.argmax(self.per_class))]
            least = self.classes[int(np.argmin(self.per_class))]
            yield (
                f"The classes are heavily imbalanced: {most!r} has {max(self.per_class):,} "
                f"training images, {least!r} {min(self.per_class):,}; so accuracy is the mean "
                "over classes."
            )


class _Look(NamedTuple):
    """What one image is; `colour` is None where it was not decoded."""

    side: int
    mode: str
    colour: bool | None
    broken: Skipped | None


def survey(source: str, progress: Progress) -> Survey:
    """A look at the images of `source`: a folder tree, Parquet files or an .npz file.

    Raises `InvalidInput` for whatever makes the source unusable.
    """
    opened = recognised(DataConfig(source=source))
    found = opened.scan()
    check(opened.path, found.classes, found.labels, found.splits)
    count = len(found.labels)
    chosen = _spread(count, _LOOKED_AT)
    decoded = _spread(count, _DECODED)
    with quiet_pillow():
        results = in_order(partial(_look, decoded=decoded), _chosen(found, chosen))
        looks = list(counted("Looking at images", results, len(chosen), progress))
    good = [look for look in looks if look.broken is None]
    sides = sorted(look.side for look in good) or [0]
    counts = np.bincount(found.splits, minlength=len(Split))
    labels = found.labels[found.splits == Split.TRAIN]
    return Survey(
        path=str(opened.path),
        format=opened.format,
        classes=found.classes,
        images={split.name.lower(): int(counts[split]) for split in Split},
        per_class=tuple(np.bincount(labels, minlength=len(found.classes)).tolist()),
        sides=Sides(sides[0], sides[len(sides) // 2], sides[-1]),
        modes=dict(Counter(look.mode for look in good).most_common()),
        grey=not any(look.colour for look in good),
        looked_at=len(looks),
        decoded=len(decoded),
        broken=(*found.skipped, *(look.broken for look in looks if look.broken)),
        notes=found.notes,
    )


def _spread(count: int, most: int) -> frozenset[int]:
    return frozenset(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())


def _chosen(found: ImageSource, chosen: frozenset[int]) -> Iterator[tuple[int, Item]]:
    return ((index, item) for index, item in enumerate(found.items()) if index in chosen)


def _look(numbered: tuple[int, Item], decoded: frozenset[int]) -> _Look:
    index, item = numbered
    content = item.fetch()
    try:
        if not isinstance(content, bytes):
            pixels = decode.from_array(content, 3, decode.MOST_PIXELS)
            return _Look(min(content.shape[:2]), "array", _has_colour(pixels), None)
        with Image.open(io.BytesIO(content)) as image:
            side, mode = min(image.size), image.mode
        colour = _has_colour(decode.decode(content, 3)) if index in decoded else None
    except decode.Unreadable as error:
        return _Look(0, "", None, Skipped(item.name, str(error)))
    except Exception:  # Pillow raises anything for what is no image
        reason = "it has zero bytes" if not content else "it is not an image of a known format"
        return _Look(0, "", None, Skipped(item.name, reason))
    return _Look(side, mode, colour, None)


def _has_colour(pixels: decode.Pixels) -> bool:
    return bool((pixels[..., :1] != pixels[..., 1:]).any())
