"""Loads the images that a recipe names, divided: the entry point of this package."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from experiments.config import DataConfig
from experiments.data.cache import Stored, store
from experiments.data.formats import recognised
from experiments.data.images import Images
from experiments.data.messages import named, plural, refuse_bad
from experiments.data.parallel import Progress
from experiments.data.source import WHITE, OpenedSource, Skipped
from experiments.data.splits import divide
from experiments.progress import log
from experiments.progress.log import console

#: Ratio of the largest class to the smallest above which imbalance is pointed out (assumed).
HEAVY_IMBALANCE = 10.0


@dataclass(frozen=True)
class DataSummary:
    """What was loaded, for reports: JSON data throughout (`to_dict`).

    `images` and `per_class` are by part: `train`, `held_out`, `test`; `per_class` is in the order
    of `classes`. `imbalance` is the largest class over the smallest, in training images. `white` is
    the value of images of more than 8 bits that became 255. `bytes` is what the cache holds.
    """

    source: str
    format: str
    fingerprint: str
    classes: tuple[str, ...]
    resolution: int
    channels: int
    white: int
    compressed: bool
    bytes: int
    images: dict[str, int]
    per_class: dict[str, tuple[int, ...]]
    imbalance: float
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**vars(self), "skipped": [skipped._asdict() for skipped in self.skipped]}


@dataclass(frozen=True)
class Data:
    """A data set, divided.

    The search trains on `train` and measures on `held_out`. The family trains on `full_train`
    (both together) and is measured on `test`, once. A source's test split is `test`, its
    validation split `held_out`. A validation split without a test split is `test`, as ImageNet's
    is by custom. What the source lacks is cut from its training images, `test` first.
    `fingerprint` is a hash of the content, the same for every format; `test_names` are what the
    source calls the test images.
    """

    classes: tuple[str, ...]
    train: Images
    held_out: Images
    full_train: Images
    test: Images
    fingerprint: str
    summary: DataSummary
    test_names: tuple[str, ...] = ()


def load(
    config: DataConfig, *, resolution: int, seed: int, progress: Progress | None = None
) -> Data:
    """The images of `config.source`, decoded or from the cache, and divided by `seed`.

    `resolution` is the side in pixels at which they are stored (`config.resolution` overrides it;
    never more than the largest image has). `progress` None shows a bar on a terminal. Raises
    `InvalidInput` if the source cannot be used.
    """
    opened = recognised(config)
    pixels, cache = config.resolution or resolution, config.cache or default_cache()
    with bar() as shown:
        stored = store(opened, config, pixels, cache, progress or shown)
    total = len(stored.skipped) + len(stored.images)
    refuse_bad(opened.path, stored.skipped, total, config.max_bad)
    images, classes = stored.images, stored.classes
    parts = divide(opened.path, classes, images.labels, stored.splits, config, seed)
    divided = {name: images.subset(getattr(parts, name)) for name in ("train", "held_out", "test")}
    return Data(
        classes=classes,
        **divided,
        full_train=images.subset(np.union1d(parts.train, parts.held_out)),
        fingerprint=stored.fingerprint,
        summary=_summary(config, opened, stored, divided, parts.remarks),
        test_names=stored.names(parts.test),
    )


def default_cache() -> Path:
    """`phiscale` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phiscale"


def _summary(
    config: DataConfig,
    opened: OpenedSource,
    stored: Stored,
    parts: dict[str, Images],
    remarks: tuple[str, ...],
) -> DataSummary:
    classes, images, skipped = stored.classes, stored.images, stored.skipped
    per_class = {
        name: tuple(np.bincount(part.labels, minlength=len(classes)).tolist())
        for name, part in parts.items()
    }
    trained = np.add(per_class["train"], per_class["held_out"]).tolist()
    warnings = [*stored.notes, *remarks, *low_range(stored.white)]
    if skipped:
        warnings.append(f"{plural(len(skipped), 'image')} left out: {named(skipped)}.")
    return DataSummary(
        source=config.source,
        format=opened.format,
        fingerprint=stored.fingerprint,
        classes=classes,
        resolution=images.resolution,
        channels=images.channels,
        white=stored.white,
        compressed=images.pixels is None,
        bytes=stored.size,
        images={name: len(part) for name, part in parts.items()},
        per_class=per_class,
        imbalance=imbalance(trained),
        skipped=skipped,
        warnings=(*warnings, *imbalanced(classes, trained)),
    )


def low_range(white: int) -> list[str]:
    """A note about images of more than 8 bits, if they use fewer than 16."""
    bits = (white + 1).bit_length() - 1
    note = f"Images of 16 bits use {bits} of them: {white:,} is white."
    return [note] if white != WHITE else []


def imbalance(counts: Sequence[int]) -> float:
    """The largest class over the smallest, from the training images of each class."""
    return max(counts) / min(counts)


def imbalanced(classes: tuple[str, ...], counts: Sequence[int], consequence: str = "") -> list[str]:
    """A note about classes of very different sizes, if they are."""
    if imbalance(counts) < HEAVY_IMBALANCE:
        return []
    most, least = classes[int(np.argmax(counts))], classes[int(np.argmin(counts))]
    return [
        f"The classes are heavily imbalanced: {most!r} has {max(counts):,} training images, "
        f"{least!r} {min(counts):,}{consequence}."
    ]


@contextmanager
def bar() -> Iterator[Progress]:
    """Progress as a bar on a terminal; elsewhere, a line when a phase starts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    drawn = Bar(*columns, TimeRemainingColumn(), console=console, transient=True)
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = drawn.add_task(what)
            log.note(f"{what}: {total:,}")
            if console.is_terminal:
                drawn.start()
        drawn.update(tasks[what], completed=done, total=total)

    try:
        yield tell
    finally:
        if console.is_terminal and tasks:
            drawn.stop()
