"""The cache: images decoded once, shared by all trials and processes, found again by content.

    CACHE/sources/STAMP.json   which store holds a source whose files have not changed since
    CACHE/images/KEY/          a store; KEY follows from the content, the size and how it is kept
        manifest.json          classes, fingerprint, what was skipped
        labels.npy splits.npy rows.npy
        pixels.npy             uint8 (rows, resolution, resolution, channels), or
        images.bin offsets.npy compressed images, one after the other

A store is written in a folder beside its place, under a lock, and renamed when it is finished. So
it is whole or absent, two processes decode once, and what a killed one leaves is swept up.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from numpy.typing import NDArray

from experiments.data import decode
from experiments.data.images import CompressedImages, DecodedImages, Images
from experiments.data.parallel import Progress, counted, in_order
from experiments.data.source import ImageSource, Item, KnownContent, OpenedSource, Skipped, check
from space.files import write_file
from space.validation import InvalidInput

#: Changes whenever the same images would be stored differently.
_VERSION = 1

_MANIFEST = "manifest.json"
_PIXELS = "pixels.npy"
_COMPRESSED, _OFFSETS = "images.bin", "offsets.npy"
_ROWS, _LABELS, _SPLITS = "rows.npy", "labels.npy", "splits.npy"


class StorageForm(NamedTuple):
    """How images are to be kept: pixels of a side (at most), channels, the cap on an image's
    pixels, and the bytes above which they are kept compressed."""

    resolution: int
    channels: int
    max_pixels: int
    limit: int


@dataclass(frozen=True)
class Stored:
    """All usable images of a source.

    Their order is by split, then by content: the same whatever format the images came in.
    `fingerprint` is a hash of classes, splits, labels and the images' full-size pixels. `size` is
    in bytes.
    """

    images: Images
    splits: NDArray[np.uint8]
    classes: tuple[str, ...]
    fingerprint: str
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    size: int


def store(opened: OpenedSource, cache: Path, form: StorageForm, progress: Progress) -> Stored:
    """The source's images from the cache, put there first where they are not in it.

    Raises `InvalidInput` where the source cannot be used, or the cache not be written.
    """
    known_by = _hash(opened.format, str(opened.path), opened.stamp, form)
    remembered = cache / "sources" / f"{known_by}.json"
    folder = _recall(remembered, cache / "images")
    if folder is None:
        source = opened.scan()
        check(opened.path, source.classes, source.labels, source.splits)
        try:
            with quiet_pillow():
                folder = _ingest(source, cache / "images", form, progress)
            write_file(remembered, json.dumps({"store": folder.name}))
        except OSError as error:
            raise InvalidInput(
                f"data.cache: images must be kept in {cache}, but writing there fails "
                f"({error.strerror or error}); choose another folder or make room"
            ) from error
    return _open(folder)


def _recall(remembered: Path, images: Path) -> Path | None:
    """The store that was written for a source, if it is still there."""
    try:
        folder = images / Path(json.loads(remembered.read_text("utf-8"))["store"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if _is_whole(folder) else None


def _is_whole(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in manifest["sizes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(manifest["version"] == _VERSION and sizes == manifest["sizes"])


def _ingest(source: ImageSource, images: Path, form: StorageForm, progress: Progress) -> Path:
    """The store with the source's content, written now unless it is there."""
    identity, side = source.known or _survey(source, form, progress)
    plan = _Plan.of(source, form, side)
    folder = images / f"{_hash(_VERSION, identity, plan)}-{plan.resolution}"
    images.mkdir(parents=True, exist_ok=True)
    _sweep(images)
    with FileLock(folder.with_suffix(".lock")):
        if not _is_whole(folder):
            _write(source, folder, plan, progress)
    return folder


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Without Pillow's warnings (damaged EXIF data, many pixels): what matters is reported."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _sweep(images: Path) -> None:
    """Removes what killed processes left. A living one holds its lock."""
    for left in images.glob("*.partial"):
        with suppress(Timeout), FileLock(left.with_suffix(".lock"), timeout=0):
            shutil.rmtree(left, ignore_errors=True)


# ---------------------------------------------------------------------------- what the content is


def _survey(source: ImageSource, form: StorageForm, progress: Progress) -> KnownContent:
    """A hash of all encoded images, their names, classes and splits; and the largest side."""
    content = hashlib.blake2b(digest_size=16)
    content.update(repr((source.classes, source.skipped, source.notes)).encode())
    content.update(source.labels.tobytes() + source.splits.tobytes())
    largest = 0
    looks = in_order(partial(_look, max_pixels=form.max_pixels), source.items())
    for digest, side in counted("Reading images", looks, len(source.labels), progress):
        content.update(digest)
        largest = max(largest, side)
    return KnownContent(content.hexdigest(), largest)


def _look(item: Item, max_pixels: int) -> tuple[bytes, int]:
    """Hash of an item's name and content, and its shorter side (0 where it is not usable)."""
    content = item.fetch()
    if isinstance(content, bytes):
        return _digest(item.name, content), decode.shorter_side(content, max_pixels)
    shape = repr(content.shape).encode()
    return _digest(item.name, shape + content.tobytes()), min(content.shape[:2])


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.blake2b(name.encode() + b"\0" + content, digest_size=16).digest()


