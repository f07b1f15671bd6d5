"""Parquet and npz as people have them, and as somebody may have made them to do harm."""

import io
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.data import parquet
from experiments.data.source import Item
from space.validation import InvalidInput

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def table(png) -> Any:
    """Twelve images in two classes; keywords replace columns."""

    def make(**columns: Any) -> pa.Table:
        images = pa.array([{"bytes": png(n), "path": None} for n in range(12)], STRUCT)
        return pa.table({"image": images, "label": [0, 1] * 6} | columns)

    return make


def write(table: pa.Table, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


# ------------------------------------------------------------------------------- Parquet: splits


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("default/partial-train/0000.parquet", "default/partial-test/0000.parquet"),
        ("cifar_train.parquet", "cifar_test.parquet"),
        ("0001_train.parquet", "0002_test.parquet"),
        ("trainset.parquet", "testset.parquet"),
        ("train.parquet", "eval.parquet"),
        ("train.parquet", "holdout.parquet"),
        ("split=train/part-0.parquet", "split=test/part-0.parquet"),
    ],
)
def test_shards_say_their_split_in_a_word(tmp_path, loaded, table, train, test) -> None:
    write(table(), tmp_path / "set" / train)
    write(table().slice(0, 4), tmp_path / "set" / test)
    data = loaded(tmp_path / "set")
    assert (len(data.full_train), len(data.test)) == (12, 4)


def test_a_shard_that_says_none_beside_others_is_refused(tmp_path, loaded, table) -> None:
    write(table(), tmp_path / "set/train.parquet")
    write(table(), tmp_path / "set/more.parquet")
    with pytest.raises(InvalidInput, match=r"'train.parquet' names a split, but 'more.parquet'"):
        loaded(tmp_path / "set")
    data = loaded(tmp_path / "set", splits={"train": "train.parquet", "test": "more.parquet"})
    assert len(data.test) == 12


def test_a_column_says_the_split_of_each_row(tmp_path, loaded, table) -> None:
    file = write(table(split=["train"] * 8 + ["test"] * 4), tmp_path / "set.parquet")
    assert len(loaded(file).test) == 4
    file = write(table(split=["1"] * 8 + ["2"] * 4), tmp_path / "set.parquet")
    with pytest.raises(InvalidInput, match=r"column 'split' must name splits, but '1' names none"):
        loaded(file)
    assert len(loaded(file, splits={"train": "1", "test": "2"}).test) == 4
    file = write(table(split=[0] * 8 + [1] * 4), tmp_path / "set.parquet")
    with pytest.raises(InvalidInput, match=r"column 'split' must name splits, but '0' names none"):
        loaded(file)


def test_a_column_counts_before_the_names_of_files(tmp_path, loaded, table) -> None:
    rows = table(split=["train"] * 8 + ["test"] * 4)
    write(rows, tmp_path / "set/train.parquet")
    write(rows, tmp_path / "set/more.parquet")
    assert len(loaded(tmp_path / "set").test) == 8


def test_splits_that_could_name_nothing_are_refused(tmp_path, loaded, table, arrays) -> None:
    splits = {"train": "a", "test": "b"}
    file = write(table(), tmp_path / "set.parquet")
    with pytest.raises(InvalidInput, match=r"data.splits: .* is a single file without that column"):
        loaded(file, splits=splits)
    np.savez(tmp_path / "set.npz", images=arrays[0], labels=arrays[1])
    with pytest.raises(InvalidInput, match=r"data.splits: the arrays of .* name their splits"):
        loaded(tmp_path / "set.npz", splits=splits)


# ------------------------------------------------------------------------------ Parquet: columns


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array(["dog", "cat"] * 6).dictionary_encode(), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 6, pa.string_view()), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 6, pa.large_string()), ("cat", "dog")),
        (pa.array([False, True] * 6), ("False", "True")),
        (pa.array([1, 2] * 6, pa.uint8()), ("1", "2")),
        (pa.array([10, 9] * 6).dictionary_encode(), ("9", "10")),
    ],
)
def test_labels_of_any_kind_are_read(tmp_path, loaded, table, labels, classes) -> None:
    assert loaded(write(table(label=labels), tmp_path / "set.parquet")).classes == classes


