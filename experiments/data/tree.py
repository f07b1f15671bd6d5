"""Files below a folder, found without ever leaving it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from os.path import realpath
from pathlib import Path
from typing import NamedTuple

from experiments.data.messages import printable
from experiments.data.source import Item, Skipped, Unreadable
from space.validation import InvalidInput

#: What macOS leaves in archives, beside hidden files.
_LITTER = "__MACOSX"

#: The files by which a run's folder is known.
_RUN_FILES = frozenset({"manifest.json", "recipe.yaml"})

#: Bytes that no image needs (assumed: 5 for each of the most pixels that are ever decoded).
_MOST_BYTES = 1_000_000_000

PathParts = tuple[str, ...]


class File(NamedTuple):
    """A file by the names that lead to it, its size in bytes, and when its content and anything of
    it changed, in nanoseconds (the latter cannot be set back)."""

    parts: PathParts
    size: int
    modified: int
    changed: int

    @property
    def name(self) -> str:
        """The path below the root, as a message may show it."""
        return printable("/".join(self.parts))


@dataclass
class Tree:
    """What lies below a folder, by the names that lead there.

    `files` have a wanted suffix, `others` have not; `skipped` are links that are not followed;
    `runs` are folders of phiscale's own runs, which are not searched.
    """

    files: list[File] = field(default_factory=list)
    folders: list[PathParts] = field(default_factory=list)
    others: list[PathParts] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    runs: list[PathParts] = field(default_factory=list)


def walk(
    root: Path, suffixes: frozenset[str], border: Path | None = None, *, follow: bool = False
) -> Tree:
    """All that lies below `root`, sorted; `files` are those whose suffix is one of `suffixes`.

    Hidden entries are passed over. Symbolic links are followed inside `border` (`root` itself
    unless given; everywhere where `follow`), and skipped where they lead out of it, in a circle, or
    to nothing. Raises `InvalidInput` where a folder cannot be listed.
    """
    tree, endings = Tree(), tuple(suffixes)
    inside = os.sep if follow else realpath(border or root)
    pending: list[tuple[PathParts, PathParts]] = [((), (realpath(root),))]
    while pending:
        parts, above = pending.pop()
        entries = _entries(root.joinpath(*parts))
        if parts and {entry.name for entry in entries} >= _RUN_FILES:
            tree.runs.append(parts)
            continue
        if parts:
            tree.folders.append(parts)
        for entry in entries:
            path, wanted = (*parts, entry.name), entry.name.lower().endswith(endings)
            linked = realpath(entry.path) if entry.is_symlink() else None
            if linked and (reason := _trouble(linked, inside, above)):
                if entry.is_dir() or wanted:
                    tree.skipped.append(Skipped(printable("/".join(path)), reason))
            elif entry.is_dir():
                pending.append((path, (*above, linked or f"{above[-1]}{os.sep}{entry.name}")))
            elif entry.is_file() and wanted:
                status = entry.stat()
                times = status.st_mtime_ns, status.st_ctime_ns
                tree.files.append(File(path, status.st_size, *times))
            else:
                tree.others.append(path)
    for found in vars(tree).values():
        found.sort()
    return tree


def stamp_of(files: list[Path]) -> str:
    """Paths, sizes and times of change, in a string."""
    status = [(file, file.stat()) for file in files]
    return json.dumps([(str(f), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for f, s in status])


def file_items(root: Path, files: list[File]) -> Iterator[Item]:
    """The files as images; each is read when it is fetched."""
    for file in files:
        yield Item(file.name, partial(read_file, root.joinpath(*file.parts)))


def read_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises `Unreadable` if it is too large for one, and `InvalidInput` if it cannot be read: unlike
    a broken image, such a file may be whole.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise Unreadable(f"it has {size:,} bytes, more than any image")
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{printable(str(path))}: this image cannot be read ({error.strerror}); make it "
            "readable or move it away"
        ) from None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name != _LITTER]
    except OSError as error:
        raise InvalidInput(
            f"{printable(str(folder))}: this folder cannot be listed ({error.strerror}); "
            "make it readable or move it away"
        ) from None


def _trouble(target: str, inside: str, above: PathParts) -> str | None:
    """Why a symbolic link to `target` is not followed, if it is not."""
    if target != inside and not target.startswith(inside.rstrip(os.sep) + os.sep):
        return (
            "it is a symbolic link that leads out of the folder "
            "(`data.follow_links: true` follows it)"
        )
    if target in above:
        return "it is a symbolic link to a folder that contains it"
    if not Path(target).exists():
        return "it is a symbolic link to nothing"
    return None
