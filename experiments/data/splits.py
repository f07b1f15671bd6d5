"""Divides the images of a source: stratified, seeded, the test set first."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.config import DataConfig
from experiments.data.source import Labels, Split, Splits
from space.validation import InvalidInput

Indices = NDArray[np.int64]

#: What sets the random numbers of the cuts apart, beside the seed.
_TEST, _LIMIT, _HELD_OUT = range(3)


class Parts(NamedTuple):
    """Indices of the images of each part, ascending, and what there is to say about them."""

    train: Indices
    held_out: Indices
    test: Indices
    remarks: tuple[str, ...]


def divide(
    where: Path | str,
    classes: tuple[str, ...],
    labels: Labels,
    splits: Splits,
    config: DataConfig,
    seed: int,
) -> Parts:
    """The images that are trained on, that measure the search, and that measure the family.

    The source's test split is the test set and its validation split the held-out part. A
    validation split without a test split is the test set. What is missing is cut from the training
    images: the test set, then `config.limit`, then the held-out part. Raises `InvalidInput` where
    a class has too few images for that.
    """
    train, held_out, test = (np.flatnonzero(splits == split) for split in Split)
    remarks = []
    if len(held_out) and not len(test):
        held_out, test = test, held_out
        remarks.append("There is no test split: the validation split is the test set.")
    elif len(held_out):
        remarks.append("The search is measured on the validation split; data.held_out is not used.")
    no_test, no_held_out = not len(test), not len(held_out)
    _refuse_few(where, classes, labels[train], 1 + no_test + no_held_out)
    if no_test:
        size = _size(config.test, labels[train])
        shares = _shares("data.test", labels[train], size, least=1, spare=1 + no_held_out)
        test, train = _cut(train, labels, shares, (seed, _TEST))
    if config.limit is not None and config.limit < len(train):
        shares = _shares("data.limit", labels[train], config.limit, least=1 + no_held_out, spare=0)
        train, _ = _cut(train, labels, shares, (seed, _LIMIT))
    if no_held_out:
        size = _size(config.held_out, labels[train])
        shares = _shares("data.held_out", labels[train], size, least=1, spare=1)
        held_out, train = _cut(train, labels, shares, (seed, _HELD_OUT))
    untested = len(classes) - len(np.unique(labels[test]))
    if untested:
        remarks.append(f"{untested:,} of {len(classes):,} classes have no test images.")
    return Parts(train, held_out, test, tuple(remarks))


def _refuse_few(where: Path | str, classes: tuple[str, ...], labels: Labels, least: int) -> None:
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    few = [(count, name) for count, name in zip(counts, classes, strict=True) if count < least]
    if few:
        raise InvalidInput(
            f"{where}: every class needs at least {least} usable training images, one for each "
            f"part that is made of them (training, held out, test), but {len(few):,} of "
            f"{len(classes):,} classes have fewer, such as {min(few)[1]!r} with {min(few)[0]}; add "
            "images or remove the class"
        )


def _size(part: float, labels: Labels) -> int:
    """Images in a part: a count as it is, a fraction of `labels` rounded, at least one a class."""
    return int(part) if part >= 1 else max(round(part * len(labels)), len(np.unique(labels)))


def _shares(key: str, labels: Labels, size: int, *, least: int, spare: int) -> Indices:
    """How many of the `size` images come from each class: in proportion, by largest remainders.

    Each class gives at least `least` images and keeps at least `spare`. Raises `InvalidInput`,
    naming the recipe's `key`, where `size` does not allow that.
    """
    counts = np.bincount(labels)
    low, high = np.full(len(counts), least), counts - spare
    if not low.sum() <= size <= high.sum():
        raise InvalidInput(
            f"{key}: must be {low.sum():,} … {high.sum():,} for {len(labels):,} images in "
            f"{len(counts):,} classes, so that each part has images of each, but got {size:,}"
        )
    quota = size * counts / counts.sum()
    shares: Indices = np.clip(np.floor(quota).astype(np.int64), low, high)
    while (missing := size - shares.sum()) != 0:
        room = shares < high if missing > 0 else shares > low
        remainder = np.where(room, (quota - shares) * np.sign(missing), -np.inf)
        shares[np.argmax(remainder)] += np.sign(missing)
    return shares


def _cut(
    images: Indices, labels: Labels, shares: Indices, seed: tuple[int, int]
) -> tuple[Indices, Indices]:
    """`images`, divided into `shares` of each class, drawn at random, and the rest."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(images))
    by_class = order[np.argsort(labels[images][order], kind="stable")]
    counts = np.bincount(labels[images])
    rank = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(images), bool)
    chosen[by_class] = rank < np.repeat(shares, counts)
    return images[chosen], images[~chosen]
