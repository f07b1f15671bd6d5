"""Parts are stratified, seeded and disjoint, and the test set is cut first."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config import DataConfig
from experiments.data.source import Split
from experiments.data.splits import Parts, divide
from space.validation import InvalidInput

counts_ = st.lists(st.integers(3, 60), min_size=2, max_size=8)
seeds = st.integers(0, 2**31 - 1)


def labelled(counts: list[int]) -> Any:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(len(labels)).permutation(labels)


def divided(labels: Any, splits: Any = None, seed: int = 0, **config: Any) -> Parts:
    splits = np.zeros(len(labels), np.uint8) if splits is None else splits
    names = tuple(str(label) for label in range(labels.max() + 1))
    return divide("set", names, labels, splits, DataConfig(**config), seed)


def per_class(labels: Any, part: Any) -> list[int]:
    return np.bincount(labels[part], minlength=labels.max() + 1).tolist()


@given(counts_, seeds, st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_every_image_is_in_one_part_and_every_class_in_all(
    counts: list[int], seed: int, test: float, held_out: float
) -> None:
    labels = labelled(counts)
    parts = divided(labels, seed=seed, test=test, held_out=held_out)
    every = np.concatenate([parts.train, parts.held_out, parts.test])
    assert sorted(every.tolist()) == list(range(len(labels)))
    for part in (parts.train, parts.held_out, parts.test):
        assert min(per_class(labels, part)) >= 1
        assert np.array_equal(part, np.sort(part))


@given(st.lists(st.integers(50, 400), min_size=2, max_size=8), seeds)
def test_parts_have_the_classes_in_proportion(counts: list[int], seed: int) -> None:
    """Within one image of the exact share: what largest remainders promise."""
    labels = labelled(counts)
    size = len(labels) // 5
    parts = divided(labels, seed=seed, test=size)
    for found, count in zip(per_class(labels, parts.test), counts, strict=True):
        assert abs(found - size * count / len(labels)) < 1


@given(counts_, st.data())
def test_a_count_is_met_exactly_wherever_it_can_be(counts: list[int], data: Any) -> None:
    labels = labelled(counts)
    size = data.draw(st.integers(len(counts), len(labels) - 2 * len(counts)))
    assert len(divided(labels, test=size).test) == size


def test_imagenets_held_out_images_are_fifty_thousand() -> None:
    """732 to 1,300 images a class, as in ILSVRC 2012."""
    counts = np.random.default_rng(0).integers(732, 1301, 1000).tolist()
    labels = labelled([*counts, *([50] * 0)])
    splits = np.zeros(len(labels) + 1000, np.uint8)
    splits[len(labels) :] = Split.VALIDATION
    labels = np.concatenate([labels, np.arange(1000)])
    parts = divided(labels, splits, held_out=50_000)
    assert len(parts.held_out) == 50_000
    assert parts.test.tolist() == list(range(len(labels) - 1000, len(labels)))


def test_the_same_seed_divides_the_same_and_another_does_not() -> None:
    labels = labelled([50, 50])
    one, same, other = (divided(labels, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test, same.test)
    assert np.array_equal(one.held_out, same.held_out)
    assert not np.array_equal(one.test, other.test)
    assert not np.array_equal(one.held_out, other.held_out)


def test_the_test_set_depends_on_nothing_but_seed_and_size() -> None:
    labels = labelled([50, 50])
    one = divided(labels, held_out=0.1)
    other = divided(labels, held_out=0.4, limit=40)
    assert np.array_equal(one.test, other.test)


def test_the_sources_splits_are_the_parts() -> None:
    labels = np.arange(30) % 2
    splits = np.repeat([Split.TRAIN, Split.VALIDATION, Split.TEST], 10).astype(np.uint8)
    parts = divided(labels, splits)
    assert [part.tolist() for part in parts[:3]] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 30)),
    ]
    assert parts.remarks == (
        "The search is measured on the validation split; data.held_out is not used.",
    )


def test_a_validation_split_alone_is_the_test_set() -> None:
    labels = np.arange(30) % 2
    splits = np.repeat([Split.TRAIN, Split.VALIDATION], [20, 10]).astype(np.uint8)
    parts = divided(labels, splits)
    assert parts.test.tolist() == list(range(20, 30))
    assert len(parts.held_out) == 2
    assert parts.remarks == ("There is no test split: the validation split is the test set.",)


@pytest.mark.parametrize("splits", [[Split.TRAIN], [Split.TRAIN, Split.TEST], list(Split)])
def test_a_limit_is_what_is_trained_and_measured_on_in_the_search(splits: list[Split]) -> None:
    labels = np.arange(40 * len(splits)) % 2
    parts = divided(labels, np.repeat(splits, 40).astype(np.uint8), limit=20)
    fixed = Split.VALIDATION in splits
    assert len(parts.train) + (0 if fixed else len(parts.held_out)) == 20
    assert len(parts.test) == (40 if Split.TEST in splits else 4)
    assert per_class(labels, parts.train) == [len(parts.train) // 2] * 2


def test_a_limit_above_what_there_is_changes_nothing() -> None:
    labels = labelled([50, 50])
    assert np.array_equal(divided(labels, limit=10**6).train, divided(labels).train)


def test_classes_without_test_images_are_pointed_out() -> None:
    labels = np.array([0, 1, 0, 1, 0])
    splits = np.array([0, 0, 0, 0, Split.TEST], np.uint8)
    assert divided(labels, splits).remarks == ("1 of 2 classes have no test images.",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"test": 1},
            r"^data.test: must be 2 … 16 for 20 images in 2 classes, so that .* got 1$",
        ),
        ({"test": 17}, r"^data.test: must be 2 … 16 .* got 17$"),
        ({"test": 4, "held_out": 15}, r"^data.held_out: must be 2 … 14 for 16 images"),
        ({"held_out": 1}, r"^data.held_out: must be 2 … 16 for 18 images"),
        ({"held_out": 0.99}, r"^data.held_out: must be 2 … 16 for 18 .* got 18$"),
        ({"limit": 3}, r"^data.limit: must be 4 … 18 for 18 images in 2 classes, .* got 3$"),
    ],
)
def test_sizes_that_cannot_be_are_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        divided(labelled([10, 10]), **config)


@pytest.mark.parametrize(
    ("splits", "counts", "least"),
    [([0], [2, 9], 3), ([0, 2], [1, 9], 2), ([0, 1], [1, 9], 2)],
)
def test_one_image_a_class_is_told(splits: list[int], counts: list[int], least: int) -> None:
    labels = np.concatenate([labelled(counts)] * len(splits))
    message = rf"^set: every class needs at least {least} usable training images.* such as '0' with"
    with pytest.raises(InvalidInput, match=message):
        divided(labels, np.repeat(splits, sum(counts)).astype(np.uint8))
