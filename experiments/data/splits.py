"""Divides the images of a source: stratified, seeded, the test set first."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.config import DataConfig
from experiments.data.images import Indices
from experiments.data.source import Labels, Split, Splits
from space.validation import InvalidInput

#: Seeds of the cuts, beside the user's.
_STREAMS = {"test": 0, "limit": 1, "held_out": 2}


class Parts(NamedTuple):
    """Indices of the images of each part, ascending, and remarks about them."""

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

    def cut(key: str, part: float, *, least: int, spare: int) -> tuple[Indices, Indices]:
        """So many of the training images, drawn from each class in proportion, and the rest."""
        own = labels[train]
        size = int(part) if part >= 1 else max(round(part * len(own)), len(classes))
        chosen = _draw(own, _shares(f"data.{key}", own, size, least, spare), (seed, _STREAMS[key]))
        return train[chosen], train[~chosen]

    if no_test:
        test, train = cut("test", config.test, least=1, spare=1 + no_held_out)
    if config.limit is not None and config.limit < len(train):
        train, _ = cut("limit", config.limit, least=1 + no_held_out, spare=0)
    if no_held_out:
        held_out, train = cut("held_out", config.held_out, least=1, spare=1)
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


def _shares(key: str, labels: Labels, size: int, least: int, spare: int) -> Indices:
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


def _draw(labels: Labels, shares: Indices, seed: tuple[int, int]) -> NDArray[np.bool_]:
    """Which images are drawn at random: `shares` of each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = pd.Series(labels[order])
    chosen = np.zeros(len(labels), bool)
    chosen[order] = drawn.groupby(drawn).cumcount().to_numpy() < shares[drawn]
    return chosen
