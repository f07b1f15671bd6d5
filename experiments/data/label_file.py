"""Reader of CSV files that list images: columns file and label, and maybe split.

Images are looked for below the CSV's folder: by their path, else by their name, else by their name
without a suffix, where only one has it.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.config import DataConfig
from experiments.data.decode import SUFFIXES
from experiments.data.source import (
    ImageSource,
    OpenedSource,
    Skipped,
    listed,
    numbered,
    plural,
    printable,
    stamp_of,
)
from experiments.data.split_names import GivenSplits, left_out, splits_of_files, splits_of_values
from experiments.data.tree import File, Tree, file_items, walk, without_huge
from space.validation import InvalidInput

SUFFIX = ".csv"

#: What people call the columns, in small letters and digits only.
_FILE = ("file", "filename", "filepath", "path", "image", "imagepath", "imagename", "imageid", "id")
_LABEL = ("label", "labels", "class", "classname", "target", "category", "y")
_SPLIT = ("split", "partition", "subset", "usage")


class _Row(NamedTuple):
    """A line of a list; `split` is empty where the list has no such column."""

    file: str
    label: str
    split: str


def listings(folder: Path) -> list[Path]:
    """The CSV files in `folder` that list images and their labels, by their first lines."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == SUFFIX and path.is_file() and _is_listing(path)
    )


def open_label_file(path: Path, config: DataConfig) -> OpenedSource:
    """The CSV file `path`, or those in the folder `path`.

    Raises `InvalidInput` where there is none, or where its folder cannot be listed.
    """
    files = [path] if path.is_file() else listings(path)
    if not files:
        raise InvalidInput(f"{path}: a CSV file with columns `file` and `label` is needed in it")
    tree = walk(files[0].parent, SUFFIXES, follow=config.follow_links)
    stamp = json.dumps([stamp_of(files), tree.files, tree.skipped])
    return OpenedSource("csv", path, stamp, partial(_scan, path, files, tree, config.splits))


def _scan(path: Path, files: list[Path], tree: Tree, given: GivenSplits) -> ImageSource:
    rows: list[_Row] = []
    splits: list[int] = []
    in_column = {file: any(row.split for row in _rows(file)) for file in files}
    named = None if any(in_column.values()) else given
    by_file = splits_of_files(path, files, named)
    for file, split in by_file.items():
        found = _rows(file)
        rows += found
        if in_column[file]:
            splits += splits_of_values(file, "split", [row.split for row in found], given).tolist()
        else:
            splits += [int(split)] * len(found)
    images = _found(rows, tree.files)
    _, huge = without_huge(file for file in images if file is not None)
    too_large = {each.name for each in huge}
    used = [n for n, file in enumerate(images) if file and file.name not in too_large]
    files_used = [image for n in used if (image := images[n])]
    classes, labels = numbered(path, _labels(path, [rows[n].label for n in used]))
    missing = [
        Skipped(printable(row.file), f"there is no such image below {files[0].parent}")
        for row, image in zip(rows, images, strict=True)
        if image is None
    ]
    unlisted = sorted({file.name for file in tree.files} - {file.name for file in files_used})
    notes = left_out(files, by_file)
    if unlisted:
        images_left = f"{plural(len(unlisted), 'image')} left out (not listed)"
        notes.append(f"{images_left}: {listed(unlisted, 3)}.")
    return ImageSource(
        classes=classes,
        labels=labels,
        splits=np.array([splits[n] for n in used], np.uint8),
        items=partial(file_items, files[0].parent, files_used),
        skipped=(*tree.skipped, *missing, *huge),
        notes=tuple(notes),
    )


def _found(rows: list[_Row], files: list[File]) -> list[File | None]:
    """The image of each row; None where there is none, or more than one by that name."""
    by_path = {"/".join(file.parts): file for file in files}
    by_name: dict[str, list[File]] = defaultdict(list)
    for file in files:
        by_name[file.parts[-1]].append(file)
        by_name[Path(file.parts[-1]).stem].append(file)

    def find(name: str) -> File | None:
        exact = by_path.get(re.sub(r"^(\./)+", "", name.replace("\\", "/")))
        named = by_name[re.split(r"[/\\]", name)[-1]]
        return exact or (named[0] if len(named) == 1 else None)

    return [find(row.file) for row in rows]


def _labels(path: Path, labels: list[str]) -> NDArray[np.int64] | NDArray[np.str_]:
    """The labels as integers where all are, so that 10 comes after 9."""
    if empty := labels.count(""):
        raise InvalidInput(f"{path}: {plural(empty, 'row')} without a label; add them")
    if all(re.fullmatch(r"-?\d{1,15}", label) for label in labels):
        return np.array(labels, np.int64)
    return np.array(labels, np.str_)


def _is_listing(path: Path) -> bool:
    try:
        return _columns(_lines(path, 1)) is not None
    except InvalidInput:
        return False


def _rows(path: Path) -> list[_Row]:
    """The rows of a list. Raises `InvalidInput` where it lacks the columns, or is damaged."""
    lines = _lines(path)
    columns = _columns(lines[:1])
    if columns is None:
        raise InvalidInput(
            f"{path}: a CSV file must have columns `file` and `label`, and may have `split`, but "
            "its first line has not"
        )
    file, label, split, first = columns
    for number, line in enumerate(lines[first:], first + 1):
        if len(line) <= max(file, label, split or 0):
            raise InvalidInput(f"{path}: row {number} has too few columns; correct it")
    return [
        _Row(line[file], line[label], "" if split is None else line[split])
        for line in lines[first:]
    ]


def _lines(path: Path, most: int | None = None) -> list[list[str]]:
    """The lines of a CSV file, separated by commas, semicolons or tabs; the first `most` only."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=head.count))
            return [[cell.strip() for cell in row] for row in islice(rows, most) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(
            f"{path}: this CSV file cannot be read ({error}); save it again as UTF-8"
        ) from None


def _columns(head: list[list[str]]) -> tuple[int, int, int | None, int] | None:
    """The columns of file, label and split, and the first row of images; None where they are not.

    Without a header the columns are file, label and split in this order.
    """
    if not head:
        return None
    names = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in head[0]]
    file, label, split = (
        next((names.index(name) for name in known if name in names), None)
        for known in (_FILE, _LABEL, _SPLIT)
    )
    if file is not None and label is not None:
        return file, label, split, 1
    if len(names) in (2, 3) and Path(head[0][0]).suffix.lower() in SUFFIXES:
        return 0, 1, 2 if len(names) == 3 else None, 0
    return None
