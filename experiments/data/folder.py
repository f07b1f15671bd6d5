"""Reader of a folder tree: one subfolder per class, with or without train/, val/ and test/ above.

The names of class folders are the class names, sorted. Images may lie deeper inside a class's
folder. Files whose suffix is no image's are not read, and a note says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from experiments.data.decode import SUFFIXES
from experiments.data.source import (
    SPLIT_NAMES,
    ImageSource,
    Item,
    OpenedSource,
    Skipped,
    Split,
    listed,
    printable,
)
from experiments.data.tree import File, Tree, walk
from space.validation import InvalidInput

#: Bytes that no image needs (assumed: 5 for each of the most pixels that are ever decoded).
_MOST_BYTES = 1_000_000_000


def open_folder(root: Path) -> OpenedSource:
    """The tree below `root`. Raises `InvalidInput` where it cannot be listed."""
    tree = walk(root, SUFFIXES)
    stamp = json.dumps([tree.files, tree.folders, tree.others, tree.skipped])
    return OpenedSource("folder", root, stamp, partial(_scan, root, tree))


def _scan(root: Path, tree: Tree) -> ImageSource:
    level = _class_level(root, tree)
    files = [file for file in tree.files if len(file.parts) > level + 1]
    huge = [file for file in files if file.size > _MOST_BYTES]
    files = [file for file in files if file.size <= _MOST_BYTES]
    trained = sorted(
        parts[level]
        for parts in tree.folders
        if len(parts) == level + 1 and _split(parts, level) is Split.TRAIN
    )
    _refuse_untrained(root, files, trained, level)
    number = {name: index for index, name in enumerate(trained)}
    too_large = [
        Skipped(_name(file), f"it has {file.size:,} bytes, more than any image") for file in huge
    ]
    return ImageSource(
        classes=tuple(map(printable, trained)),
        labels=np.array([number[file.parts[level]] for file in files], np.int64),
        splits=np.array([_split(file.parts, level) for file in files], np.uint8),
        items=partial(_items, root, files),
        skipped=(*tree.skipped, *too_large),
        notes=tuple(_notes(tree, level)),
    )


def _class_level(root: Path, tree: Tree) -> int:
    """1 where class folders stand below train/, val/ and test/, else 0.

    A folder of that name may also be a class. It is one where it has no folders with images in it
    and stands beside class folders. Raises `InvalidInput` where that leaves a doubt.
    """
    filled = {file.parts[0] for file in tree.files if len(file.parts) > 1}
    if not filled:
        raise InvalidInput(
            f"{root}: one folder per class with images in it is needed, but there are "
            f"{len(tree.files):,} images and none in a folder (known: {' '.join(sorted(SUFFIXES))})"
        )
    named = {name for name in filled if name.lower() in SPLIT_NAMES}
    deep = {file.parts[0] for file in tree.files if len(file.parts) > 2} & named
    if not deep and named != filled:
        return 0
    others = sorted(filled - named)
    if others:
        raise InvalidInput(
            f"{root}: folders must be classes, or splits with classes in them, but "
            f"{sorted(deep)[0]!r} looks like a split and {others[0]!r} like a class; move one away"
        )
    if not any(SPLIT_NAMES[name.lower()] is Split.TRAIN for name in deep):
        raise InvalidInput(
            f"{root}: a folder train/ with one folder per class is needed beside "
            f"{sorted(filled)[0]!r}, but its class folders with images are missing"
        )
    return 1


def _split(parts: tuple[str, ...], level: int) -> Split | None:
    return Split.TRAIN if level == 0 else SPLIT_NAMES.get(parts[0].lower())


def _refuse_untrained(root: Path, files: list[File], trained: list[str], level: int) -> None:
    strangers = sorted({file.parts[level] for file in files} - set(trained))
    if strangers:
        where = next(file for file in files if file.parts[level] == strangers[0])
        raise InvalidInput(
            f"{root}: every class needs a folder in train/, but {'/'.join(where.parts[:2])!r} has "
            "none there; add it or move this one away"
        )


def _items(root: Path, files: list[File]) -> Iterator[Item]:
    for file in files:
        yield Item(_name(file), partial(_read, root.joinpath(*file.parts)))


def _read(path: Path) -> bytes:
    """Raises `InvalidInput` where that fails: unlike a broken image, such a file may be whole."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{printable(str(path))}: this image cannot be read ({error.strerror}); make it "
            "readable or move it away"
        ) from None


def _name(file: File) -> str:
    return printable("/".join(file.parts))


def _notes(tree: Tree, level: int) -> Iterator[str]:
    if tree.others:
        names = listed(["/".join(parts) for parts in tree.others], 3)
        yield f"{len(tree.others):,} files are not images by their names: {names}."
    stray = [_name(file) for file in tree.files if len(file.parts) <= level + 1]
    if stray:
        yield f"{len(stray):,} images lie in no class folder and are not used: {listed(stray, 3)}."
