"""Every format is read as it stands, and whatever is wrong with it is told in a sentence."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.data.load import Data
from space.validation import InvalidInput


def content(data: Data) -> Counter[tuple[str, bytes]]:
    """Which pictures a data set holds, and of which class, whatever the part."""
    found: Counter[tuple[str, bytes]] = Counter()
    for part in (data.train, data.held_out, data.test):
        pixels = part.read(np.arange(len(part)))
        found.update(
            (data.classes[label], image.tobytes())
            for label, image in zip(part.labels, pixels, strict=True)
        )
    return found


def sizes(data: Data) -> dict[str, int]:
    return data.summary.images


# ------------------------------------------------------------------------------------ folder trees


def test_class_folders_are_classes_sorted_by_name(tree, loaded, picture) -> None:
    data = loaded(tree({"b": 4, "a": 4, "c/deeper": 4}))
    assert data.classes == ("a", "b", "c")
    expected = [(name, range(4 * i, 4 * i + 4)) for i, name in enumerate("bac")]
    assert content(data) == Counter(
        (name, picture(number).tobytes()) for name, numbers in expected for number in numbers
    )
    assert sizes(data) == {"train": 6, "held_out": 3, "test": 3}


def test_train_val_and_test_folders_are_the_parts(tree, loaded) -> None:
    counts = {"train": 5, "val": 2, "test": 3}
    data = loaded(tree({f"{part}/{name}": n for part, n in counts.items() for name in "ab"}))
    assert sizes(data) == {"train": 10, "held_out": 4, "test": 6}
    assert len(data.full_train) == 14


def test_a_validation_folder_without_a_test_folder_is_the_test_set(tree, loaded) -> None:
    data = loaded(tree({f"{p}/{name}": 10 for p in ("Train", "Validation") for name in "ab"}))
    assert sizes(data) == {"train": 18, "held_out": 2, "test": 20}
    assert any("the validation split is the test set" in line for line in data.summary.warnings)


def test_a_class_may_be_called_train_or_test(tree, loaded) -> None:
    data = loaded(tree({"train": 4, "plane": 4, "test": 4}))
    assert data.classes == ("plane", "test", "train")


def test_hidden_and_other_files_are_no_images(tree, loaded) -> None:
    root = tree({"a": 5, "b": 5})
    for name in ("a/.DS_Store", "a/._0.png", "a/notes.txt", "stray.png", ".hidden/0.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"no image")
    data = loaded(root)
    assert sum(sizes(data).values()) == 10
    assert data.summary.warnings == (
        "1 file left out (no image's suffix): 'a/notes.txt'.",
        "1 image left out (in no class folder): 'stray.png'.",
    )


def test_folder_names_are_data_and_never_paths(tree, loaded) -> None:
    names = ("C:\\up", "a\nb", "<script>", "con", "*", "ünï — 猫")
    data = loaded(tree(dict.fromkeys(names, 3)))
    assert set(data.classes) == {"C:\\up", "a\\nb", "<script>", "con", "*", "ünï — 猫"}
    json.dumps(data.summary.to_dict()).encode()


def test_a_folder_name_that_is_not_unicode_is_escaped(tree, loaded) -> None:
    root = tree({"a": 3, "b": 3})
    (root / "b").rename(root / os.fsdecode(b"\xff"))
    data = loaded(root)
    assert data.classes == ("a", "\\udcff")
    json.dumps(data.summary.to_dict()).encode()


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"a": 3}, r"at least two classes are needed, but got only 'a'"),
        (
            {"a": 3, "b": 1},
            r"every class needs at least 3 usable .* such as 'b' with 1; add",
        ),
        ({"train": 3, "val": 3}, r"a folder train/ with one folder per class is needed"),
        ({"val/a": 3, "test/a": 3}, r"a folder train/ with one folder per class is needed beside"),
        ({"train/a": 3, "b": 3}, r"'train' looks like a split and 'b' like a class"),
        (
            {"train/a": 3, "train/b": 3, "test/c": 3},
            r"every class needs a folder with images in train/, but 'test/c' has no such folder",
        ),
        ({"a": 0, "b": 0}, r"one folder per class with images in it is needed, but found 0 images"),
    ],
)
def test_a_tree_that_is_no_data_set_is_told_why(
    tree, loaded, folders: dict[str, int], message: str
) -> None:
    root = tree(folders)
    with pytest.raises(InvalidInput, match=message) as error:
        loaded(root)
    assert str(error.value).startswith(str(root))
    assert "\n" not in str(error.value)


def test_names_that_look_the_same_are_duplicates(tree, loaded) -> None:
    root = tree({"caf\u00e9": 3, "cafe\u0301": 3, "x": 3})
    with pytest.raises(InvalidInput, match=r"names must differ, but 2 classes are called 'café'"):
        loaded(root)


def test_capital_letters_make_another_class(tree, loaded) -> None:
    assert loaded(tree({"A": 3, "a": 3})).classes == ("A", "a")


# -------------------------------------------------------------------------------------- bad images


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _: b"", "it has zero bytes"),
        (lambda _: b"GIF", "it is not an image of a known format"),
        (lambda data: data[:60], "it does not decode"),
    ],
)
def test_a_bad_image_is_reported_by_name_and_skipped(
    tree, loaded, damage: Any, reason: str
) -> None:
    root = tree({"a": 10, "b": 10})
    (root / "a/3.png").write_bytes(damage((root / "a/3.png").read_bytes()))
    data = loaded(root, max_bad=0.05)
    assert sum(sizes(data).values()) == 19
    [skipped] = data.summary.skipped
    assert skipped.name == "a/3.png"
    assert skipped.reason.startswith(reason)
    [warning] = data.summary.warnings
    assert warning.startswith(f"1 image left out: 'a/3.png': {reason}")


def test_an_image_with_too_many_pixels_is_skipped(tree, loaded) -> None:
    root = tree({"a": 10, "b": 10})
    with pytest.raises(InvalidInput, match=r"20 of 20 images .* more than data.max_pixels \(63\)"):
        loaded(root, max_pixels=63)
    assert sum(sizes(loaded(root, max_pixels=64)).values()) == 20
    with pytest.raises(InvalidInput, match=r"data.max_pixels: Pillow decodes at most 178,956,970"):
        loaded(root, max_pixels=10**9)


def test_links_out_of_the_tree_are_skipped_and_links_inside_are_followed(
    tree, loaded, tmp_path, png
) -> None:
    root = tree({"a": 10, "b": 10})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(png(1000))
    (root / "a/link.png").symlink_to(outside / "secret.png")
    (root / "a/up.png").symlink_to("../../outside/secret.png")
    (root / "b/folder").symlink_to(outside)
    (root / "b/nothing.png").symlink_to("nowhere.png")
    (root / "b/circle").symlink_to(root)
    (root / "c").symlink_to("b")
    (root / "a/inside.png").symlink_to(root / "b/0.png")
    data = loaded(root, max_bad=0.5)
    assert data.classes == ("a", "b", "c")
    assert sum(sizes(data).values()) == 10 + 10 + 10 + 1
    out = (
        "it is a symbolic link that leads out of the folder (`data.follow_links: true` follows it)"
    )
    reasons = dict(data.summary.skipped)
    assert reasons == {
        "a/link.png": out,
        "a/up.png": out,
        "b/circle": "it is a symbolic link to a folder that contains it",
        "b/folder": out,
        "b/nothing.png": "it is a symbolic link to nothing",
        "c/circle": "it is a symbolic link to a folder that contains it",
        "c/folder": out,
        "c/nothing.png": "it is a symbolic link to nothing",
    }


def test_a_file_too_large_for_an_image_is_not_opened(tree, loaded) -> None:
    root = tree({"a": 5, "b": 5})
    os.truncate(root / "a/0.png", 1_000_000_001)
    [skipped] = loaded(root, max_bad=0.5).summary.skipped
    assert skipped == ("a/0.png", "it has 1,000,000,001 bytes, more than any image")


def test_what_is_no_file_is_not_opened(tree, loaded) -> None:
    """Reading a pipe would wait for ever."""
    root = tree({"a": 5, "b": 5})
    os.mkfifo(root / "a/pipe.png")
    assert sum(sizes(loaded(root)).values()) == 10


def test_a_file_that_cannot_be_read_is_told(tree, loaded, monkeypatch) -> None:
    """It may be whole, so leaving it out, and remembering that, would be wrong."""
    root = tree({"a": 5, "b": 5})

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        InvalidInput, match=r"a/0.png: this image cannot be read \(Permission denied"
    ):
        loaded(root)


def test_more_bad_images_than_allowed_stop_the_run(tree, loaded) -> None:
    root = tree({"a": 50, "b": 50})
    for index in range(2):
        (root / f"a/{index}.png").write_bytes(b"")
    with pytest.raises(
        InvalidInput,
        match=r"2 of 100 images cannot be used, which is more than data.max_bad \(1.00%\): "
        r"'a/0.png': it has zero bytes; 'a/1.png': it has zero bytes; repair or remove them",
    ):
        loaded(root)
    assert len(loaded(root, max_bad=0.02).summary.skipped) == 2


def test_a_class_that_loses_all_its_images_is_told(tree, loaded) -> None:
    root = tree({"a": 10, "b": 3})
    for file in (root / "b").iterdir():
        file.write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"such as 'b' with 0"):
        loaded(root, max_bad=0.9)


# ----------------------------------------------------------------------------------------- Parquet


def write_parquet(
    path: Path,
    images: list[bytes | None],
    labels: list[Any],
    names: list[str] | None = None,
    columns: tuple[str, str] = ("image", "label"),
) -> Path:
    """A file as Hugging Face's `datasets` writes it; without `names` there is no metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({columns[0]: pa.array(structs, kind), columns[1]: labels})
    if names is not None:
        features = {
            columns[0]: {"_type": "Image"},
            columns[1]: {"names": names, "_type": "ClassLabel"},
        }
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=3)
    return path


