"""Which split a folder, file, array or column value names: "seg_train", "TestSet", "split=val"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from experiments.config.data import SplitName
from experiments.data.messages import left_out, listed
from experiments.data.source import Split, Splits
from experiments.data.tree import PathParts
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
_SUFFIX = re.compile("(set|data|images|imgs|split)$")

#: A run of letters; CamelCase starts a new one.
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

#: What a message about names that are not understood advises.
HOW_TO_NAME = (
    "say which is which with data.splits, as in `data.splits: {train: NAME, test: NAME}` "
    "(init: --set 'data.splits={train: NAME, test: NAME}')"
)


def split_of(name: str) -> Split | None:
    """The split that a name says in one of its words; None if it says none, or several."""
    name = re.sub("(?i)hold[-_ ]?out", "holdout", name)
    words = (_SUFFIX.sub("", token.lower()) for token in _TOKEN.findall(name))
    found = {_KEYWORDS[word] for word in words if word in _KEYWORDS}
    return found.pop() if len(found) == 1 else None


def matches(pattern: str, parts: PathParts) -> bool:
    """Whether `pattern` (`fold[1-4]/images`; `.` for no parts) matches a path of these parts."""
    patterns = [part for part in pattern.split("/") if part not in ("", ".")]
    return len(patterns) == len(parts) and all(map(fnmatchcase, parts, patterns))


def splits_of_paths(
    root: Path,
    kind: str,
    paths: Sequence[PathParts],
    given: Mapping[SplitName, tuple[str, ...]],
    match: Callable[[str, PathParts], bool] = matches,
) -> dict[PathParts, Split]:
    """The split of each path that a given pattern matches.

    Raises `InvalidInput` if a pattern matches none; `kind` is what the error calls the paths.
    """
    found: dict[PathParts, Split] = {}
    for name, patterns in given.items():
        for pattern in patterns:
            matching = [path for path in paths if match(pattern, path)]
            if not matching:
                shown = ["/".join(path) for path in paths if path]
                raise InvalidInput(
                    f"{root}: data.splits.{name}: no {kind} matches {pattern!r}; "
                    f"found {listed(shown) or 'none'}"
                )
            found |= dict.fromkeys(matching, Split[name.upper()])
    return found


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
    paths = [file.relative_to(root).parts for file in files]
    if given is not None:
        known = splits_of_paths(root, "file or folder", paths, given, _matches_above)
    else:
        known = {path: split for path in paths if (split := _nearest(path)) is not None}
        silent = [path for path in paths if path not in known]
        if not known:
            return dict.fromkeys(files, Split.TRAIN)
        if silent:
            raise InvalidInput(
                f"{root}: {'/'.join(next(iter(known)))!r} names a split, but "
                f"{'/'.join(silent[0])!r} names none; {HOW_TO_NAME}"
            )
    return {file: known[path] for file, path in zip(files, paths, strict=True) if path in known}


def _matches_above(pattern: str, parts: PathParts) -> bool:
    """Whether a pattern matches a file or a folder that it lies in."""
    return any(matches(pattern, parts[:depth]) for depth in range(len(parts) + 1))


def _nearest(parts: PathParts) -> Split | None:
    found = map(split_of, reversed(parts))
    return next((split for split in found if split is not None), None)


def splits_of_values(where: Path, values: Sequence[str], given: GivenSplits) -> Splits:
    """The split of each row from the values of its column `split`.

    Raises `InvalidInput` if a value names none.
    """
    names, index = np.unique(np.array(values, np.str_), return_inverse=True)
    splits = [_split_of_value(name, given) for name in names.tolist()]
    if None in splits:
        raise InvalidInput(
            f"{where}: column 'split' must name splits, but {str(names[splits.index(None)])!r} "
            f"names none (found {listed(names.tolist())}); {HOW_TO_NAME}"
        )
    return np.array(splits, np.uint8)[index]


def _split_of_value(value: str, given: GivenSplits) -> Split | None:
    if given is None:
        return split_of(value)
    matching = (n for n, patterns in given.items() if any(fnmatchcase(value, p) for p in patterns))
    return next((Split[name.upper()] for name in matching), None)


def splits_of_tables(
    root: Path,
    files: Sequence[Path],
    values_of: Callable[[Path], Sequence[str] | None],
    given: GivenSplits,
) -> tuple[dict[Path, Split | Splits], list[str]]:
    """The split of each table, or of each of its rows, and a note about tables left out.

    `values_of` gives the values of a table's column `split`; the name of a table without one (None)
    says its split. Raises `InvalidInput` as `splits_of_files` and `splits_of_values` do.
    """
    found: dict[Path, Split | Splits] = {}
    for file in files:
        if (values := values_of(file)) is not None:
            found[file] = splits_of_values(file, values, given)
    if silent := [file for file in files if file not in found]:
        found |= splits_of_files(root, silent, None if found else given)
    note = left_out(
        "file", "not in data.splits", [file.name for file in files if file not in found]
    )
    return {file: found[file] for file in files if file in found}, note
