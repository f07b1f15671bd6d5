"""Loads the images that a recipe names, divided: the entry point of this package."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from experiments.config import DataConfig
from experiments.data.cache import Stored, store
from experiments.data.decode import MOST_PIXELS, SUFFIXES, WHITE
from experiments.data.folder import has_classes, open_folder, unpacking
from experiments.data.glyphs import open_glyphs
from experiments.data.images import Images
from experiments.data.inspection import named, refuse_bad, white_said
from experiments.data.label_file import SUFFIX as CSV
from experiments.data.label_file import listings, open_label_file
from experiments.data.npz import SUFFIX as NPZ
from experiments.data.npz import open_npz
from experiments.data.parallel import Progress
from experiments.data.parquet import SUFFIX as PARQUET
from experiments.data.parquet import open_parquet
from experiments.data.source import OpenedSource, Skipped, plural
from experiments.data.splits import divide
from experiments.progress import log
from experiments.progress.log import console
from space.validation import InvalidInput

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
    if config.max_pixels > MOST_PIXELS:
        raise InvalidInput(
            f"data.max_pixels: Pillow decodes at most {MOST_PIXELS:,} pixels, but got "
            f"{config.max_pixels:,}"
        )
    opened = recognised(config)
    pixels, cache = config.resolution or resolution, config.cache or default_cache()
    with bar() as shown:
        stored = store(opened, config, pixels, cache, progress or shown)
    total = len(stored.skipped) + len(stored.images)
    refuse_bad(opened.path, stored.skipped, total, config.max_bad)
    images, classes = stored.images, stored.classes
    parts = divide(opened.path, classes, images.labels, stored.splits, config, seed)
    named = {name: images.subset(getattr(parts, name)) for name in ("train", "held_out", "test")}
    return Data(
        classes=classes,
        **named,
        full_train=images.subset(np.union1d(parts.train, parts.held_out)),
        fingerprint=stored.fingerprint,
        summary=_summary(config, opened, stored, named, parts.remarks),
        test_names=stored.names(parts.test),
    )


def default_cache() -> Path:
    """`phiscale` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phiscale"


# ---------------------------------------------------------------------------------------- formats


#: Files that are not read, and how to make of them what is.
_CONVERTED = {
    ".arrow": "datasets.load_from_disk(FOLDER)['train'].to_parquet('train.parquet') writes Parquet",
    ".npy": "numpy.savez('data.npz', images=images, labels=labels) writes both arrays",
}


def recognised(config: DataConfig) -> OpenedSource:
    """The source that `config` names, by its reader, not yet read."""
    if config.format == "glyphs" or (config.format == "auto" and config.source == "glyphs"):
        return open_glyphs(config.glyphs)
    path = Path(config.source).expanduser().absolute()
    if not path.exists():
        raise InvalidInput(
            f"data.source: {path} not found; give the path of a folder tree, of a "
            "CSV of labels, of Parquet files or of an .npz file, or `glyphs`"
        )
    format_ = _recognised(path, config) if config.format == "auto" else config.format
    if path.is_file() if format_ == "folder" else format_ == "npz" and path.is_dir():
        kind = "folder" if path.is_dir() else "file"
        raise InvalidInput(f"data.format: {format_!r} does not fit {path}, which is a {kind}")
    if format_ == "npz":
        if config.splits is not None:
            raise InvalidInput(
                f"data.splits: the arrays of {path} name their splits (train_images, test_images); "
                "rename them and leave this key out"
            )
        opened = open_npz(path)
    else:
        readers = {"folder": open_folder, "csv": open_label_file, "parquet": open_parquet}
        opened = readers[format_](path, config)
    splits = json.dumps(config.splits)
    return replace(opened, stamp=f"{splits} {opened.stamp}") if config.splits else opened


def _recognised(path: Path, config: DataConfig) -> str:
    """By a file's suffix; for a folder, by the first Parquet file, or image in a subfolder."""
    if path.is_dir():
        if not any(path.iterdir()):
            raise _not_a_source(path)
        return _recognised_folder(path, config)
    if path.suffix.lower() in (PARQUET, NPZ, CSV):
        return path.suffix.lower().removeprefix(".")
    raise _not_a_source(path)


def _recognised_folder(path: Path, config: DataConfig) -> str:
    for folder, below, files in os.walk(path):
        below.sort()
        suffixes = {Path(name).suffix.lower() for name in files if not name.startswith(".")}
        if PARQUET in suffixes:
            return "parquet"
        if suffixes & SUFFIXES and folder != str(path):
            break
        if ".arrow" in suffixes:
            raise _not_a_source(path, ".arrow")
    if listings(path) and not has_classes(path, config):
        return "csv"
    return "folder"  # which says what it misses


def _not_a_source(path: Path, suffix: str = "") -> InvalidInput:
    """The error for a path that cannot be read; `suffix` is that of files found in it."""
    if command := unpacking(str(path)):
        return InvalidInput(f"data.source: {path} is an archive; unpack it first: {command}")
    hint = _CONVERTED.get(suffix or path.suffix.lower())
    return InvalidInput(
        f"data.source: {path} must be a folder with one subfolder of images per class, a folder of "
        "Parquet files, or a .csv, .parquet or .npz file; choose another, or name its data.format"
        + (f" ({hint})" if hint else "")
    )


# ---------------------------------------------------------------------------------------- summary


def _summary(
    config: DataConfig,
    opened: OpenedSource,
    stored: Stored,
    parts: dict[str, Images],
    remarks: tuple[str, ...],
) -> DataSummary:
    per_class = {
        name: tuple(np.bincount(part.labels, minlength=len(stored.classes)).tolist())
        for name, part in parts.items()
    }
    trained = np.add(per_class["train"], per_class["held_out"])
    imbalance = float(trained.max() / trained.min())
    warnings = [*stored.notes, *remarks]
    if stored.white != WHITE:
        warnings.append(white_said(stored.white))
    if stored.skipped:
        skipped = plural(len(stored.skipped), "image")
        warnings.append(f"{skipped} left out: {named(stored.skipped)}.")
    if imbalance >= HEAVY_IMBALANCE:
        most, least = stored.classes[trained.argmax()], stored.classes[trained.argmin()]
        warnings.append(
            f"The classes are heavily imbalanced: {most!r} has {trained.max():,} training images, "
            f"{least!r} {trained.min():,}."
        )
    return DataSummary(
        source=config.source,
        format=opened.format,
        fingerprint=stored.fingerprint,
        classes=stored.classes,
        resolution=stored.images.resolution,
        channels=stored.images.channels,
        white=stored.white,
        compressed=stored.images.pixels is None,
        bytes=stored.size,
        images={name: len(part) for name, part in parts.items()},
        per_class=per_class,
        imbalance=imbalance,
        skipped=stored.skipped,
        warnings=tuple(warnings),
    )


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