def test_parquet_splits_and_names_are_those_of_the_data_set(tmp_path, loaded, png) -> None:
    root, names = tmp_path / "set", ["zebra", "ant"]
    first = [png(i) for i in range(4)]
    write_parquet(root / "data/train-00000-of-00002.parquet", first, [0, 1, 0, 1], names)
    second = [png(i) for i in range(4, 8)]
    write_parquet(root / "data/train-00001-of-00002.parquet", second, [0, 1, 0, 1], names)
    write_parquet(root / "data/test-00000-of-00001.parquet", [png(8), png(9)], [0, 1], names)
    write_parquet(root / "data/validation-00000-of-00001.parquet", [png(10)], [0], names)
    data = loaded(root)
    assert data.classes == ("zebra", "ant")
    assert sizes(data) == {"train": 8, "held_out": 1, "test": 2}
    assert data.summary.format == "parquet"


def test_split_folders_and_a_single_file_are_read_too(tmp_path, loaded, png) -> None:
    images = [png(i) for i in range(8)]
    root = tmp_path / "set"
    file = write_parquet(root / "default/test/0000.parquet", images, [0, 1] * 4, ["a", "b"])
    assert sum(sizes(loaded(file)).values()) == 8
    with pytest.raises(InvalidInput, match=r"every class needs training images"):
        loaded(root)
    write_parquet(root / "default/train/0000.parquet", images, [0, 1] * 4, ["a", "b"])
    assert sizes(loaded(root)) == {"train": 6, "held_out": 2, "test": 8}