def test_names_of_classes_beside_labels_that_are_strings_are_refused(
    tmp_path, loaded, table
) -> None:
    features = {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    file = write(
        table(label=["a", "b"] * 6).replace_schema_metadata(metadata), tmp_path / "x.parquet"
    )
    with pytest.raises(InvalidInput, match=r"must be integers that index the class names, but the"):
        loaded(file)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_images_of_any_binary_kind_are_read(tmp_path, loaded, table, png, kind) -> None:
    images = pa.array([png(n) for n in range(12)], kind)
    file = write(table(image=images), tmp_path / "set.parquet")
    assert sum(loaded(file).summary.images.values()) == 12


@pytest.mark.parametrize("struct", [True, False])
def test_rows_that_hold_a_path_only_read_the_file(tmp_path, loaded, table, png, struct) -> None:
    (tmp_path / "images").mkdir()
    names = [f"images/{n}.png" for n in range(12)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(png(number))
    rows = [{"bytes": None, "path": name} for name in names]
    images = pa.array(rows, STRUCT) if struct else pa.array(names)
    file = write(table(image=images), tmp_path / "set.parquet")
    first = loaded(file)
    assert sum(first.summary.images.values()) == 12
    (tmp_path / names[0]).write_bytes(png(99))
    assert loaded(file).fingerprint != first.fingerprint  # although the table did not change


def test_a_path_never_leads_out_of_the_folder(tmp_path, loaded, table, png) -> None:
    (tmp_path / "secret.png").write_bytes(png(99))
    (tmp_path / "set").mkdir()
    for number in range(2, 12):
        (tmp_path / f"set/{number}.png").write_bytes(png(number))
    paths = ["../secret.png", str(tmp_path / "secret.png"), *(f"{n}.png" for n in range(2, 12))]
    file = write(table(image=pa.array(paths)), tmp_path / "set/set.parquet")
    skipped = loaded(file, max_bad=0.5).summary.skipped
    assert [each.reason for each in skipped] == [
        "it has no bytes, only a path that leads out of the data's folder"
    ] * 2


@pytest.mark.parametrize(
    "value",
    [{"bytes": 1_500_000_000, "path": None}, {"bytes": [1, 2, 300], "path": None}],
)
def test_numbers_in_place_of_bytes_are_no_images(tmp_path, loaded, table, value) -> None:
    """`bytes(1_500_000_000)` would make so many."""
    file = write(table(image=pa.array([value] * 12)), tmp_path / "set.parquet")
    with pytest.raises(InvalidInput, match=r"there is no image column among: image, label"):
        loaded(file)


def test_a_path_that_is_a_number_is_no_path(tmp_path, loaded, table, png) -> None:
    images = pa.array([{"bytes": png(n), "path": n} for n in range(12)])
    with pytest.raises(InvalidInput, match=r"there is no image column"):
        loaded(write(table(image=images), tmp_path / "set.parquet"))


def test_labels_too_large_to_count_are_refused(tmp_path, loaded, table) -> None:
    labels = pa.array([2**64 - 1, 5] * 6, pa.uint64())
    with pytest.raises(InvalidInput, match=r"labels must be below 2\^63, but 'label' has larger"):
        loaded(write(table(label=labels), tmp_path / "set.parquet"))


@pytest.mark.parametrize(
    "metadata",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b"\xff\xfe",
        json.dumps({"info": {"features": {"label": {"_type": ["ClassLabel"], "names": {}}}}}),
    ],
)
def test_metadata_that_say_nothing_are_passed_over(tmp_path, loaded, table, metadata) -> None:
    table = table().replace_schema_metadata({"huggingface": metadata})
    assert loaded(write(table, tmp_path / "set.parquet")).classes == ("0", "1")


def test_control_characters_of_a_name_are_escaped(tmp_path, loaded, table) -> None:
    table = table().rename_columns(["image", "la\x1b[31mbel"])
    with pytest.raises(InvalidInput, match=r"among: image, la\\x1b\[31mbel"):
        loaded(write(table, tmp_path / "set.parquet"))


def test_rows_are_read_by_their_bytes(tmp_path, table, monkeypatch) -> None:
    """One cell, repeated by a dictionary, is stored once and would be 64 times in memory."""
    cell = b"\0" * 1_000_000
    file = write(table(image=pa.array([cell] * 12)), tmp_path / "set.parquet")
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 2_100_000)
    with parquet._reading(file) as opened:
        assert parquet._rows_at_once(opened) == 2
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 10)
    items: list[Item] = list(parquet._items([file], "image", str(tmp_path), set()))
    assert [item.size for item in items] == [1_000_000] * 12