def _hash(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


# -------------------------------------------------------------------------------- writing a store


class _Plan(NamedTuple):
    """What decides the bytes of a store, beside the source's content."""

    resolution: int
    channels: int
    max_pixels: int
    compressed: bool

    @classmethod
    def of(cls, source: ImageSource, form: StorageForm, side: int) -> _Plan:
        """Stored no larger than the largest image is: enlarging adds bytes and no detail."""
        resolution = min(form.resolution, side) if side else form.resolution
        size = len(source.labels) * resolution**2 * form.channels
        return cls(resolution, form.channels, form.max_pixels, size > form.limit)

    @property
    def file(self) -> str:
        """Name of the file that holds the images."""
        return _COMPRESSED if self.compressed else _PIXELS


class _Prepared(NamedTuple):
    """An image that decodes: a hash of its full-size pixels, and the bytes to store."""

    digest: bytes
    stored: bytes


def _prepare(item: Item, plan: _Plan) -> _Prepared | Skipped:
    try:
        content = item.fetch()
        if isinstance(content, bytes):
            pixels = decode.decode(content, plan.channels, plan.max_pixels)
        else:
            pixels = decode.from_array(content, plan.channels, plan.max_pixels)
            content = decode.encode(pixels) if plan.compressed else b""
    except decode.Unreadable as error:
        return Skipped(item.name, str(error))
    if not plan.compressed:
        content = decode.fit(pixels, plan.resolution).tobytes()
    return _Prepared(decode.digest(pixels), content)


def _write(source: ImageSource, folder: Path, plan: _Plan, progress: Progress) -> None:
    unfinished = folder.with_suffix(".partial")
    for left in (folder, unfinished):
        shutil.rmtree(left, ignore_errors=True)
    unfinished.mkdir()
    try:
        outcomes = _write_images(source, unfinished, plan, progress)
        _write_facts(source, unfinished, plan, outcomes)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write_images(
    source: ImageSource, folder: Path, plan: _Plan, progress: Progress
) -> list[bytes | Skipped]:
    """Writes all images; gives each one's digest, or why it is skipped (a blank row of pixels)."""
    count = len(source.labels)
    shape = (count, plan.resolution, plan.resolution, plan.channels)
    blank = b"" if plan.compressed else bytes(math.prod(shape[1:]))
    outcomes: list[bytes | Skipped] = []
    offsets = np.zeros(count + 1, np.int64)
    with (folder / plan.file).open("wb") as file:
        if not plan.compressed:
            _need_room(folder, math.prod(shape))
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
        results = in_order(partial(_prepare, plan=plan), source.items())
        for result in counted("Decoding images", results, count, progress):
            if isinstance(result, Skipped):
                outcomes.append(result)
                file.write(blank)
            else:
                outcomes.append(result.digest)
                file.write(result.stored)
            offsets[len(outcomes)] = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if plan.compressed:
        np.save(folder / _OFFSETS, offsets)
    return outcomes


def _need_room(folder: Path, size: int) -> None:
    """Raises OSError where `size` bytes do not fit: sooner than after an hour of decoding."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def _write_facts(
    source: ImageSource, folder: Path, plan: _Plan, outcomes: list[bytes | Skipped]
) -> None:
    """Writes which rows are usable, in their order, and, last, the manifest."""
    rows = np.array([i for i, out in enumerate(outcomes) if isinstance(out, bytes)], np.int64)
    digests = b"".join(out for out in outcomes if isinstance(out, bytes))
    high, low = np.frombuffer(digests, ">u8").reshape(-1, 2).T
    labels, splits = source.labels[rows], source.splits[rows]
    order = np.lexsort((labels, low, high, splits))
    np.save(folder / _ROWS, rows[order])
    np.save(folder / _LABELS, labels[order])
    np.save(folder / _SPLITS, splits[order])
    content = np.stack([splits, labels, high, low], axis=1, dtype=">u8", casting="unsafe")[order]
    skipped = [*source.skipped, *(out for out in outcomes if isinstance(out, Skipped))]
    manifest = {
        "version": _VERSION,
        "classes": source.classes,
        "fingerprint": hashlib.blake2b(
            json.dumps(source.classes).encode() + content.tobytes(), digest_size=16
        ).hexdigest(),
        "resolution": plan.resolution,
        "channels": plan.channels,
        "compressed": plan.compressed,
        "skipped": skipped,
        "notes": source.notes,
        "sizes": {file.name: file.stat().st_size for file in folder.iterdir()},
    }
    write_file(folder / _MANIFEST, json.dumps(manifest))


# -------------------------------------------------------------------------------- opening a store


def _open(folder: Path) -> Stored:
    manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
    rows, labels = np.load(folder / _ROWS), np.load(folder / _LABELS)
    images: Images
    if manifest["compressed"]:
        offsets = np.load(folder / _OFFSETS)
        size, channels = manifest["resolution"], manifest["channels"]
        images = CompressedImages(folder / _COMPRESSED, offsets, rows, labels, size, channels)
    else:
        images = DecodedImages(np.load(folder / _PIXELS, mmap_mode="r"), rows, labels)
    return Stored(
        images=images,
        splits=np.load(folder / _SPLITS),
        classes=tuple(manifest["classes"]),
        fingerprint=manifest["fingerprint"],
        skipped=tuple(Skipped(*pair) for pair in manifest["skipped"]),
        notes=tuple(manifest["notes"]),
        size=sum(manifest["sizes"].values()),
    )
