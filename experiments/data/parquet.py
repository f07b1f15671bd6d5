"""Reader of Parquet files in the layout of Hugging Face data sets.

A row is an image: a struct of `bytes` and `path` (or a binary column), and a label. Class names
come from the schema's metadata (`huggingface`, features of type ClassLabel), else from the labels
themselves, sorted. Which split a file belongs to is said by its name or its folder's
(train-00000-of-00002.parquet, test/0000.parquet); a single named file is training images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.source import (
    ImageSource,
    Item,
    OpenedSource,
    Split,
    numbered,
    printable,
    split_of,
    stamp_of,
)
from experiments.data.tree import walk
from space.validation import InvalidInput

SUFFIX = ".parquet"

#: Images that are read from a file at a time.
_BATCH = 64


@dataclass(frozen=True)
class _Columns:
    """Names of the two columns, and the class names where the schema knows them."""

    image: str
    label: str
    classes: tuple[str, ...] | None


def open_parquet(path: Path) -> OpenedSource:
    """The Parquet file `path`, or all below the folder `path`.

    Raises `InvalidInput` where there is none, or where a symbolic link leads out of the folder (to
    leave out a part of a data set in silence would be worse).
    """
    files = [path] if path.is_file() else _files_below(path)
    return OpenedSource("parquet", path, stamp_of(files), partial(_scan, path, files))


def _files_below(folder: Path) -> list[Path]:
    # A snapshot in Hugging Face's cache is a folder of links to ../../blobs.
    in_cache = folder.parent.name == "snapshots"
    tree = walk(folder, frozenset([SUFFIX]), folder.parent.parent if in_cache else None)
    if tree.skipped:
        name, reason = tree.skipped[0]
        raise InvalidInput(
            f"{folder}: {name!r} cannot be used: {reason}; put the file itself there"
        )
    if not tree.files:
        raise InvalidInput(f"{folder}: there is no {SUFFIX} file in it")
    return [folder.joinpath(*file.parts) for file in tree.files]


def _scan(path: Path, files: list[Path]) -> ImageSource:
    columns = _same_columns(files)
    splits = {file: _split(path, file) for file in files}
    raw = {file: _labels(file, columns.label) for file in files}
    notes = []
    tests = [file for file in files if splits[file] is Split.TEST]
    if len(tests) < len(files) and tests and all(np.all(raw[file] == -1) for file in tests):
        files = [file for file in files if file not in tests]
        notes.append("The test files are not used: they have no labels (all are -1).")
    found = np.concatenate([raw[file] for file in files])
    classes, labels = (columns.classes, found) if columns.classes else numbered(path, found)
    parts = [np.full(len(raw[file]), splits[file], np.uint8) for file in files]
    return ImageSource(
        classes=classes,
        labels=labels,
        splits=np.concatenate(parts),
        items=partial(_items, files, columns.image),
        notes=tuple(notes),
    )


def _split(root: Path, file: Path) -> Split:
    if file == root:
        return Split.TRAIN
    said = [split_of(part) for part in reversed(file.relative_to(root).parts)]
    return next((split for split in said if split is not None), Split.TRAIN)


def _opened(file: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"{file}: this Parquet file cannot be read ({error}); fetch it again")


def _same_columns(files: list[Path]) -> _Columns:
    """The columns of all files. Raises `InvalidInput` where one has others."""
    columns = _columns(files[0])
    for file in files[1:]:
        other = _columns(file)
        if other != columns:
            raise InvalidInput(
                f"{file}: all files must have the same columns and class names, but "
                f"{files[0].name} has others; move one away"
            )
    return columns


def _columns(file: Path) -> _Columns:
    """The image column and the label column of a file.

    Where the schema names several ClassLabel columns, `label` counts, or else the one with the
    most classes (CIFAR-100's fine labels). Raises `InvalidInput` where one is missing.
    """
    from pyarrow import types

    schema = _opened(file).schema_arrow
    features = _features(schema)
    structs = [f.name for f in schema if types.is_struct(f.type) and _has_bytes(f.type)]
    binary = [f.name for f in schema if types.is_binary(f.type) or types.is_large_binary(f.type)]
    images = [n for n in structs + binary if features.get(n, {}).get("_type") == "Image"]
    named = {name: _class_names(feature) for name, feature in features.items()}
    finest = sorted((n for n in named if named[n]), key=lambda n: (n != "label", -len(named[n])))
    plain = [name for name in ("label", "labels", "class", "target") if name in schema.names]
    if not (images + structs + binary and finest + plain):
        missing = "label" if images + structs + binary else "image"
        raise InvalidInput(
            f"{file}: a column `image` of encoded images and a column `label` are needed, but "
            f"there is no {missing} column among: {', '.join(map(printable, schema.names))}"
        )
    label = (finest + plain)[0]
    return _Columns((images + structs + binary)[0], label, named.get(label) or None)


def _has_bytes(struct: Any) -> bool:
    return bool(struct.get_field_index("bytes") >= 0)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What the metadata says of the columns; nothing where there is none, or it is damaged."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {n: f for n, f in features.items() if n in schema.names and isinstance(f, dict)}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


def _class_names(feature: dict[str, Any]) -> tuple[str, ...]:
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return tuple(printable(str(name)) for name in names) if isinstance(names, list) else ()


def _labels(file: Path, column: str) -> NDArray[Any]:
    """The labels of a file: int64 or strings, (rows,)."""
    import pyarrow as pa

    try:
        labels = _opened(file).read(columns=[column]).column(0)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, error) from None
    if labels.null_count:
        raise InvalidInput(f"{file}: {labels.null_count:,} rows have no value in {column!r}")
    if pa.types.is_integer(labels.type):
        return np.asarray(labels.to_numpy(), np.int64)
    if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
        return np.array(labels.to_pylist(), np.str_)
    raise InvalidInput(
        f"{file}: labels must be integers or strings, but column {column!r} is {labels.type}"
    )


def _items(files: list[Path], column: str) -> Iterator[Item]:
    import pyarrow as pa

    for file in files:
        row = 0
        try:
            for batch in _opened(file).iter_batches(batch_size=_BATCH, columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield _item(file, row, value)
                    row += 1
        except (OSError, pa.ArrowException) as error:
            raise _damaged(file, error) from None


def _item(file: Path, row: int, value: Any) -> Item:
    """A row's image; one that has no bytes (a path alone, or nothing) is found to be empty."""
    encoded, path = (
        (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, "")
    )
    name = f"{file.name} row {row}" + (f" ({printable(path)})" if path else "")
    return Item(name, partial(bytes, encoded or b""))
