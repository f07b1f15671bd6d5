"""The cache: images decoded once, shared by all trials and processes, found again by content.

    CACHE/sources/STAMP.json   the store of a source whose files have not changed since, its notes
    CACHE/images/KEY/          a store; KEY follows from the content, the size and how it is kept
        manifest.json          classes, fingerprint, what was skipped
        labels.npy splits.npy rows.npy
        names.jsonl            what the source calls each image, a line each
        pixels.npy             uint8 (rows, resolution, resolution, channels), or
        images.bin offsets.npy compressed images, one after the other

A store is written in a folder beside its place, under a lock, and renamed when it is finished. So
it is whole or absent, two processes decode once, and what a killed one leaves is removed. The
source is read twice, to know what it holds and to decode it; a store of images that changed in
between is not kept.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy

from experiments.config import DataConfig
from experiments.data import decode
from experiments.data.images import CompressedImages, DecodedImages, Images, Indices
from experiments.data.inspection import Examined, examine, in_two_splits, quiet_pillow, two_splits
from experiments.data.messages import changed
from experiments.data.parallel import Progress, counted, in_order
from experiments.data.source import WHITE, ImageSource, KnownContent, OpenedSource, Skipped, Splits
from space.files import write_file
from space.validation import InvalidInput

T = TypeVar("T")

#: Changes whenever the same images would be stored differently.
_VERSION = 4

_MANIFEST = "manifest.json"
_PIXELS = "pixels.npy"
_COMPRESSED, _OFFSETS = "images.bin", "offsets.npy"
_ROWS, _LABELS, _SPLITS, _NAMES = "rows.npy", "labels.npy", "splits.npy", "names.jsonl"


@dataclass(frozen=True)
class Stored:
    """All usable images of a source.

    Their order is by split, then by content: the same for every format of the source.
    `fingerprint` is a hash of classes, splits, labels and the images' full-size pixels. `white` is
    the value of images of more than 8 bits that became 255. `size` is in bytes.
    """

    images: Images
    splits: Splits
    classes: tuple[str, ...]
    fingerprint: str
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    white: int
    size: int
    folder: Path

    def names(self, indices: Indices) -> tuple[str, ...]:
        """What the source calls the images at `indices`: files by their paths in it."""
        wanted = set(indices.tolist())
        with (self.folder / _NAMES).open(encoding="utf-8") as lines:
            found = {at: json.loads(line) for at, line in enumerate(lines) if at in wanted}
        return tuple(found[int(index)] for index in indices)


def store(
    opened: OpenedSource, config: DataConfig, resolution: int, cache: Path, progress: Progress
) -> Stored:
    """The source's images from the cache, decoded into it first if they are not there.

    `resolution` is their side in pixels at most. Raises `InvalidInput` if the source cannot be
    used or the cache cannot be written.
    """
    form = (resolution, config.channels, config.max_pixels, config.cache_limit)
    known_by = _hash(opened.format, opened.path, opened.stamp, form)
    remembered = cache / "sources" / f"{known_by}.json"
    recalled = _recall(remembered, cache / "images")
    if recalled is None:
        source = opened.read()
        try:
            with quiet_pillow():
                folder = _ingest(source, config, resolution, cache / "images", progress)
            recalled = folder, source.notes
            if source.stamped():
                known = {"store": folder.name, "notes": source.notes}
                write_file(remembered, json.dumps(known))
        except OSError as error:
            raise InvalidInput(
                f"data.cache: cannot write to {cache} ({error.strerror or error}); choose another "
                "folder or make room"
            ) from error
    return _open(*recalled)


def _recall(remembered: Path, images: Path) -> tuple[Path, tuple[str, ...]] | None:
    """The store that was written for a source, if it is still there, and the source's notes."""
    try:
        known = json.loads(remembered.read_text("utf-8"))
        folder, notes = images / Path(known["store"]).name, tuple(known["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (folder, notes) if _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in manifest["sizes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(manifest["version"] == _VERSION and sizes == manifest["sizes"])


def _ingest(
    source: ImageSource, config: DataConfig, resolution: int, images: Path, progress: Progress
) -> Path:
    """The store with the source's content, written now unless it is there."""
    known = source.known or _examined(source, config.max_pixels, progress)
    # No larger than the largest image is: enlarging adds bytes and no detail.
    resolution = min(resolution, known.side or resolution)
    size = len(source.labels) * resolution**2 * config.channels
    plan = _Plan(
        resolution, config.channels, config.max_pixels, known.white, size > config.cache_limit
    )
    folder = images / f"{_hash(_VERSION, known.identity, plan)}-{resolution}"
    images.mkdir(parents=True, exist_ok=True)
    _sweep(images)
    with FileLock(folder.with_suffix(".lock")):
        if not _is_whole(folder):
            _write(source, known.identity, folder, plan, progress)
    return folder


def _sweep(images: Path) -> None:
    """Removes what killed processes left behind. A running process holds its lock."""
    for left in images.glob("*.partial"):
        with suppress(Timeout), FileLock(left.with_suffix(".lock"), timeout=0):
            shutil.rmtree(left, ignore_errors=True)


# ---------------------------------------------------------------------------- what the content is


def _examined(source: ImageSource, max_pixels: int, progress: Progress) -> KnownContent:
    """The identity of the source's images, and their largest side and value."""
    identity = _identity(source)
    side = largest = 0
    work = partial(decode.header, max_pixels=max_pixels)
    for image in _images("Reading images", source, work, identity, progress):
        if image.found:
            side, largest = max(side, image.found.side), max(largest, image.found.peak)
    return KnownContent(identity.hexdigest(), side, decode.white_of(largest or WHITE))


def _identity(source: ImageSource) -> hashlib.blake2b:
    """A hash of a source's classes, labels and splits, to be updated with its images."""
    identity = hashlib.blake2b(repr((source.classes, source.skipped)).encode(), digest_size=16)
    identity.update(source.labels.tobytes())
    identity.update(source.splits.tobytes())
    return identity


def _images(
    what: str,
    source: ImageSource,
    work: Callable[[bytes | decode.Pixels], T],
    identity: hashlib.blake2b,
    progress: Progress,
) -> Iterator[Examined[T]]:
    """What `work` finds in each image; `identity` is updated with their names and contents."""
    results = in_order(partial(examine, work=work), source.items(), lambda item: item.size)
    for image in counted(what, results, len(source.labels), progress):
        identity.update(image.name.encode("utf-8", "surrogateescape") + b"\0" + image.content)
        yield image


def _hash(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


# -------------------------------------------------------------------------------- writing a store


class _Plan(NamedTuple):
    """What decides the bytes of a store, beside the source's content."""

    resolution: int
    channels: int
    max_pixels: int
    white: int
    compressed: bool


def _stored(content: bytes | decode.Pixels, plan: _Plan) -> tuple[bytes, bytes]:
    """A digest of an image's full-size pixels, and the bytes to store."""
    pixels = decode.decode(content, plan.channels, plan.max_pixels, plan.white)
    if not plan.compressed:
        form = (plan.channels, plan.resolution, plan.white)
        stored = decode.decode_fitted(content, *form, whole=pixels).tobytes()
    elif isinstance(content, bytes):
        stored = content
    else:
        stored = decode.encode(pixels)
    return decode.digest(pixels), stored


def _write(
    source: ImageSource, identity: str, folder: Path, plan: _Plan, progress: Progress
) -> None:
    unfinished = folder.with_suffix(".partial")
    for left in (folder, unfinished):
        shutil.rmtree(left, ignore_errors=True)
    unfinished.mkdir()
    try:
        found, outcomes, names = _write_images(source, unfinished, plan, progress)
        if found != identity and not source.known:
            raise changed("some have other content")
        _write_facts(source, unfinished, plan, outcomes, names)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write_images(
    source: ImageSource, folder: Path, plan: _Plan, progress: Progress
) -> tuple[str, list[bytes | Skipped], list[str]]:
    """Writes all images, a blank row of pixels for one that cannot be used.

    Gives the identity of the source as it was read now, and of each image a digest of its pixels,
    or why it cannot be used, and its name.
    """
    count = len(source.labels)
    shape = (count, plan.resolution, plan.resolution, plan.channels)
    blank = b"" if plan.compressed else bytes(math.prod(shape[1:]))
    identity = _identity(source)
    outcomes: list[bytes | Skipped] = []
    names: list[str] = []
    offsets = [0]
    with (folder / (_COMPRESSED if plan.compressed else _PIXELS)).open("wb") as file:
        if not plan.compressed:
            size, free = math.prod(shape), shutil.disk_usage(folder).free
            if free < size:  # said at once, not after an hour of decoding
                lacking = f"{size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
                raise OSError(errno.ENOSPC, lacking)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
        work = partial(_stored, plan=plan)
        for image in _images("Decoding images", source, work, identity, progress):
            pixels, stored = image.found or (b"", blank)
            file.write(stored)
            offsets.append(file.tell())
            outcomes.append(image.broken or pixels)
            names.append(image.name)
        file.flush()
        os.fsync(file.fileno())
    if plan.compressed:
        np.save(folder / _OFFSETS, np.array(offsets, np.int64))
    return identity.hexdigest(), outcomes, names


def _write_facts(
    source: ImageSource,
    folder: Path,
    plan: _Plan,
    outcomes: list[bytes | Skipped],
    names: list[str],
) -> None:
    """Writes which rows are usable, in their order, and, last, the manifest."""
    rows = np.array([row for row, out in enumerate(outcomes) if isinstance(out, bytes)], np.int64)
    digests = [out for out in outcomes if isinstance(out, bytes)]
    high, low = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).T
    labels, splits = source.labels[rows], source.splits[rows]
    order = np.lexsort((labels, low, high, splits))
    for name, values in ((_ROWS, rows), (_LABELS, labels), (_SPLITS, splits)):
        np.save(folder / name, values[order])
    with (folder / _NAMES).open("w", encoding="utf-8") as lines:
        lines.writelines(f"{json.dumps(names[row])}\n" for row in rows[order])
    content = np.stack([splits, labels, high, low], axis=1, dtype=">u8", casting="unsafe")[order]
    identity = json.dumps(source.classes).encode() + content.tobytes()
    manifest = {
        "version": _VERSION,
        "classes": source.classes,
        "fingerprint": hashlib.blake2b(identity, digest_size=16).hexdigest(),
        **plan._asdict(),
        "skipped": [*source.skipped, *(out for out in outcomes if isinstance(out, Skipped))],
        "notes": two_splits(in_two_splits(digests, splits)),
        "sizes": {file.name: file.stat().st_size for file in folder.iterdir()},
    }
    write_file(folder / _MANIFEST, json.dumps(manifest))


# -------------------------------------------------------------------------------- opening a store


def _open(folder: Path, notes: tuple[str, ...]) -> Stored:
    manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
    rows, labels, splits = (np.load(folder / name) for name in (_ROWS, _LABELS, _SPLITS))
    images: Images
    if manifest["compressed"]:
        form = (manifest["resolution"], manifest["channels"], manifest["white"])
        offsets = np.load(folder / _OFFSETS)
        images = CompressedImages(folder / _COMPRESSED, offsets, rows, labels, *form)
    else:
        images = DecodedImages(np.load(folder / _PIXELS, mmap_mode="r"), rows, labels)
    return Stored(
        images=images,
        splits=splits,
        classes=tuple(manifest["classes"]),
        fingerprint=manifest["fingerprint"],
        skipped=tuple(Skipped(*pair) for pair in manifest["skipped"]),
        notes=(*notes, *manifest["notes"]),
        white=manifest["white"],
        size=sum(manifest["sizes"].values()),
        folder=folder,
    )
