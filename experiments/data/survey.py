"""A first look at a user's images: what is there, and what is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from experiments.config import DataConfig
from experiments.data.decode import Header, header, white_of
from experiments.data.formats import recognised
from experiments.data.images import Indices
from experiments.data.inspection import Examined, examine, in_two_splits, quiet_pillow, two_splits
from experiments.data.load import imbalance, imbalanced, low_range
from experiments.data.messages import named, plural, refuse_bad
from experiments.data.parallel import Progress, counted, in_order
from experiments.data.source import WHITE, ImageSource, Item, Labels, Skipped, Split, Splits
from experiments.data.splits import divide

#: Images that are looked at, and those among them that are decoded, at most; spread evenly over
#: the source (assumed: a minute for photos from a disk, and one broken image in 300 is met).
_LOOKED_AT = 20_000
_DECODED = 1_000

#: File names that are shown of each class.
_NAMES = 5

#: The part of the images that may be broken: above it, the recipe would allow too much.
MOST_BAD = 0.05


@dataclass(frozen=True)
class Sides:
    """The shorter sides of the images, in pixels."""

    smallest: int
    median: int
    largest: int


@dataclass(frozen=True)
class ClassImages:
    """The images of a class in a split: how many there are, and the names of the first."""

    images: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """What a look at a source has found.

    `images` counts by split, `tree` by split and class. `trained` is how many images the search
    would train on, `per_class` those of the training split in the order of `classes`. `modes`
    counts Pillow's modes (`array` for pixels without a file) among `looked_at` images; `grey` says
    that no image among the `decoded` has colour; `white` is the value of images of more than 8 bits
    that is white. `broken` are those that cannot be used, `twice` counts those in two splits.
    """

    config: DataConfig
    path: str
    format: str
    classes: tuple[str, ...]
    images: dict[str, int]
    tree: dict[str, dict[str, ClassImages]]
    trained: int
    per_class: tuple[int, ...]
    sides: Sides
    modes: dict[str, int]
    grey: bool
    white: int
    looked_at: int
    decoded: int
    broken: tuple[Skipped, ...]
    twice: int
    notes: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """The largest class over the smallest, in training images."""
        return imbalance(self.per_class)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        found = asdict(self) | {"broken": [skipped._asdict() for skipped in self.broken]}
        del found["config"]
        return found

    def remarks(self) -> list[str]:
        """Remarks for the user, a sentence each."""
        found = [*self.notes, *low_range(self.white), *two_splits(self.twice)]
        if self.broken:
            found.append(
                f"{len(self.broken):,} of {self.looked_at:,} images cannot be used: "
                f"{named(self.broken, 3)}. They are left out; a run stops where they are more than "
                "data.max_bad."
            )
        consequence = "; so accuracy is the mean over classes"
        return [*found, *imbalanced(self.classes, self.per_class, consequence)]


def survey(config: DataConfig, progress: Progress) -> Survey:
    """A look at the images of `config.source`, with the checks of a run.

    Raises `InvalidInput` if the source or more than `most_bad` of its images cannot be used.
    """
    opened = recognised(config)
    found = opened.read()
    chosen = _spread(np.arange(len(found.labels)), _LOOKED_AT)
    decoded = set(_spread(chosen, _DECODED).tolist())

    def look(numbered: tuple[int, Item]) -> Examined[Header]:
        colour = numbered[0] in decoded
        return examine(numbered[1], partial(header, max_pixels=config.max_pixels, colour=colour))

    names: dict[tuple[int, int], list[str]] = defaultdict(list)
    with quiet_pillow():
        items = _chosen(found, set(chosen.tolist()), names)
        results = in_order(look, items, lambda numbered: numbered[1].size)
        looks = list(counted("Looking at images", results, len(chosen), progress))
    good = [look.found for look in looks if look.found]
    broken = (*found.skipped, *(look.broken for look in looks if look.broken))
    refuse_bad(opened.path, broken, len(found.skipped) + len(looks), most_bad(config))
    used = np.ones(len(found.labels), bool)
    used[chosen] = [look.broken is None for look in looks]
    labels, splits = found.labels[used], found.splits[used]
    parts = divide(opened.path, found.classes, labels, splits, config, seed=0)
    contents = [look.content for look in looks if look.found]
    sides = sorted(each.side for each in good)
    tree = _tree(found.classes, labels, splits, names)
    return Survey(
        config=config,
        path=str(opened.path),
        format=opened.format,
        classes=found.classes,
        images={each.name.lower(): int(np.sum(splits == each)) for each in Split},
        tree=tree,
        trained=len(parts.train),
        per_class=tuple(each.images for each in tree["train"].values()),
        sides=Sides(sides[0], sides[len(sides) // 2], sides[-1]),
        modes=dict(Counter(each.mode for each in good).most_common()),
        grey=not any(each.colour for each in good),
        white=white_of(max(each.peak for each in good) or WHITE),
        looked_at=len(looks),
        decoded=len(decoded),
        broken=broken,
        twice=in_two_splits(contents, found.splits[chosen[used[chosen]]]),
        notes=(*found.notes, *parts.remarks),
    )


def most_bad(config: DataConfig) -> float:
    """The part of the images that may be broken: the user's, else `MOST_BAD`."""
    return config.max_bad if "max_bad" in config.model_fields_set else MOST_BAD


def _spread(indices: Indices, most: int) -> Indices:
    """At most so many of `indices`, evenly."""
    at = np.linspace(0, len(indices) - 1, min(len(indices), most))
    return indices.take(at.astype(int))


def _chosen(
    found: ImageSource, chosen: set[int], names: dict[tuple[int, int], list[str]]
) -> Iterator[tuple[int, Item]]:
    """The chosen images by number; the first names of each split and class go into `names`."""
    rows = zip(found.items(), found.splits.tolist(), found.labels.tolist(), strict=False)
    for index, (item, split, label) in enumerate(rows):
        if len(names[split, label]) < _NAMES:
            names[split, label].append(item.name)
        if index in chosen:
            yield index, item


def _tree(
    classes: tuple[str, ...],
    labels: Labels,
    splits: Splits,
    names: dict[tuple[int, int], list[str]],
) -> dict[str, dict[str, ClassImages]]:
    """Counts and first names by split and class, of the splits that have images."""
    counts = Counter(zip(splits.tolist(), labels.tolist(), strict=True))
    return {
        split.name.lower(): {
            name: ClassImages(counts[split, number], tuple(names[split, number]))
            for number, name in enumerate(classes)
        }
        for split in Split
        if split in splits
    }


def described(tree: dict[str, dict[str, ClassImages]], most: int = 20) -> Iterator[str]:
    """A tree as lines of text: each split, and the first `most` classes in it."""
    for split, classes in tree.items():
        yield f"{split}: {plural(sum(each.images for each in classes.values()), 'image')}"
        for name, each in list(classes.items())[:most]:
            more = ["…"] if each.images > len(each.names) else []
            files = f" ({', '.join([*each.names, *more])})" if each.names else ""
            yield f"  {name}: {each.images:,}{files}"
        if len(classes) > most:
            yield f"  … {len(classes) - most:,} more"
