"""Folder trees as people have them: splits and classes are told apart, or the user is asked."""

from pathlib import Path

import pytest

from space.validation import InvalidInput


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("asl_alphabet_train/asl_alphabet_train", "asl_alphabet_test/asl_alphabet_test"),
        ("train_data", "test_data"),
        ("images/train", "images/test"),
        ("archive/photos/train", "archive/photos/test"),
        ("train", "eval"),
        ("Train", "holdout"),
        ("train2", "testset"),
    ],
)
def test_splits_are_known_by_their_words_nested_once_or_twice(tree, loaded, train, test) -> None:
    data = loaded(
        tree({f"{part}/{name}": n for part, n in ((train, 6), (test, 4)) for name in "ab"})
    )
    assert data.classes == ("a", "b")
    assert len(data.full_train) == 12
    assert len(data.test) == 8


def test_a_train_folder_alone_holds_the_classes(tree, loaded) -> None:
    assert loaded(tree({"train/a": 6, "train/b": 6})).classes == ("a", "b")


@pytest.mark.parametrize("around", ["flower_photos", "archive/flower_photos"])
def test_a_single_folder_around_the_classes_is_seen_through(tree, loaded, around: str) -> None:
    assert loaded(tree({f"{around}/a": 6, f"{around}/b": 6})).classes == ("a", "b")


def test_images_may_lie_deeper_in_their_class(tree, loaded) -> None:
    root = tree({"cat/siamese": 4, "cat/persian": 4, "dog/poodle": 8})
    assert loaded(root).classes == ("cat", "dog")


def test_every_class_may_keep_its_images_in_a_folder_of_the_same_name(tree, loaded) -> None:
    """As Tiny ImageNet does."""
    assert loaded(tree({"n01/images": 6, "n02/images": 6})).classes == ("n01", "n02")


def test_classes_with_the_same_subfolders_are_refused_until_they_are_named(tree, loaded) -> None:
    root = tree({f"{part}/{name}": 6 for part in ("part1", "part2") for name in ("cat", "dog")})
    with pytest.raises(
        InvalidInput,
        match=r"'part1', 'part2' hold the same subfolders \('cat', 'dog'\), .* data.splits",
    ):
        loaded(root)
    data = loaded(root, splits={"train": "part1", "test": "part2"})
    assert data.classes == ("cat", "dog")
    assert len(data.test) == 12
    assert loaded(root, splits={"train": "."}).classes == ("part1", "part2")
    assert loaded(root, splits={"train": "part*"}).summary.images["train"] > 12


def test_one_folder_too_high_is_refused(tree, loaded) -> None:
    """As with a repository that has `Dataset/0 … 9` and `Examples/*.jpg`."""
    root = tree({**{f"Dataset/{digit}": 4 for digit in range(3)}, "Examples": 3})
    with pytest.raises(
        InvalidInput,
        match=r"'Dataset' holds 3 folders of images and 'Examples' holds images, so they are "
        r"hardly two classes; give .*/tree/Dataset, or `data.splits: {train: Dataset}`",
    ):
        loaded(root)
    assert loaded(root / "Dataset").classes == ("0", "1", "2")
    assert loaded(root, splits={"train": "Dataset"}).classes == ("0", "1", "2")


def test_flat_splits_without_class_folders_are_refused(tree, loaded) -> None:
    with pytest.raises(InvalidInput, match=r"a folder train/ with one folder per class is needed"):
        loaded(tree({"train_images": 6, "test_images": 6}))


@pytest.mark.parametrize("test", ["test", "test/images", "test/test"])
def test_unlabelled_test_images_are_left_out_and_said(tree, loaded, test: str) -> None:
    summary = loaded(tree({"train/a": 8, "train/b": 8, test: 4})).summary
    assert sum(summary.images.values()) == 16
    assert any(f"4 images left out (in no class folder): '{test}" in w for w in summary.warnings)


