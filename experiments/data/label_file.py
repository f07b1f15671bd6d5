"""Reader of CSV files that list images: columns file and label, and maybe split.

Images are looked for below the CSV's folder: by their path, else by their name, else by their name
without a suffix, where only one has it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.config import DataConfig
from experiments.data.decode import SUFFIXES
from experiments.data.messages import left_out, plural, printable, readable
from experiments.data.source import ImageSource, OpenedSource, Skipped, numbered, plain_labels
from experiments.data.split_names import GivenSplits, splits_of_tables
from experiments.data.tree import File, Tree, file_items, stamp_of, walk
from space.validation import InvalidInput

#: What people call the columns, in small letters and digits only.
_FILE = ("file", "filename", "filepath", "path", "image", "imagepath", "imagename", "imageid", "id")
_LABEL = ("label", "labels", "class", "classname", "target", "category", "y")
_SPLIT = ("split", "partition", "subset", "usage")
_COLUMNS = {"file": _FILE, "label": _LABEL, "split": _SPLIT}


def listings(folder: Path) -> list[Path]:
    """The CSV files in `folder` that list images and their labels, by their first lines."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".csv" and path.is_file() and _is_listing(path)
    )


def open_label_file(path: Path, config: DataConfig) -> OpenedSource:
    """The CSV file `path`, or those in the folder `path`.

    Raises `InvalidInput` where there is none, or where its folder cannot be listed.
    """
    files = [path] if path.is_file() else listings(path)
    if not files:
        raise InvalidInput(f"{path}: no CSV file with columns `file` and `label` found")
    tree = walk(files[0].parent, SUFFIXES, follow=config.follow_links)
    stamp = json.dumps([stamp_of(files), tree.files, tree.skipped])
    return OpenedSource("csv", path, stamp, partial(_scan, path, files, tree, config.splits))


def _scan(path: Path, files: list[Path], tree: Tree, given: GivenSplits) -> ImageSource:
    tables = {file: _table(file) for file in files}

    def split_names(file: Path) -> list[str] | None:
        names = tables[file]["split"]
        return names.tolist() if names.any() else None

    splits, notes = splits_of_tables(path, files, split_names, given)
    rows = pd.concat(
        [tables[file].assign(split=splits[file]) for file in splits], ignore_index=True
    )
    image = _found(rows["file"], tree.files)
    used, missing = rows[image.notna()], rows["file"][image.isna()]
    images = [tree.files[int(index)] for index in image.dropna()]
    unlisted = sorted({file.name for file in tree.files} - {file.name for file in images})
    classes, labels = numbered(path, _labels(path, used["label"]))
    folder = files[0].parent
    reason = f"there is no such image below {folder}"
    return ImageSource(
        classes=classes,
        labels=labels,
        splits=used["split"].to_numpy(np.uint8),
        items=partial(file_items, folder, images),
        skipped=(*tree.skipped, *(Skipped(printable(name), reason) for name in missing)),
        notes=(*notes, *left_out("image", "not listed", unlisted)),
    )


def _found(names: pd.Series[str], files: list[File]) -> pd.Series[float]:
    """The index of each name's image; NaN where there is none, or more than one by that name."""
    by_path = {"/".join(file.parts): index for index, file in enumerate(files)}
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        for name in {file.parts[-1], Path(file.parts[-1]).stem}:
            by_name[name].append(index)
    unique = {name: found[0] for name, found in by_name.items() if len(found) == 1}
    paths = names.str.replace("\\", "/").str.replace(r"^(\./)+", "", regex=True)
    found = paths.map(by_path).fillna(paths.str.split("/").str[-1].map(unique))
    return found.astype(float)


def _labels(path: Path, labels: pd.Series[str]) -> NDArray[np.int64 | np.str_]:
    """The labels as integers where all are, so that 10 comes after 9."""
    if empty := int((labels == "").sum()):
        raise InvalidInput(f"{path}: {plural(empty, 'row')} without a label; add it")
    if labels.str.fullmatch(r"-?\d{1,15}").all():
        return labels.to_numpy(np.int64)
    return plain_labels(path, "label", labels.to_numpy(object))


def _is_listing(path: Path) -> bool:
    try:
        return len(_table(path, 1)) > 0
    except InvalidInput:
        return False


def _table(path: Path, rows: int | None = None) -> pd.DataFrame:
    """The columns `file`, `label` and `split` (empty where there is none), of `rows` at most.

    Columns are separated by commas, semicolons or tabs. Without a header they come in this order.
    Raises `InvalidInput` where the file lacks the first two, or is damaged.
    """
    with readable(path, "CSV", "save it again as UTF-8"):
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline()
        separator = max(",;\t", key=head.count)
        bare = Path(head.split(separator)[0].strip()).suffix.lower() in SUFFIXES
        found = pd.read_csv(
            path,
            sep=separator,
            header=None if bare else 0,
            dtype=str,
            keep_default_na=False,
            nrows=rows,
            encoding="utf-8-sig",
            index_col=False,
        ).fillna("")
    names = [re.sub(r"[^a-z0-9]", "", str(name).lower()) for name in found.columns]
    if bare:
        names = list(_COLUMNS)[: len(names)]
    columns = {}
    for column, known in _COLUMNS.items():
        at = next((names.index(name) for name in known if name in names), None)
        columns[column] = "" if at is None else found.iloc[:, at].str.strip()
        if at is None and column != "split":
            raise InvalidInput(
                f"{path}: a CSV file must have columns `file` and `label`, and may have `split`, "
                "but its first line lacks them"
            )
    return pd.DataFrame(columns, index=found.index)
