"""Splits are known by the words that the Hub, Kaggle, Roboflow and ImageFolder users write."""

from pathlib import Path

import pytest

from experiments.config import DataConfig
from experiments.data.source import Split
from experiments.data.split_names import matches, split_of, splits_of_files, splits_of_values
from space.validation import InvalidInput

NAMES = {
    Split.TRAIN: "train Training TRAIN train2 training_set seg_train train_data asl_alphabet_train "
    "trainset TrainImages split=train trainval train-00000-of-00002.parquet partial-train "
    "0001_train.parquet trainA",
    Split.VALIDATION: "val valid validation dev val2 val_data valset seg_val ValidationSet val2017 "
    "validation-00000-of-00001.parquet",
    Split.TEST: "test Testing test_set testset eval evaluation holdout hold-out hold_out HoldOut "
    "cifar_test.parquet partial-test 0002_test.parquet split=test PublicTest test1",
    None: "cat constraint latest valley trained strain 0000.parquet fold1 train_test_split devil "
    "contest",
}


@pytest.mark.parametrize("split", NAMES)
def test_a_name_says_its_split_in_one_of_its_words(split: Split | None) -> None:
    names = NAMES[split].split()
    assert {name: split_of(name) for name in names} == dict.fromkeys(names, split)


def test_a_pattern_matches_part_by_part() -> None:
    assert matches("fold[1-3]", ("fold2",))
    assert not matches("fold*", ("fold1", "cat"))
    assert matches("a/*", ("a", "b"))
    assert matches(".", ())
    assert not matches(".", ("a",))


def files(*names: str) -> list[Path]:
    return [Path("/set") / name for name in names]


def test_files_without_any_split_are_training_images() -> None:
    found = splits_of_files(Path("/set"), files("a.parquet", "b.parquet"), None)
    assert set(found.values()) == {Split.TRAIN}


def test_a_silent_file_beside_a_named_one_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'test.parquet' names a split, but 'extra.parquet' na"):
        splits_of_files(Path("/set"), files("test.parquet", "extra.parquet"), None)


def test_given_patterns_replace_the_names_and_leave_out_the_rest() -> None:
    given = {"train": ("fold[12]",), "test": ("fold3/x.parquet",)}
    paths = files("fold1/x.parquet", "fold2/x.parquet", "fold3/x.parquet", "test/x.parquet")
    found = splits_of_files(Path("/set"), paths, given)
    assert [found.get(path) for path in paths] == [Split.TRAIN, Split.TRAIN, Split.TEST, None]
    with pytest.raises(InvalidInput, match=r"data.splits.train: no file or folder matches 'gone'"):
        splits_of_files(Path("/set"), paths, {"train": ("gone",)})


def test_values_of_a_column_name_splits_or_are_refused() -> None:
    rows = splits_of_values(Path("x"), ["train", "PrivateTest", "val"], None)
    assert rows.tolist() == [Split.TRAIN, Split.TEST, Split.VALIDATION]
    with pytest.raises(InvalidInput, match=r"column 'split' must name splits, but '1' names none"):
        splits_of_values(Path("x"), ["1", "train"], None)
    given = {"train": ("1", "2"), "test": ("3",)}
    assert splits_of_values(Path("x"), ["3", "2", "1"], given).tolist() == [2, 0, 0]


def test_the_recipe_must_say_which_are_training_images() -> None:
    assert DataConfig(splits={"train": "a", "test": ["b", "c"]}).splits == {
        "train": ("a",),
        "test": ("b", "c"),
    }
    with pytest.raises(ValueError, match="`train` must be named"):
        DataConfig(splits={"test": "b"})
