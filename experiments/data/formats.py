"""Which reader reads a source: by its suffix, or by what a folder holds."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from experiments.config import DataConfig
from experiments.data.decode import MOST_PIXELS, SUFFIXES
from experiments.data.folder import has_classes, open_folder, unpacking
from experiments.data.glyphs import open_glyphs
from experiments.data.label_file import listings, open_label_file
from experiments.data.npz import open_npz
from experiments.data.parquet import open_parquet
from experiments.data.source import OpenedSource
from space.validation import InvalidInput

#: Files that are not read, and how to convert them.
_CONVERTED = {
    ".arrow": "datasets.load_from_disk(FOLDER)['train'].to_parquet('train.parquet') writes Parquet",
    ".npy": "numpy.savez('data.npz', images=images, labels=labels) writes both arrays",
}

_READERS = {"folder": open_folder, "csv": open_label_file, "parquet": open_parquet, "npz": open_npz}


def recognised(config: DataConfig) -> OpenedSource:
    """The source that `config` names, by its reader, not yet read.

    Raises `InvalidInput` if there is no such source, or for keys of `data` that do not fit it.
    """
    if config.max_pixels > MOST_PIXELS:
        raise InvalidInput(
            f"data.max_pixels: Pillow decodes at most {MOST_PIXELS:,} pixels, but got "
            f"{config.max_pixels:,}"
        )
    if config.format == "glyphs" or (config.format == "auto" and config.source == "glyphs"):
        return open_glyphs(config.glyphs)
    path = Path(config.source).expanduser().absolute()
    if not path.exists():
        raise InvalidInput(
            f"data.source: {path} not found; give the path of a folder tree, of a "
            "CSV of labels, of Parquet files or of an .npz file, or `glyphs`"
        )
    format_ = _recognised(path, config) if config.format == "auto" else config.format
    if (format_ == "folder" and path.is_file()) or (format_ == "npz" and path.is_dir()):
        kind = "folder" if path.is_dir() else "file"
        raise InvalidInput(f"data.format: {format_!r} does not fit {path}, which is a {kind}")
    opened = _READERS[format_](path, config)
    splits = json.dumps(config.splits)
    return replace(opened, stamp=f"{splits} {opened.stamp}") if config.splits else opened


def _recognised(path: Path, config: DataConfig) -> str:
    """By a file's suffix; for a folder, by the first Parquet file, or image in a subfolder."""
    suffix = path.suffix.lower()
    if path.is_file() and suffix in (".csv", ".parquet", ".npz"):
        return suffix.removeprefix(".")
    if not path.is_dir() or not any(path.iterdir()):
        raise _not_a_source(path, suffix)
    for folder, below, files in os.walk(path):
        below.sort()
        suffixes = {Path(name).suffix.lower() for name in files if not name.startswith(".")}
        if ".parquet" in suffixes:
            return "parquet"
        if suffixes & SUFFIXES and folder != str(path):
            break
        if ".arrow" in suffixes:
            raise _not_a_source(path, ".arrow")
    if listings(path) and not has_classes(path, config):
        return "csv"
    return "folder"  # which says what it misses


def _not_a_source(path: Path, suffix: str) -> InvalidInput:
    """The error for a path that cannot be read; `suffix` is its own, or of files found in it."""
    if command := unpacking(str(path)):
        return InvalidInput(f"data.source: {path} is an archive; unpack it first: {command}")
    hint = f" ({_CONVERTED[suffix]})" if suffix in _CONVERTED else ""
    return InvalidInput(
        f"data.source: {path} must be a folder with one subfolder of images per class, a folder of "
        "Parquet files, or a .csv, .parquet or .npz file; choose another, or name its data.format"
        + hint
    )
