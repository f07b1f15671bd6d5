"""Reader of Parquet files in the layout of Hugging Face data sets.

A row is an image (a struct of `bytes` and `path`, a binary column, or the path of a file beside the
table), a label, and maybe a split. Class names come from the schema's metadata (`huggingface`,
features of type ClassLabel), else from the labels, sorted. Without a column `split`, the name of a
file or of its folder says its split (train-00000-of-00002.parquet, partial-test/0000.parquet).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from os.path import realpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.config import DataConfig
from experiments.data.messages import plural, printable, readable
from experiments.data.source import (
    ImageSource,
    Item,
    OpenedSource,
    Split,
    Unreadable,
    numbered,
    plain_labels,
)
from experiments.data.split_names import splits_of_tables
from experiments.data.tree import read_file, stamp_of, walk
from space.validation import InvalidInput

#: Rows that are read from a file at a time, and the bytes that they may have together.
_BATCH, _BATCH_BYTES = 64, 64_000_000

#: Bytes of a file that are fetched at a time.
_BUFFER = 1 << 20

#: How many times the size of its file a row group of more than `_BATCH_BYTES` may have (assumed:
#: encoded images hardly expand).
_MOST_TIMES = 50

#: Rows for each byte of a file, above which it only repeats itself (assumed: numbered paths take
#: about a byte each where they are compressed).
_MOST_ROWS = 8

#: Characters of a row's path that are shown.
_SHOWN = 100

_LABEL_NAMES = ("label", "labels", "class", "cls", "category", "target")
_PATH_NAMES = ("image", "img", "file", "file_name", "filename", "path", "image_path")


class _Columns(NamedTuple):
    """Names of the columns (`split`: None where there is none), and the class names where the
    schema knows them."""

    image: str
    label: str
    split: str | None
    classes: tuple[str, ...] | None


def open_parquet(path: Path, config: DataConfig) -> OpenedSource:
    """The Parquet file `path`, or all below the folder `path`.

    Raises `InvalidInput` where there is none, or where a symbolic link leads out of the folder (to
    leave out a part of a data set in silence would be worse).
    """
    files = [path] if path.is_file() else _files_below(path, config.follow_links)
    return OpenedSource("parquet", path, stamp_of(files), partial(_scan, path, files, config))


def _files_below(folder: Path, follow: bool) -> list[Path]:
    # A snapshot in Hugging Face's cache is a folder of links to ../../blobs.
    border = folder.parent.parent if folder.parent.name == "snapshots" else None
    tree = walk(folder, frozenset([".parquet"]), border, follow=follow)
    if tree.skipped:
        name, reason = tree.skipped[0]
        raise InvalidInput(
            f"{folder}: {name!r} cannot be used: {reason}; put the file itself there"
        )
    if not tree.files:
        raise InvalidInput(f"{folder}: no .parquet file found")
    return [folder.joinpath(*file.parts) for file in tree.files]


def _scan(path: Path, files: list[Path], config: DataConfig) -> ImageSource:
    columns = _columns(files[0])
    for file in files[1:]:
        if _columns(file) != columns:
            raise InvalidInput(
                f"{file}: all files must have the same columns and class names, but "
                f"{files[0].name} has others; move one away"
            )

    def split_names(file: Path) -> list[str] | None:
        return _values(file, columns.split).tolist() if columns.split else None

    splits, notes = splits_of_tables(path, files, split_names, config.splits)
    raw = {file: _labels(file, columns.label) for file in splits}
    tests = [file for file in splits if np.all(splits[file] == Split.TEST)]
    if 0 < len(tests) < len(splits) and all(np.all(raw[file] == -1) for file in tests):
        raw = {file: raw[file] for file in splits if file not in tests}
        notes.append("The test files are not used: they have no labels (all are -1).")
    classes, labels = numbered(path, np.concatenate([*raw.values()]), columns.classes)
    border = "/" if config.follow_links else str(path if path.is_dir() else path.parent)
    outside: set[Path] = set()
    return ImageSource(
        classes=classes,
        labels=labels,
        splits=np.concatenate([np.full(len(raw[file]), splits[file], np.uint8) for file in raw]),
        items=partial(_items, [*raw], columns.image, border, outside),
        notes=tuple(notes),
        stamped=lambda: not outside,
    )


@contextmanager
def _reading(file: Path, strings: str | None = None) -> Iterator[Any]:
    """The file, of which a page at a time is in memory (its default is all of a row group).

    A page is there compressed, expanded and as a batch. A column `strings` is read as categories.
    """
    import pyarrow.parquet

    columns = [strings] if strings else None
    with (
        readable(file, "Parquet", "fetch it again"),
        pyarrow.parquet.ParquetFile(
            file, buffer_size=_BUFFER, pre_buffer=False, read_dictionary=columns
        ) as opened,
    ):
        yield opened


def _check_size(file: Path, opened: Any) -> None:
    """Raises `InvalidInput` where a small file would fill the memory."""
    rows, stored, expanded = opened.metadata.num_rows, file.stat().st_size, _largest(opened)
    if rows > _MOST_ROWS * stored:
        raise InvalidInput(
            f"{file}: {rows:,} rows in {stored:,} bytes cannot be images; leave it out"
        )
    if expanded > max(_BATCH_BYTES, _MOST_TIMES * stored):
        raise InvalidInput(
            f"{file}: {stored:,} bytes expand to {expanded:,} in a row group; write fewer rows in "
            "a row group, or images as PNG"
        )


def _largest(opened: Any) -> int:
    """The bytes that the largest row group has when it is expanded.

    Metadata of single columns are not read: where they are damaged, pyarrow 26 aborts.
    """
    groups = map(opened.metadata.row_group, range(opened.num_row_groups))
    return max((group.total_byte_size for group in groups), default=0)


def _columns(file: Path) -> _Columns:
    """The columns of a file.

    Raises `InvalidInput` where images or labels are missing, or would fill the memory.
    """
    with _reading(file) as opened:
        schema = opened.schema_arrow
        _check_size(file, opened)
    return _named_columns(file, schema)


def _named_columns(file: Path, schema: Any) -> _Columns:
    """The columns by their names and types.

    Where the schema names several ClassLabel columns, `label` counts, or else the one with the
    most classes (CIFAR-100's fine labels).
    """
    names = list(schema.names)
    features = _features(schema)
    structs = [field.name for field in schema if _is_image_struct(field.type)]
    binary = [field.name for field in schema if _is_binary(field.type)]
    texts = [field.name for field in schema if _is_text(field.type)]
    marked = [n for n in structs + binary if features.get(n, {}).get("_type") == "Image"]
    paths = [name for name in _PATH_NAMES if name in texts]
    images = marked + structs + binary + paths
    known = {name: _class_names(feature) for name, feature in features.items()}
    finest = sorted((n for n in known if known[n]), key=lambda n: (n != "label", -len(known[n])))
    labels = finest + [name for name in _LABEL_NAMES if name in names]
    if not (images and labels):
        raise InvalidInput(
            f"{file}: a column `image` of encoded images and a column `label` are needed, but "
            f"there is no {'label' if images else 'image'} column among: "
            f"{', '.join(map(printable, names))}"
        )
    split = "split" if "split" in names else None
    return _Columns(images[0], labels[0], split, known.get(labels[0]) or None)


def _is_binary(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    plain = kind.value_type if types.is_dictionary(kind) else kind
    return str(plain) in ("string", "large_string", "string_view")


def _is_image_struct(kind: Any) -> bool:
    """Whether a column holds the bytes or the paths of images, or both."""
    from pyarrow import types

    if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    fields = {field.name: field.type for field in kind if not types.is_null(field.type)}
    content, path = fields.get("bytes"), fields.get("path")
    return (content is None or _is_binary(content)) and (path is None or _is_text(path))


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What the metadata says of the columns; nothing where there is none, or it is damaged."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {n: f for n, f in features.items() if n in schema.names and isinstance(f, dict)}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return {}


def _class_names(feature: dict[str, Any]) -> tuple[str, ...]:
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return tuple(printable(str(name)) for name in names) if isinstance(names, list) else ()


def _values(file: Path, column: str) -> NDArray[Any]:
    """A column of integers, or of strings or booleans as objects: (rows,).

    A string is in memory once, however many rows repeat it. Raises `InvalidInput` where values are
    missing or of another kind.
    """
    from pyarrow import types

    with _reading(file, column) as opened:
        values = opened.read(columns=[column]).column(0).unify_dictionaries().combine_chunks()
    if values.null_count:
        raise InvalidInput(
            f"{file}: column {column!r} has no value in {plural(values.null_count, 'row')}"
        )
    places: Any = slice(None)
    if types.is_dictionary(values.type):
        values, places = values.dictionary, values.indices.to_numpy()
    if types.is_integer(values.type):
        return np.asarray(values.to_numpy()[places])
    if types.is_boolean(values.type) or _is_text(values.type):
        return np.asarray(np.array(values.to_pylist(), object)[places])
    raise InvalidInput(
        f"{file}: column {column!r} must hold integers, strings or booleans, but is {values.type}"
    )


def _labels(file: Path, column: str) -> NDArray[np.int64 | np.str_]:
    """The labels of a file: int64 or strings, (rows,)."""
    return plain_labels(file, column, _values(file, column))


def _items(files: list[Path], column: str, border: str, outside: set[Path]) -> Iterator[Item]:
    """The images of all rows; `outside` gets the files that name other files."""
    for file in files:
        with _reading(file) as opened:
            row = 0
            for batch in opened.iter_batches(_rows_at_once(opened), columns=[column]):
                values = batch.column(0)
                for at in range(len(values)):
                    yield _item(file, row, values[at].as_py(), border, outside)
                    row += 1
                del batch, values  # before the next ones are read


def _rows_at_once(opened: Any) -> int:
    """Rows that have `_BATCH_BYTES` at most: none is larger than what is stored of its row group.

    A dictionary may repeat a long cell in every row, so a mean over the rows would say nothing.
    """
    return max(1, min(_BATCH, _BATCH_BYTES // max(1, _largest(opened))))


def _item(file: Path, row: int, value: Any, border: str, outside: set[Path]) -> Item:
    """A row's image: its bytes, or the file that its path names, below the folder `border`."""
    if not isinstance(value, dict):
        value = {"path" if isinstance(value, str) else "bytes": value}
    encoded, path = value.get("bytes"), value.get("path")
    name = f"{file.name} row {row}" + (f" ({printable(path[:_SHOWN])})" if path else "")
    if encoded is None and path:
        outside.add(file)
        return Item(name, partial(_named_file, file.parent, path, border))
    return Item(name, partial(bytes, encoded or b""), len(encoded or b""))


def _named_file(folder: Path, path: str, border: str) -> bytes:
    """The file that a row names; raises `Unreadable` where it is not below the data's folder."""
    found = realpath(folder / path.replace("\0", ""))
    if not found.startswith(realpath(border).rstrip("/") + "/"):
        raise Unreadable("it has no bytes, only a path that leads out of the data's folder")
    try:
        Path(found).stat()
    except OSError:
        raise Unreadable(
            "it has no bytes, only a path, and there is no such file beside the table"
        ) from None
    return read_file(Path(found))
