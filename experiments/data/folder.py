"""Reader of a folder tree: one folder per class, with or without train/, val/ and test/ above.

The names of class folders are the class names, sorted. Images may lie deeper inside a class's
folder. A single folder around the classes or around the splits is seen through.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from experiments.config import DataConfig
from experiments.data.decode import SUFFIXES
from experiments.data.source import ImageSource, OpenedSource, Split, listed, plural, printable
from experiments.data.split_names import HOW_TO_NAME, GivenSplits, matches, split_of
from experiments.data.tree import File, Parts, Tree, file_items, walk, without_huge
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
        return len(_Layout.of(root, tree, config.splits).trained) > 1
    except InvalidInput:
        return False


def unpacking(path: str) -> str | None:
    """The command that unpacks `path` beside it; None where it is not an archive."""
    for suffix, command in _UNPACK.items():
        if path.lower().endswith(suffix):
            return command.format(path, path[: -len(suffix)])
    return None


class _Filled:
    """The folders that have images in them: which of their subfolders have, by their parts."""

    def __init__(self, files: Iterable[File]) -> None:
        self.below: dict[Parts, set[str]] = defaultdict(set)
        self.images: Counter[Parts] = Counter(file.parts[:-1] for file in files)
        for parts in self.images:
            for depth in range(len(parts)):
                self.below[parts[:depth]].add(parts[depth])

    def unwrapped(self, start: Parts, stop: Callable[[str], bool]) -> Parts:
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


class _Layout:
    """Where class folders stand: the split of each folder that has some in it."""

    def __init__(self, root: Path, tree: Tree, splits: dict[Parts, Split]) -> None:
        self.splits = splits
        self.placed = [(file, at) for file in tree.files if (at := self._class_of(file.parts))]
        found = {at for _, at in self.placed}
        self.trained = sorted({at[-1] for at in found if splits[at[:-1]] is Split.TRAIN})
        strangers = sorted(at for at in found if at[-1] not in self.trained)
        if strangers and self.trained:
            raise InvalidInput(
                f"{root}: every class needs a folder with images in train/, but "
                f"{'/'.join(strangers[0])!r} has no such folder; add it or move this one away"
            )

    @classmethod
    def of(cls, root: Path, tree: Tree, given: GivenSplits) -> _Layout:
        """As `given`, else recognised; raises `InvalidInput` where that leaves a doubt."""
        filled = _Filled(tree.files)
        if not filled.below[()]:
            raise InvalidInput(_nothing_found(root, tree))
        splits = _recognised(root, filled) if given is None else _given(root, tree, given)
        return cls(root, tree, splits)

    def _class_of(self, parts: Parts) -> Parts | None:
        """The class folder that a file lies in; None where it lies in none."""
        for depth in range(len(parts) - 2, -1, -1):
            if parts[:depth] in self.splits:
                return parts[: depth + 1]
        return None


def _scan(root: Path, tree: Tree, given: GivenSplits) -> ImageSource:
    _refuse_archives(root, tree)
    layout = _Layout.of(root, tree, given)
    at = dict(layout.placed)
    files, huge = without_huge(at)
    number = {name: index for index, name in enumerate(layout.trained)}
    return ImageSource(
        classes=tuple(map(printable, layout.trained)),
        labels=np.array([number[at[file][-1]] for file in files], np.int64),
        splits=np.array([layout.splits[at[file][:-1]] for file in files], np.uint8),
        items=partial(file_items, root, files),
        skipped=(*tree.skipped, *huge),
        notes=tuple(_notes(tree, layout)),
    )


def _recognised(root: Path, filled: _Filled) -> dict[Parts, Split]:
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


def _refuse_doubtful(root: Path, filled: _Filled, base: Parts) -> None:
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
    grouped = [n for n, names in inner.items() if len(names) > 1 and not filled.images[(*base, n)]]
    plain = [name for name, names in inner.items() if not names]
    if grouped and plain:
        group, count = grouped[0], len(inner[grouped[0]])
        raise InvalidInput(
            f"{root}: {group!r} holds {count} folders of images and {plain[0]!r} holds images, so "
            f"they are hardly two classes; give {root.joinpath(*base, group)}, or "
            f"`data.splits: {{train: {group}}}`, or `{{train: .}}` where both are classes"
        )


def _given(root: Path, tree: Tree, given: GivenSplits) -> dict[Parts, Split]:
    """The folders that `data.splits` names."""
    found: dict[Parts, Split] = {}
    for name, patterns in (given or {}).items():
        for pattern in patterns:
            named = [each for each in ((), *tree.folders) if matches(pattern, each)]
            if not named:
                top = ["/".join(each) for each in tree.folders]
                raise InvalidInput(
                    f"{root}: data.splits.{name}: no folder matches {pattern!r}; "
                    f"found {listed(top) or 'none'}"
                )
            found |= dict.fromkeys(named, Split[name.upper()])
    return found


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
    links = tree.skipped[0] if tree.skipped else None
    other = printable("/".join(tree.others[0])) if tree.others else None
    return (
        f"{root}: one folder per class with images in it is needed, but there "
        f"{'is' if len(tree.files) == 1 else 'are'} {plural(len(tree.files), 'image')} and none in "
        f"a folder (known: {' '.join(sorted(SUFFIXES))})"
        + (f"; {links.name!r} is not used: {links.reason}" if links else "")
        + (
            f"; {plural(len(tree.others), 'file')} without such a suffix: {other!r} …"
            if other
            else ""
        )
    )


def _notes(tree: Tree, layout: _Layout) -> Iterator[str]:
    if tree.runs:
        names = listed(["/".join(parts) for parts in tree.runs], 3)
        yield f"{plural(len(tree.runs), 'run folder')} of phiscale left out: {names}."
    classes = {at for _, at in layout.placed} | {parts[:-1] for parts in tree.runs}
    empty = [
        "/".join(parts)
        for parts in tree.folders
        if parts[:-1] in layout.splits and parts not in classes and parts not in layout.splits
    ]
    if empty:
        yield f"{plural(len(empty), 'folder')} without images left out: {listed(empty, 3)}."
    if tree.others:
        names = listed(["/".join(parts) for parts in tree.others], 3)
        yield f"{plural(len(tree.others), 'file')} left out (no image's suffix): {names}."
    placed = {file for file, _ in layout.placed}
    stray = [file.name for file in tree.files if file not in placed]
    if stray:
        yield f"{plural(len(stray), 'image')} left out (in no class folder): {listed(stray, 3)}."