@pytest.mark.parametrize(
    ("labels", "classes"), [([7, 3, 7, 3, 7, 3], ("3", "7")), (list("yxyxyx"), ("x", "y"))]
)
def test_without_names_the_labels_are_the_classes(
    tmp_path, loaded, png, picture, labels: list[Any], classes: tuple[str, str]
) -> None:
    file = write_parquet(tmp_path / "set.parquet", [png(i) for i in range(6)], labels)
    data = loaded(file)
    assert data.classes == classes
    assert content(data) == Counter(
        (str(label), picture(i).tobytes()) for i, label in enumerate(labels)
    )


def test_the_finest_of_several_labels_counts(tmp_path, loaded, png) -> None:
    """As in CIFAR-100, which has fine and coarse labels and calls its images `img`."""
    images = [{"bytes": png(i), "path": None} for i in range(9)]
    table = pa.table({"coarse": [0, 1, 0] * 3, "img": images, "fine": [0, 1, 2] * 3})
    features = {
        "coarse": {"names": ["x", "y"], "_type": "ClassLabel"},
        "img": {"_type": "Image"},
        "fine": {"names": ["a", "b", "c"], "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "set.parquet")
    assert loaded(tmp_path / "set.parquet").classes == ("a", "b", "c")


def test_an_unlabelled_test_split_is_left_out(tmp_path, loaded, png) -> None:
    """As in ImageNet, whose test labels are all -1 and whose validation split is what people test
    on."""
    root, names = tmp_path / "set", ["a", "b"]
    for split, labels in {"train": [0, 1] * 4, "validation": [0, 1], "test": [-1, -1]}.items():
        images = [png(i) for i in range(len(labels))]
        write_parquet(root / f"{split}-00000-of-00001.parquet", images, labels, names)
    data = loaded(root)
    assert sizes(data) == {"train": 6, "held_out": 2, "test": 2}
    assert "The test files are not used: they have no labels (all are -1)." in data.summary.warnings


def test_a_row_without_bytes_is_reported_by_name(tmp_path, loaded, png) -> None:
    images = [None, *(png(i) for i in range(1, 9))]
    data = loaded(write_parquet(tmp_path / "s.parquet", images, [0, 1, 0] * 3), max_bad=0.2)
    assert data.summary.skipped == (
        (
            "s.parquet row 0 (0.png)",
            "it has no bytes, only a path, and there is no such file beside the table",
        ),
    )


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (
            [0, 1, 2, 0],
            ["a", "b"],
            r"labels must be 0 … 1 for 2 classes, but got 2 \(1 image\)",
        ),
        ([0, -1, 1, 0], ["a", "b"], r"labels must be 0 … 1 for 2 classes, but got -1"),
        ([0, -1, 1, 0], None, r"labels must not be negative, but got -1 \(1 image\)"),
        ([0, 1, 0, 1], ["a", "a"], r"class names must differ, but 2 classes are called 'a'"),
        ([0, 1, 0, 1], ["a", "b", "c"], r"every class needs training images, but 1 of 3 .*'c'"),
        ([0, 0, 0, 0], None, r"at least two classes are needed, but got only '0'"),
        ([0, None, 1, 0], None, r"column 'label' has no value in 1 row"),
        (
            [0.5, 1.0, 2.0, 3.0],
            None,
            r"column 'label' must hold integers, strings .* is double",
        ),
    ],
)
def test_bad_labels_are_told(
    tmp_path, loaded, png, labels: list[Any], names: list[str] | None, message: str
) -> None:
    file = write_parquet(tmp_path / "set.parquet", [png(i) for i in range(4)], labels, names)
    with pytest.raises(InvalidInput, match=message) as error:
        loaded(file)
    assert str(error.value).startswith(str(file))