def test_a_given_folder_that_is_not_there_is_refused(tree, loaded) -> None:
    with pytest.raises(InvalidInput, match=r"splits.test: no folder matches 'tset'; found 'a'"):
        loaded(tree({"a": 6, "b": 6}), splits={"train": ".", "test": "tset"})


def test_a_split_inside_the_folder_of_the_classes_is_no_class(tree, loaded) -> None:
    root = tree({"a": 6, "b": 6, "later/a": 2, "later/b": 2})
    data = loaded(root, splits={"train": ".", "test": "later"})
    assert (data.classes, len(data.test)) == (("a", "b"), 4)


# ----------------------------------------------------------------------------------- left out


def run_folder(folder: Path) -> None:
    (folder / "report").mkdir(parents=True)
    for name in ("recipe.yaml", "manifest.json", "report/chart.png"):
        (folder / name).write_text("{}")


def test_run_folders_among_the_classes_are_left_out_and_said(tree, loaded) -> None:
    root = tree({"a": 6, "b": 6})
    run_folder(root / "runs/photos")
    summary = loaded(root).summary
    assert summary.classes == ("a", "b")
    assert summary.warnings == ("1 folder left out (a run of phiscale): 'runs/photos'.",)


def test_a_run_inside_does_not_make_the_images_be_read_again(tree, loaded, monkeypatch) -> None:
    root = tree({"a": 6, "b": 6})
    run_folder(root / "runs/photos")
    loaded(root)
    run_folder(root / "runs/photos/transfer/again")
    run_folder(root / "runs/other")
    monkeypatch.setattr(Path, "read_bytes", None)
    loaded(root)


def test_a_folder_without_any_image_is_left_out_and_said(tree, loaded) -> None:
    root = tree({"a": 6, "b": 6, "none": 0})
    (root / "notes").mkdir()
    (root / "notes/x.txt").write_text("x")
    summary = loaded(root).summary
    assert summary.classes == ("a", "b")
    assert "2 folders left out (no images): 'none', 'notes'." in summary.warnings


# ------------------------------------------------------------------------------ what is not read


def test_links_out_of_the_folder_are_followed_where_the_recipe_says_so(
    tree, loaded, tmp_path
) -> None:
    """As DVC, git-annex and splits made of links have them."""
    store = tree({"a": 6, "b": 6})
    root = tmp_path / "links"
    (root / "train").mkdir(parents=True)
    (root / "train/a").symlink_to(store / "a")
    (root / "train/b").mkdir()
    for file in (store / "b").iterdir():
        (root / "train/b" / file.name).symlink_to(file)
    with pytest.raises(InvalidInput, match=r"but found 0 images, none .*`data.follow_links: true`"):
        loaded(root)
    assert len(loaded(root, follow_links=True).full_train) == 10


def test_photos_of_phones_are_named_with_what_reads_them(tree, loaded) -> None:
    root = tree({"a": 6, "b": 6, "bird": 0})
    for index in range(3):
        (root / f"bird/{index}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 100)
    with pytest.raises(
        InvalidInput, match=r"'bird/0.HEIC': it is a HEIC image, .* pip install 'phiscale\[heif\]'"
    ):
        loaded(root)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("more.zip", "unzip more.zip -d more"),
        ("more.tar.gz", "mkdir more && tar -xf more.tar.gz -C more"),
    ],
)
def test_an_archive_is_refused_with_the_command_that_unpacks_it(
    tree, loaded, name: str, command: str
) -> None:
    root = tree({"a": 6, "b": 6})
    (root / name).write_bytes(b"PK")
    with pytest.raises(InvalidInput, match=f"is an archive, which is not read; .*{command}"):
        loaded(root)
    with pytest.raises(InvalidInput, match=f"{name} is an archive; unpack it first"):
        loaded(root / name)
    (root / "more/x").mkdir(parents=True)
    assert loaded(root).classes == ("a", "b")
