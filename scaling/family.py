"""Families on disk: trained members, checked and loaded.

A family is a folder with `family.json` and one folder for each member; `scaling.export` writes it:

    family/  family.json  b0/ {architecture.json, model.safetensors, README.md}  b1/ …
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.coefficients import Coefficients
from space.architecture import Architecture
from space.cost import Cost, cost
from space.validation import InvalidInput, one_of, validate

if TYPE_CHECKING:
    from space.network import Network

FAMILY = "family.json"
ARCHITECTURE = "architecture.json"
WEIGHTS = "model.safetensors"

#: What members and their files may be called: nothing that leads out of the family's folder.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)

#: The largest JSON file that is read, in bytes (assumed: a hundred times a large network's).
_MAX_JSON = 10_000_000


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes a network's input, once resized to the member's resolution.

    Pixels from 0 to 1, less `mean`, over `std`, of each channel. `interpolation` is the resize's.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """What family.json says of a member; `files` has the SHA-256 of each in its folder.

    `accuracy` is a fraction, on `images` images. Raises ValueError for names that could lead out of
    the folder.
    """

    name: str
    phi: float
    depth: float
    width: float
    resolution: int
    cost: Cost
    key: str
    accuracy: float
    images: int
    train_seconds: float
    files: dict[str, str]
    target: int | float | None = None
    miss: float | None = None

    def __post_init__(self) -> None:
        for name in (self.name, *self.files):
            if not _NAME.fullmatch(name):
                raise ValueError(f"a plain file name must be given, but got {name!r}")
        for name in (ARCHITECTURE, WEIGHTS):
            if name not in self.files:
                raise ValueError(f"the files of {self.name} must list {name}, but it is missing")


@dataclass(frozen=True, slots=True)
class FamilyRecord:
    """The content of family.json."""

    members: tuple[MemberRecord, ...]
    coefficients: Coefficients
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        names = Counter(member.name for member in self.members)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"names of members must be unique, but got {repeated[0]} repeatedly")


@dataclass(frozen=True, slots=True)
class SavedMember:
    """A trained member in `folder`; its files are those whose hashes are in `record`."""

    folder: Path
    record: MemberRecord
    architecture: Architecture

    @property
    def name(self) -> str:
        """b0, b1 …"""
        return self.record.name

    @property
    def phi(self) -> float:
        """The φ of the member."""
        return self.record.phi

    @property
    def cost(self) -> Cost:
        """Exact cost at the member's own resolution."""
        return cost(self.architecture)

    @property
    def accuracy(self) -> float:
        """Fraction of the test images that it got right (or the run's other metric)."""
        return self.record.accuracy

    def build(self) -> Network:
        """The network with fresh weights."""
        from space.network import build

        return build(self.architecture)

    def load(self) -> Network:
        """The network with its trained weights, on the CPU, in evaluation mode.

        Raises `InvalidInput` where the weights are not those that family.json names, or not this
        network's. Nothing is unpickled.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.folder / WEIGHTS
        data = path.read_bytes()
        _check_hash(path, hashlib.sha256(data).hexdigest(), self.record.files[WEIGHTS])
        network = self.build()
        try:
            network.load_state_dict(load(data))
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(
                f"{path}: must hold the weights of {self.name}, but {reason}"
            ) from None
        return network.eval()


@dataclass(frozen=True, slots=True)
class SavedFamily:
    """A family on disk: a sequence of its members, also by name (`family["b1"]`)."""

    folder: Path
    members: tuple[SavedMember, ...]
    coefficients: Coefficients
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    def __iter__(self) -> Iterator[SavedMember]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, which: int | str) -> SavedMember:
        if isinstance(which, int):
            return self.members[which]
        named = {member.name: member for member in self.members}
        if which not in named:
            raise one_of(str(self.folder), which, named)
        return named[which]


def load_family(folder: str | Path) -> SavedFamily:
    """The exported family in `folder`, every file checked against its hash in family.json.

    Weights are read by `SavedMember.load`. Raises `InvalidInput`, naming the file, for one that is
    missing, damaged, swapped, outside the folder, or at odds with family.json.
    """
    folder = Path(folder)
    record = validate(FamilyRecord, _read_json(folder / FAMILY), source=str(folder / FAMILY))
    return SavedFamily(
        folder=folder,
        members=tuple(_load_member(folder, member) for member in record.members),
        coefficients=record.coefficients,
        classes=record.classes,
        preprocessing=record.preprocessing,
    )


def _load_member(folder: Path, record: MemberRecord) -> SavedMember:
    for name, sha256 in record.files.items():
        path = folder / record.name / name
        if not path.is_file():
            raise InvalidInput(
                f"{path}: must exist, for {FAMILY} lists it; export the family again"
            )
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InvalidInput(f"{path}: must lie in {folder}, but leads to {path.resolve()}")
        with path.open("rb") as file:
            _check_hash(path, hashlib.file_digest(file, "sha256").hexdigest(), sha256)

    path = folder / record.name / ARCHITECTURE
    architecture = Architecture.from_dict(_read_json(path), source=str(path))
    # The cost is cheap for any description, the key only for one of reasonable size: it comes last.
    _check_same(path, "resolution", architecture.resolution, record.resolution)
    _check_same(path, "cost", cost(architecture), record.cost)
    _check_size(folder / record.name / WEIGHTS, record.cost.params)
    _check_same(path, "key", architecture.key, record.key)
    return SavedMember(folder / record.name, record, architecture)


def _read_json(path: Path) -> Any:
    try:
        if (size := path.stat().st_size) > _MAX_JSON:
            raise InvalidInput(f"{path}: must have at most {_MAX_JSON} bytes, but has {size}")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path}: must be readable, but {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: must be JSON, but {error}") from None


def _check_hash(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise InvalidInput(
            f"{path}: its SHA-256 must be {expected[:12]}… as {FAMILY} says, but is {found[:12]}…; "
            f"the file was damaged or replaced, so export the family again"
        )


def _check_same(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise InvalidInput(f"{path}: its {what} must be {expected} as in {FAMILY}, but is {found}")


def _check_size(path: Path, params: int) -> None:
    """Before memory is taken: a network can be no larger than the file of its weights."""
    if (size := path.stat().st_size) < 4 * params:
        raise InvalidInput(
            f"{path}: {params} parameters need at least {4 * params} bytes, but it has {size}"
        )