def test_missing_columns_are_told(tmp_path, loaded, png) -> None:
    write_parquet(tmp_path / "a.parquet", [png(0)], [0], columns=("image", "wrong"))
    with pytest.raises(InvalidInput, match=r"there is no label column among: image, wrong$"):
        loaded(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["x"], "label": [0]}), tmp_path / "b.parquet")
    with pytest.raises(InvalidInput, match=r"there is no image column among: text, label$"):
        loaded(tmp_path / "b.parquet")


def test_files_of_different_classes_are_told(tmp_path, loaded, png) -> None:
    root, images = tmp_path / "set", [png(i) for i in range(4)]
    write_parquet(root / "train.parquet", images, [0, 1] * 2, ["a", "b"])
    write_parquet(root / "test.parquet", images, [0, 1] * 2, ["b", "a"])
    with pytest.raises(InvalidInput, match=r"same columns and class names, but test.parquet has"):
        loaded(root)


def test_a_files_name_says_its_split_before_its_folders(tmp_path, loaded, png) -> None:
    root, images = tmp_path / "set", [png(i) for i in range(8)]
    write_parquet(root / "test_of_mine/train-0.parquet", images, [0, 1] * 4)
    write_parquet(root / "test_of_mine/test-0.parquet", images[:2], [0, 1])
    assert sizes(loaded(root)) == {"train": 6, "held_out": 2, "test": 2}


