"""Files below a folder, found without ever leaving it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from os.path import realpath
from pathlib import Path
from typing import NamedTuple

from experiments.data.source import Skipped, printable
from space.validation import InvalidInput

#: What macOS leaves in archives, beside hidden files.
_LITTER = "__MACOSX"


class File(NamedTuple):
    """A file by the names that lead to it, its size in bytes, and the times in nanoseconds at which
    its content and anything of it changed (the latter cannot be set back)."""

    parts: tuple[str, ...]
    size: int
    modified: int
    changed: int


@dataclass
class Tree:
    """What lies below a folder, by the names that lead there.

    `files` have a wanted suffix, `others` have not; `skipped` are links that are not followed.
    """

    files: list[File] = field(default_factory=list)
    folders: list[tuple[str, ...]] = field(default_factory=list)
    others: list[tuple[str, ...]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def walk(root: Path, suffixes: frozenset[str], border: Path | None = None) -> Tree:
    """All that lies below `root`, sorted; `files` are those whose suffix is one of `suffixes`.

    Hidden entries are passed over. Symbolic links are followed inside `border` (`root` itself
    unless given), and skipped where they lead out of it, in a circle, or to nothing. Raises
    `InvalidInput` where a folder cannot be listed.
    """
    tree = Tree()
    inside = realpath(border or root)
    pending: list[tuple[tuple[str, ...], tuple[str, ...]]] = [((), (realpath(root),))]
    while pending:
        parts, above = pending.pop()
        for entry in _entries(root.joinpath(*parts)):
            path, wanted = (*parts, entry.name), _suffix(entry.name) in suffixes
            linked = realpath(entry.path) if entry.is_symlink() else None
            if linked and (reason := _trouble(linked, inside, above)):
                if entry.is_dir() or wanted:
                    tree.skipped.append(Skipped(printable("/".join(path)), reason))
            elif entry.is_dir():
                tree.folders.append(path)
                pending.append((path, (*above, linked or f"{above[-1]}{os.sep}{entry.name}")))
            elif entry.is_file() and wanted:
                status = entry.stat()
                times = status.st_mtime_ns, status.st_ctime_ns
                tree.files.append(File(path, status.st_size, *times))
            else:
                tree.others.append(path)
    for found in (tree.files, tree.folders, tree.others, tree.skipped):
        found.sort()
    return tree


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name != _LITTER]
    except OSError as error:
        raise InvalidInput(
            f"{printable(str(folder))}: this folder cannot be listed ({error.strerror}); "
            "make it readable or move it away"
        ) from None


def _suffix(name: str) -> str:
    """`Path(name).suffix` in small letters, without a Path for each of a million files."""
    return name[name.rfind(".") :].lower()


def _trouble(target: str, inside: str, above: tuple[str, ...]) -> str | None:
    """Why a symbolic link to `target` is not followed, if it is not."""
    if target != inside and not target.startswith(inside.rstrip(os.sep) + os.sep):
        return "it is a symbolic link that leads out of the folder"
    if target in above:
        return "it is a symbolic link to a folder that contains it"
    if not Path(target).exists():
        return "it is a symbolic link to nothing"
    return None