def test_a_large_row_group_is_never_whole_in_memory(tmp_path, monkeypatch) -> None:
    cells = pa.array([random.Random(n).randbytes(10_000) for n in range(1_000)], pa.binary())
    table = pa.table({"image": cells, "label": [0, 1] * 500})
    options = {"row_group_size": 1_000, "write_batch_size": 10, "data_page_size": 100_000}
    file = write(table, tmp_path / "set.parquet", use_dictionary=False, **options)
    del table, cells
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 100_000)
    monkeypatch.setattr(parquet, "_BUFFER", 100_000)
    pool = pa.default_memory_pool()
    before, held, read = pool.bytes_allocated(), 0, 0
    for item in parquet._items([file], "image", str(tmp_path), set()):
        read += item.size
        held = max(held, pool.bytes_allocated() - before)
    assert read == 10_000_000
    assert 100_000 < held < 500_000  # pages of 100 kB: compressed, expanded, a batch


@pytest.mark.parametrize("column", ["image", "label", "split"])
def test_a_row_group_that_expands_to_gigabytes_is_refused(
    tmp_path, loaded, table, monkeypatch, column: str
) -> None:
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 1_000_000)
    cells = {
        column: pa.array([b"\0" * 200_000] * 12 if column == "image" else ["x" * 200_000] * 12)
    }
    columns = {"split": ["train"] * 12} | cells
    file = write(
        table(**columns), tmp_path / "set.parquet", use_dictionary=False, compression="zstd"
    )
    with pytest.raises(InvalidInput, match=r"bytes expand to 2,4[\d,]+ in a row group"):
        loaded(file)


def test_damaged_metadata_of_a_column_end_in_a_sentence(tmp_path, table) -> None:
    """pyarrow raises where they are read, and ends the process where they are looked at."""
    file = write(table(), tmp_path / "set.parquet")
    content = bytearray(file.read_bytes())
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from experiments.config import DataConfig\n"
        "from experiments.data.parquet import open_parquet\n"
        "from space.validation import InvalidInput\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try:\n"
        "        found = open_parquet(path, DataConfig(source=str(path))).read()\n"
        "        sum(item.size for item in found.items())\n"
        "    except InvalidInput:\n"
        "        pass\n"
    )
    for at in range(start, len(content) - 8, 3):
        changed = content.copy()
        changed[at] ^= 0x19
        (tmp_path / f"{at}.parquet").write_bytes(changed)
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_rows_that_take_no_bytes_are_refused(tmp_path, loaded) -> None:
    columns = {"image": pa.array([b""] * 200_000), "label": np.zeros(200_000, np.int8)}
    file = write(pa.table(columns), tmp_path / "set.parquet")
    with pytest.raises(InvalidInput, match=r"200,000 rows in [\d,]+ bytes cannot be images"):
        loaded(file)


def test_a_label_as_long_as_a_book_is_refused(tmp_path, loaded, table) -> None:
    """Each row of an array of strings would be as long."""
    message = r"at most 255 characters, but 'label' has one of 100,000"
    long = pa.array(["x" * 100_000, "y"] * 6)
    for labels in (long, long.dictionary_encode()):
        with pytest.raises(InvalidInput, match=message):
            loaded(write(table(label=labels), tmp_path / "set.parquet"))


WORDS = pa.array(["train", None] * 6)


@pytest.mark.parametrize("column", ["label", "split"])
@pytest.mark.parametrize("words", [WORDS, WORDS.cast(pa.string_view()), WORDS.dictionary_encode()])
def test_missing_words_are_counted(tmp_path, loaded, table, column: str, words: pa.Array) -> None:
    file = write(table(**{column: words}), tmp_path / "set.parquet")
    with pytest.raises(InvalidInput, match=rf"column '{column}' has no value in 6 rows"):
        loaded(file)


# ------------------------------------------------------------------------------------------ .npz