def test_damaged_parquet_files_are_told(tmp_path, loaded, png) -> None:
    root = tmp_path / "set"
    file = write_parquet(root / "train-0.parquet", [png(i) for i in range(6)], [0, 1] * 3)
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(InvalidInput, match=r"this Parquet file cannot be read .* fetch it again"):
        loaded(root)
    file.write_bytes(whole)
    (root / "train-1.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(InvalidInput, match=r"'train-1.parquet' cannot be used: it is a symbolic"):
        loaded(root)


def test_a_snapshot_of_links_in_a_hub_cache_is_read(tmp_path, loaded, png) -> None:
    blob = write_parquet(tmp_path / "datasets--x/blobs/abc", [png(i) for i in range(6)], [0, 1] * 3)
    snapshot = tmp_path / "datasets--x/snapshots/123"
    snapshot.mkdir(parents=True)
    (snapshot / "train-00000-of-00001.parquet").symlink_to(blob)
    assert sum(sizes(loaded(snapshot)).values()) == 6


# -------------------------------------------------------------------------------------------- .npz


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_are_read_image_by_image(tmp_path, loaded, picture, compressed: bool) -> None:
    images, labels = np.stack([picture(i) for i in range(6)]), np.array([0, 1] * 3, np.uint8)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "set.npz", images=images, labels=labels, classes=np.array(["x", "y"]))
    data = loaded(tmp_path / "set.npz")
    assert data.classes == ("x", "y")
    assert content(data) == Counter(("xy"[i % 2], picture(i).tobytes()) for i in range(6))


def test_grey_arrays_become_the_channels_asked_for(tmp_path, loaded, picture) -> None:
    images, labels = np.stack([picture(i)[..., 0] for i in range(6)]), np.array([4, 9] * 3)
    file = write_npz(tmp_path / "set.npz", images=images, labels=labels)
    data = loaded(file, channels=1)
    assert data.classes == ("4", "9")
    assert data.train.channels == 1
    assert data.train.read(np.array([0])).shape == (1, 8, 8, 1)
    colour = loaded(file).train.read(np.array([0]))
    assert (colour == colour[..., :1]).all()


OK = {"images": np.zeros((6, 8, 8, 3), np.uint8), "labels": np.array([0, 1, 0, 1, 0, 1])}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": OK["images"]},
            r"`images` and `labels` are needed .* it has: images$",
        ),
        ({"photos": OK["images"], "labels": OK["labels"]}, r"but it has: photos, labels$"),
        (
            OK | {"images": np.zeros((6, 8, 8, 3), np.float32)},
            r"`images` must be uint8 of shape .* but got float32 \(6, 8, 8, 3\)",
        ),
        (OK | {"images": np.zeros((6, 192), np.uint8)}, r"but got uint8 \(6, 192\)"),
        (OK | {"images": np.zeros((6, 3, 8, 8), np.uint8)}, r"but got uint8 \(6, 3, 8, 8\)"),
        (OK | {"images": np.zeros((6, 0, 8), np.uint8)}, r"must have 1 … 178,956,970 pixels"),
        (OK | {"images": OK["images"].astype(object)}, r"but got object \(6, 8, 8, 3\)"),
        (
            OK | {"images": np.asfortranarray(OK["images"])},
            r"is in Fortran order; save numpy.ascontiguousarray\(images\)",
        ),
        (
            OK | {"labels": np.array([0, 1, 0])},
            r"must be 6 integers or .* but got int64 \(3,\)",
        ),
        (OK | {"labels": np.eye(6)}, r"must be 6 integers or strings, .* but got float64 \(6, 6\)"),
        (OK | {"labels": np.array([None] * 6)}, r"integers or strings, .* object \(6,\)"),
        (
            OK | {"labels": np.array([0, 1, -2, 1, 0, 1])},
            r"labels must not be negative, but got -2",
        ),
        (OK | {"classes": np.array([1, 2])}, r"`classes` must be a list of strings, but got int64"),
        (OK | {"classes": np.array(["a"])}, r"at least two classes are needed, but got only 'a'"),
        (
            OK | {"classes": np.array(["a", "b"]), "labels": np.array([0, 1, 0, 2, 0, 1])},
            r"labels must be 0 … 1 for 2 classes, but got 2",
        ),
    ],
)
def test_arrays_that_are_no_data_set_are_told_why(
    tmp_path, loaded, arrays: dict[str, Any], message: str
) -> None:
    file = write_npz(tmp_path / "set.npz", **arrays)
    with pytest.raises(InvalidInput, match=message) as error:
        loaded(file)
    assert str(error.value).startswith(str(file))


