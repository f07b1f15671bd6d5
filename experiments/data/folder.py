"""Reader of a folder tree: one folder per class, with or without train/, val/ and test/ above.

The names of class folders are the class names, sorted. Images may lie deeper inside a class's
folder. A single folder around the classes or around the splits is seen through.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.config import DataConfig
from experiments.data.decode import SUFFIXES
from experiments.data.messages import left_out, listed, plural, printable
from experiments.data.source import ImageSource, OpenedSource, Split
from experiments.data.split_names import HOW_TO_NAME, GivenSplits, split_of, splits_of_paths
from experiments.data.tree import File, PathParts, Tree, file_items, walk
from space.validation import InvalidInput

#: Archives by suffix, and the command that unpacks one.
_UNPACK = {
    ".zip": "unzip {0} -d {1}",
    ".tar": "mkdir {1} && tar -xf {0} -C {1}",
    ".tar.gz": "mkdir {1} && tar -xf {0} -C {1}",
    ".tgz": "mkdir {1} && tar -xf {0} -C {1}",
    ".7z": "7z x {0} -o{1}",
    ".rar": "unrar x {0} {1}/",
}

#: What a folder of unlabelled images in a split is called (test/images, as in Tiny ImageNet).
_UNLABELLED = ("images", "imgs", "photos", "unlabeled", "unlabelled", "unknown")


def open_folder(root: Path, config: DataConfig) -> OpenedSource:
    """The tree below `root`. Raises `InvalidInput` where it cannot be listed."""
    tree = walk(root, SUFFIXES, follow=config.follow_links)
    stamp = json.dumps([tree.files, tree.folders, tree.others, tree.skipped, bool(tree.runs)])
    return OpenedSource("folder", root, stamp, partial(_scan, root, tree, config.splits))


def has_classes(root: Path, config: DataConfig) -> bool:
    """Whether folders below `root` tell at least two classes apart."""
    tree = walk(root, SUFFIXES, follow=config.follow_links)
    try:
        return len(_layout(root, tree, config.splits).classes) > 1
    except InvalidInput:
        return False


def unpacking(path: str) -> str | None:
    """The command that unpacks `path` beside it; None where it is not an archive."""
    for suffix, command in _UNPACK.items():
        if path.lower().endswith(suffix):
            return command.format(path, path[: -len(suffix)])
    return None


class _Layout(NamedTuple):
    """The split of each folder with class folders in it, the class folder of each image that lies
    in one, and the names of the classes."""

    splits: dict[PathParts, Split]
    placed: dict[File, PathParts]
    classes: list[str]


def _layout(root: Path, tree: Tree, given: GivenSplits) -> _Layout:
    """As `given`, else recognised. Raises `InvalidInput` if that leaves a doubt."""
    if not any(file.parts[1:] for file in tree.files):
        raise InvalidInput(_nothing_found(root, tree))
    if given is None:
        splits = _recognised(root, _Filled(tree.files))
    else:
        splits = splits_of_paths(root, "folder", [(), *tree.folders], given)
    placed = {}
    for file in tree.files:
        above = [depth for depth in range(len(file.parts) - 1) if file.parts[:depth] in splits]
        if above:
            placed[file] = file.parts[: above[-1] + 1]
    found = set(placed.values())
    classes = sorted({at[-1] for at in found if splits[at[:-1]] is Split.TRAIN})
    strangers = sorted(at for at in found if at[-1] not in classes)
    if strangers and classes:
        raise InvalidInput(
            f"{root}: every class needs a folder with images in train/, but "
            f"{'/'.join(strangers[0])!r} has no such folder; add it or move this one away"
        )
    return _Layout(splits, placed, classes)


def _scan(root: Path, tree: Tree, given: GivenSplits) -> ImageSource:
    _refuse_archives(root, tree)
    layout = _layout(root, tree, given)
    number = {name: index for index, name in enumerate(layout.classes)}
    at = layout.placed.values()
    return ImageSource(
        classes=tuple(map(printable, layout.classes)),
        labels=np.array([number[parts[-1]] for parts in at], np.int64),
        splits=np.array([layout.splits[parts[:-1]] for parts in at], np.uint8),
        items=partial(file_items, root, list(layout.placed)),
        skipped=tuple(tree.skipped),
        notes=tuple(_notes(tree, layout)),
    )


class _Filled:
    """The folders that have images in them: which of their subfolders have, by their parts."""

    def __init__(self, files: list[File]) -> None:
        self.below: dict[PathParts, set[str]] = defaultdict(set)
        self.images = {file.parts[:-1] for file in files}
        for parts in self.images:
            for depth in range(len(parts)):
                self.below[parts[:depth]].add(parts[depth])

    def unwrapped(self, start: PathParts, stop: Callable[[str], bool]) -> PathParts:
        """`start`, or the folder inside it that is the first to have two filled subfolders.

        A single subfolder for which `stop` holds is not entered.
        """
        at = start
        while len(self.below[at]) == 1:
            [only] = self.below[at]
            if stop(only):
                return at
            at = (*at, only)
        return at if len(self.below[at]) > 1 else start


def _recognised(root: Path, filled: _Filled) -> dict[PathParts, Split]:
    """The folders that hold class folders, by their names and their places.

    A folder whose name says a split may also be a class. It is one where it has no folders with
    images in it and stands beside class folders.
    """
    base = filled.unwrapped((), lambda name: split_of(name) is not None)
    names = filled.below[base]
    named = {name: split for name in names if (split := split_of(name)) is not None}
    deep = sorted(name for name in named if filled.below[(*base, name)])
    if not deep and set(named) != names:
        _refuse_doubtful(root, filled, base)
        return {base: Split.TRAIN}
    if others := sorted(names - set(named)):
        raise InvalidInput(
            f"{root}: folders must be classes, or splits with classes in them, but {deep[0]!r} "
            f"looks like a split and {others[0]!r} like a class; move one away, or {HOW_TO_NAME}, "
            "or `{train: .}` where both are classes"
        )
    trained = [name for name in deep if named[name] is Split.TRAIN]
    if not trained:
        raise InvalidInput(
            f"{root}: a folder train/ with one folder per class is needed beside "
            f"{min(names)!r}, but its class folders with images are missing; {HOW_TO_NAME}, or "
            "`{train: .}` where the folders are classes"
        )
    found = {filled.unwrapped((*base, name), lambda _: False): Split.TRAIN for name in trained}
    classes = {name for at in found for name in filled.below[at]}
    for name in set(deep) - set(trained):
        at = filled.unwrapped((*base, name), classes.__contains__)
        if filled.below[at] <= classes or not all(map(_is_unlabelled, filled.below[at])):
            found[at] = named[name]
    return found


def _is_unlabelled(name: str) -> bool:
    """Whether a folder in a split says by its name that it holds images of all classes."""
    return split_of(name) is not None or name.lower() in _UNLABELLED


def _refuse_doubtful(root: Path, filled: _Filled, base: PathParts) -> None:
    """Raises `InvalidInput` where the folders below `base` are hardly classes."""
    inner = {name: filled.below[(*base, name)] for name in sorted(filled.below[base])}
    times = Counter(name for names in inner.values() for name in names)
    shared = sorted(name for name, count in times.items() if count > 1)
    if len(shared) > 1:
        holders = [name for name, names in inner.items() if not names.isdisjoint(shared)]
        raise InvalidInput(
            f"{root}: {listed(holders, 3)} hold the same subfolders ({listed(shared, 3)}), so "
            f"these may be the classes and those splits; {HOW_TO_NAME}, or `{{train: .}}` where "
            f"{holders[0]!r} is a class"
        )
    grouped = [
        n for n, names in inner.items() if len(names) > 1 and (*base, n) not in filled.images
    ]
    plain = [name for name, names in inner.items() if not names]
    if grouped and plain:
        group, count = grouped[0], len(inner[grouped[0]])
        raise InvalidInput(
            f"{root}: {group!r} holds {count} folders of images and {plain[0]!r} holds images, so "
            f"they are hardly two classes; give {root.joinpath(*base, group)}, or "
            f"`data.splits: {{train: {group}}}`, or `{{train: .}}` where both are classes"
        )


def _refuse_archives(root: Path, tree: Tree) -> None:
    """Raises `InvalidInput` where images may lie in an archive that was not unpacked here."""
    for parts in tree.others:
        command = unpacking(parts[-1])
        if command and (*parts[:-1], parts[-1].partition(".")[0]) not in tree.folders:
            raise InvalidInput(
                f"{root}: {printable('/'.join(parts))!r} is an archive, which is not read; unpack "
                f"it (cd {root.joinpath(*parts[:-1])} && {command}) or move it away"
            )


def _nothing_found(root: Path, tree: Tree) -> str:
    links = [f"; {link.name!r} is not used: {link.reason}" for link in tree.skipped]
    others = [printable("/".join(parts)) for parts in tree.others]
    return (
        f"{root}: one folder per class with images in it is needed, but found "
        f"{plural(len(tree.files), 'image')}, none in a folder "
        f"(known: {' '.join(sorted(SUFFIXES))})"
        + "".join(links[:1])
        + (f"; {plural(len(others), 'other file')}: {listed(others, 1)}" if others else "")
    )


def _notes(tree: Tree, layout: _Layout) -> list[str]:
    classes = {*layout.placed.values(), *(parts[:-1] for parts in tree.runs)}
    empty = [
        parts
        for parts in tree.folders
        if parts[:-1] in layout.splits and parts not in classes and parts not in layout.splits
    ]
    stray = [file.name for file in tree.files if file not in layout.placed]
    return [
        *left_out("folder", "a run of phiscale", [*map("/".join, tree.runs)]),
        *left_out("folder", "no images", [*map("/".join, empty)]),
        *left_out("file", "no image's suffix", [*map("/".join, tree.others)]),
        *left_out("image", "in no class folder", stray),
    ]
