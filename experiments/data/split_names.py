"""Which split a folder, file, array or column value names: "seg_train", "TestSet", "split=val"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.config.data import SplitName
from experiments.data.source import Split, Splits, listed, plural
from space.validation import InvalidInput

#: Patterns of names by split, as `data.splits` gives them; None: splits are recognised by name.
GivenSplits = Mapping[SplitName, tuple[str, ...]] | None

#: The Hugging Face Hub's keywords (`eval` is a test split there), and what Kaggle, Roboflow and
#: users of ImageFolder write.
_WORDS = {
    Split.TRAIN: ("train", "training", "trainval"),
    Split.VALIDATION: ("val", "valid", "validation", "dev"),
    Split.TEST: ("test", "testing", "eval", "evaluation", "holdout"),
}
_KEYWORDS = {word: split for split, words in _WORDS.items() for word in words}
_SUFFIXES = ("set", "data", "images", "imgs", "split")

#: A run of letters; CamelCase starts a new one.
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

#: What to add to a message about names that are not understood.
HOW_TO_NAME = (
    "say which is which with data.splits, as in `data.splits: {train: NAME, test: NAME}` "
    "(init: --set 'data.splits={train: NAME, test: NAME}')"
)


def split_of(name: str) -> Split | None:
    """The split that a name says in one of its words; None where it says none, or two."""
    name = re.sub(r"hold[-_ ]?out", "holdout", name, flags=re.IGNORECASE)
    tokens = (token.lower() for token in _TOKEN.findall(name))
    found = {split for token in tokens if (split := _split_of_word(token)) is not None}
    return found.pop() if len(found) == 1 else None


def _split_of_word(word: str) -> Split | None:
    for suffix in _SUFFIXES:
        if (stem := word.removesuffix(suffix)) in _KEYWORDS:
            return _KEYWORDS[stem]
    return None


def matches(pattern: str, parts: Sequence[str]) -> bool:
    """Whether `pattern` (`fold[1-4]/images`; `.` for no parts) matches a path of these parts."""
    patterns = [part for part in pattern.split("/") if part not in ("", ".")]
    return len(patterns) == len(parts) and all(map(fnmatchcase, parts, patterns))


def splits_of_files(root: Path, files: Sequence[Path], given: GivenSplits) -> dict[Path, Split]:
    """The split of each of a source's files by its name, else by the nearest folder's below `root`.

    If no name says one, all are training images. With `given`, files that it does not name are left
    out. Raises `InvalidInput` if some files say a split and others none, or if a given pattern
    matches no file.
    """
    if files == [root]:
        if given is not None:
            raise InvalidInput(
                f"data.splits: names files or values of a column `split`, but {root} is a single "
                "file without that column"
            )
        return {root: Split.TRAIN}
    parts = {file: file.relative_to(root).parts for file in files}
    if given is not None:
        found: dict[Path, Split] = {}
        for name, patterns in given.items():
            for pattern in patterns:
                matching = [file for file in files if _below(pattern, parts[file])]
                if not matching:
                    raise InvalidInput(
                        f"{root}: data.splits.{name}: no file or folder matches {pattern!r}; "
                        f"found {listed(['/'.join(each) for each in parts.values()])}"
                    )
                found |= dict.fromkeys(matching, Split[name.upper()])
        return found
    named = {file: _nearest(parts[file]) for file in files}
    known = {file: split for file, split in named.items() if split is not None}
    if not known:
        return dict.fromkeys(files, Split.TRAIN)
    if silent := [file for file in files if file not in known]:
        first = next(iter(known))
        raise InvalidInput(
            f"{root}: {'/'.join(parts[first])!r} names a split, but {'/'.join(parts[silent[0]])!r} "
            f"names none; {HOW_TO_NAME}"
        )
    return known


def left_out(files: Sequence[Path], named: Mapping[Path, Split]) -> list[str]:
    """A note about the files that `splits_of_files` leaves out."""
    left = [file.name for file in files if file not in named]
    if not left:
        return []
    return [f"{plural(len(left), 'file')} left out (not in data.splits): {listed(left, 3)}."]


def _below(pattern: str, parts: Sequence[str]) -> bool:
    """Whether a pattern matches a file or a folder that it lies in."""
    return any(matches(pattern, parts[:depth]) for depth in range(len(parts) + 1))


def _nearest(parts: Sequence[str]) -> Split | None:
    found = (split_of(part) for part in reversed(parts))
    return next((split for split in found if split is not None), None)


def splits_of_values(where: Path, column: str, values: Iterable[str], given: GivenSplits) -> Splits:
    """The split of each row from a column of split names.

    Raises `InvalidInput` where a value names none.
    """
    rows: NDArray[np.str_] = np.array(list(values), np.str_)
    names, index = np.unique(rows, return_inverse=True)
    splits = [_split_of_value(str(name), given) for name in names]
    if None in splits:
        raise InvalidInput(
            f"{where}: column {column!r} must name splits, but {str(names[splits.index(None)])!r} "
            f"names none (found {listed(list(map(str, names)))}); {HOW_TO_NAME}"
        )
    return np.array(splits, np.uint8)[index]


def _split_of_value(value: str, given: GivenSplits) -> Split | None:
    for name, patterns in (given or {}).items():
        if any(fnmatchcase(value, pattern) for pattern in patterns):
            return Split[name.upper()]
    return split_of(value) if given is None else None