def test_a_damaged_archive_is_told(tmp_path, loaded) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK no archive")
    with pytest.raises(InvalidInput, match=r"a.npz: this .npz file cannot be read \(File is"):
        loaded(tmp_path / "a.npz")
    whole = write_npz(tmp_path / "b.npz", **OK).read_bytes()
    middle = whole.index(b"images.npy") + 60
    (tmp_path / "b.npz").write_bytes(whole[:middle] + b"\0" * 40 + whole[middle + 40 :])
    with pytest.raises(InvalidInput, match=r"b.npz: this .npz file cannot be read"):
        loaded(tmp_path / "b.npz")


# ------------------------------------------------------------------------------ which reader it is


def test_the_format_is_recognised_and_can_be_named(tree, loaded, tmp_path, png) -> None:
    root = tree({"a": 3, "b": 3})
    assert loaded(root).summary.format == "folder"
    write_parquet(root / "a/set.parquet", [png(i) for i in range(6)], [0, 1] * 3)
    assert loaded(root).summary.format == "parquet"
    assert loaded(root, format="folder").summary.format == "folder"
    assert loaded(write_npz(tmp_path / "s.npz", **OK), format="npz").summary.format == "npz"


@pytest.mark.parametrize(
    ("name", "format_", "message"),
    [
        ("nowhere", "auto", r"data.source: .*nowhere not found; give the path"),
        ("file.txt", "auto", r"data.source: .*file.txt must be a folder with one subfolder"),
        ("empty", "auto", r"data.source: .*empty must be a folder with one subfolder"),
        ("file.txt", "folder", r"data.format: 'folder' does not fit .*, which is a file"),
        ("empty", "npz", r"data.format: 'npz' does not fit .*empty, which is a folder"),
        ("empty", "parquet", r"empty: no .parquet file found"),
    ],
)
def test_a_source_of_no_known_format_is_told(
    tmp_path, loaded, name: str, format_: str, message: str
) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=message):
        loaded(tmp_path / name, format=format_)


def test_the_same_images_are_the_same_data_in_every_format(tree, loaded, tmp_path, png) -> None:
    names = ["a", "b"]
    root = tree({"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2})
    folder = tmp_path / "parquet"
    encoded = [png(i) for i in range(16)]
    order = [11, 3, 0, 7, 1, 2, 10, 9, 8, 4, 5, 6]
    labels = [number // 6 for number in order]
    write_parquet(folder / "train.parquet", [encoded[i] for i in order], labels, names)
    write_parquet(folder / "test.parquet", encoded[12:], [0, 0, 1, 1], names)
    one, two = loaded(root), loaded(folder)
    assert one.fingerprint == two.fingerprint
    for part in ("train", "held_out", "test", "full_train"):
        first, second = getattr(one, part), getattr(two, part)
        assert first.labels.tolist() == second.labels.tolist()
        every = np.arange(len(first))
        assert np.array_equal(first.read(every), second.read(every))


def test_cifar10_is_the_same_as_parquet_and_as_a_folder_tree(shared, loaded, tmp_path) -> None:
    """A part of it: 20 images a class."""
    source = pq.ParquetFile(shared / "data/cifar10/test-00000-of-00001.parquet")
    table = source.read_row_group(0).to_pandas()
    table = table.groupby("label").head(20).reset_index(drop=True)
    names = json.loads(source.schema_arrow.metadata[b"huggingface"])["info"]["features"]["label"][
        "names"
    ]
    for index, row in table.iterrows():
        path = tmp_path / "tree" / names[row["label"]] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])
    images = [row["bytes"] for row in table["image"]]
    file = write_parquet(tmp_path / "set.parquet", images, table["label"].tolist(), names)
    one, two = loaded(file, resolution=32), loaded(tmp_path / "tree", resolution=32)
    assert one.fingerprint == two.fingerprint
    assert sizes(one) == {"train": 162, "held_out": 18, "test": 20}
    every = np.arange(len(one.train))
    assert np.array_equal(one.train.read(every), two.train.read(every))