@pytest.fixture
def arrays(picture) -> tuple[Any, Any]:
    return np.stack([picture(n) for n in range(12)]), np.arange(12) % 2


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("X_train", "Y_train", "X_valid", "Y_valid", "X_test", "Y_test"),
    ],
)
def test_arrays_are_known_by_the_names_of_medmnist_and_keras(
    tmp_path, loaded, arrays, names
) -> None:
    images, labels = arrays
    cuts = [slice(0, 6), slice(0, 6), slice(6, 8), slice(6, 8), slice(8, 12), slice(8, 12)]
    values = [images, labels[:, None].astype(np.uint8)] * 3
    pairs = zip(names, values, cuts, strict=True)
    np.savez(tmp_path / "set.npz", **{name: value[cut] for name, value, cut in pairs})
    data = loaded(tmp_path / "set.npz")
    assert data.summary.images == {"train": 6, "held_out": 2, "test": 4}
    assert data.classes == ("0", "1")


def test_labels_of_two_types_of_integers_are_integers(tmp_path, loaded, arrays) -> None:
    parts = {"x_train": arrays[0], "y_train": arrays[1].astype(np.uint64)}
    np.savez(tmp_path / "set.npz", **parts, x_test=arrays[0][:2], y_test=arrays[1][:2])
    assert loaded(tmp_path / "set.npz").classes == ("0", "1")


def test_labels_may_be_names(tmp_path, loaded, arrays) -> None:
    for kind in (str, bytes):
        names = np.array(["dog", "cat"]).astype(kind)[arrays[1]]
        np.savez(tmp_path / "set.npz", images=arrays[0], labels=names)
        assert loaded(tmp_path / "set.npz").classes == ("cat", "dog")


def archive(path: Path, *, method: int = zipfile.ZIP_DEFLATED, **members: Any) -> Path:
    """An .npz of arrays, or of members as bytes."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, value in members.items():
            stream = io.BytesIO()
            if isinstance(value, bytes):
                stream.write(value)
            else:
                np.save(stream, value, allow_pickle=True)
            file.writestr(f"{name}.npy", stream.getvalue())
    return path


def head(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    stream = io.BytesIO()
    described = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def flagged(content: bytes, local: int, central: int, value: int) -> bytes:
    """The archive with a byte of every member's headers replaced."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = changed.find(signature)
        while at >= 0:
            changed[at + offset] = value
            at = changed.find(signature, at + 4)
    return bytes(changed)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"images": head((12, -8, -24)) + bytes(12 * 192)}, "does not fit its size"),
        ({"images": head((-12, 8, 8)) + bytes(768)}, "does not fit its size"),
        ({"images": head((2**40, 8, 8)) + bytes(768)}, "does not fit its size"),
        ({"labels": head((2**33,), "<i8") + bytes(96)}, "does not fit its size"),
        ({"images": b"\x93NUMPY\x01\0\x10\0{'descr': (((((("}, "cannot be read"),
        ({"images": b"\x93NUMPY\x09\x09"}, "cannot be read"),
        ({"images": b""}, "cannot be read"),
        ({"labels": np.array([None] * 12)}, "must be 12 integers or strings"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path, loaded, arrays, members, reason: str) -> None:
    members = {"images": arrays[0], "labels": arrays[1]} | members
    with pytest.raises(InvalidInput, match=reason):
        loaded(archive(tmp_path / "set.npz", **members))


@pytest.mark.parametrize(
    ("local", "central", "value"), [(6, 8, 1), (8, 10, 99)], ids=["encrypted", "compression"]
)
def test_archives_that_are_not_opened_are_told(tmp_path, loaded, arrays, local, central, value):
    file = archive(tmp_path / "set.npz", images=arrays[0], labels=arrays[1])
    file.write_bytes(flagged(file.read_bytes(), local, central, value))
    with pytest.raises(InvalidInput, match=r"this .npz file cannot be read"):
        loaded(file)


def test_a_stream_that_breaks_in_the_middle_is_told(tmp_path, loaded, arrays) -> None:
    file = archive(tmp_path / "set.npz", images=arrays[0], labels=arrays[1])
    content = bytearray(file.read_bytes())
    content[1200:1240] = bytes(40)
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"this .npz file cannot be read"):
        loaded(file)
