"""Families on disk: trained members, checked and loaded.

A family is a folder with `family.json` and one folder for each member; `scaling.export` writes it:

    family/  family.json  b0/ {architecture.json, model.safetensors, config.json, README.md …}  b1/

This is the Python interface to a family, and stable: `load_family`, `load_member`, what they give
(`.architecture`, `.cost`, `.build()`, `.load()`), and `Preprocessing`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from scaling.coefficients import Coefficients
from scaling.formats import ARCHITECTURE, WEIGHTS, Portable, Preprocessing, full_name
from space.architecture import Architecture
from space.cost import Cost, cost
from space.validation import InvalidInput, one_of, validate

if TYPE_CHECKING:
    from space.network import Network

__all__ = [
    "ARCHITECTURE",
    "WEIGHTS",
    "Preprocessing",
    "SavedFamily",
    "SavedMember",
    "load_family",
    "load_member",
]

FAMILY = "family.json"

#: The largest JSON file that is read, in bytes (assumed: a hundred times a large network's).
_MAX_JSON = 10_000_000

#: The largest file that is read, in bytes: so many times the weights, and so many beside (assumed).
_MOST_COPIES, _MOST_BESIDE = 4, 50_000_000

#: The most parameters of a member (assumed: twice those of EfficientNet-L2).
_MOST_PARAMS = 1_000_000_000

#: The largest number of another kind (assumed: MACs of a target are the largest that there are).
_MOST_NUMBER = 10**30


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name, re.ASCII):
        raise ValueError(f"must be a plain file name, but got {name!r}")
    return name


#: A name that does not lead out of the family's folder.
FileName = Annotated[str, AfterValidator(_plain)]

#: A number of images (the bound is assumed), and a part of them.
Images = Annotated[int, Field(ge=0, le=10**12)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

Integer = Annotated[int, Field(ge=-_MOST_NUMBER, le=_MOST_NUMBER)]
Number = Annotated[float, Field(ge=-_MOST_NUMBER, le=_MOST_NUMBER, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Quantised:
    """Accuracy with 8 bits and with 32 bits, as fractions of the same `images`.

    `arena` is the bytes of RAM that LiteRT for Microcontrollers takes; None if it was not asked.
    """

    accuracy: Fraction
    full_accuracy: Fraction
    images: Annotated[Images, Field(gt=0)]
    arena: Annotated[Integer, Field(ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class ResolutionRecord:
    """A member's weights measured at `resolution_factor` times the resolution of their training.

    Accuracies are fractions; that on held-out images is None where these were trained on. The
    `chosen` one is exported.
    """

    resolution_factor: Number
    resolution: int
    macs: Integer
    held_out_accuracy: Fraction | None
    accuracy: Fraction
    chosen: bool


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """One member in family.json; `files` has the SHA-256 of each file in its folder.

    `accuracy` is a fraction of `images` test images, and `class_accuracies` has one for each class
    (None for a class without images); None and empty if nothing was measured. `int8` has what was
    measured with 8 bits, by format. `card` is the SHA-256
    of the README as it was written, which people may edit.
    """

    name: FileName
    phi: Number
    depth: Number
    width: Number
    resolution: int
    cost: Cost
    key: str
    accuracy: Fraction | None
    images: Images
    train_seconds: Number
    files: dict[FileName, str]
    target: Integer | Number | None = None
    miss: Number | None = None
    class_accuracies: tuple[Fraction | None, ...] = ()
    int8: dict[FileName, Quantised] = field(default_factory=dict)
    card: str | None = None
    resolutions: tuple[ResolutionRecord, ...] = ()

    def __post_init__(self) -> None:
        for name in (ARCHITECTURE, WEIGHTS):
            if name not in self.files:
                raise ValueError(f"the files of {self.name} must include {name}")


@dataclass(frozen=True, slots=True)
class DataRecord:
    """What a family was trained and tested on; counts are of images, `per_class` by class."""

    source: str
    fingerprint: str
    train: Images
    test: Images
    train_per_class: tuple[Images, ...]
    test_per_class: tuple[Images, ...]
    held_out: Images
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StartRecord:
    """The weights that training runs started from.

    `source` is the network, `file` what held its weights, `sha256` the hash of these as
    safetensors, `licence` what their publisher says of it, None where that is unknown.
    """

    source: str
    file: str
    sha256: str
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """How a family was found: the search, its reward, and the training of the members."""

    space: str
    reward: str
    sampler: str
    trials: int
    search_epochs: int
    family_epochs: int
    seed: int
    metric: str
    phiscale: str
    start: StartRecord | None = None


@dataclass(frozen=True, slots=True)
class FamilyRecord:
    """The content of family.json; `coefficients` are None for networks that were not scaled."""

    members: tuple[MemberRecord, ...]
    coefficients: Coefficients | None
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    name: FileName = "family"
    data: DataRecord | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        names = Counter(member.name for member in self.members)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"names of members must be unique, but {repeated[0]} occurs twice")
        if self.coefficients and self.coefficients.nominal > _MOST_NUMBER:
            raise ValueError(f"coefficients must be of a reasonable size: {self.coefficients}")
        per_class = {f"accuracies of {each.name}": each.class_accuracies for each in self.members}
        per_class = {what: found for what, found in per_class.items() if found}  # or none
        if self.data:
            per_class["training images"] = self.data.train_per_class
            per_class["test images"] = self.data.test_per_class
        for what, found in per_class.items():
            if len(found) != len(self.classes):
                raise ValueError(
                    f"{what} must be given for each of the {len(self.classes)} classes, "
                    f"but there are {len(found)}"
                )


@dataclass(frozen=True, slots=True)
class SavedMember:
    """A trained member in `folder`; its files are those whose hashes are in `record`.

    >>> from scaling.saved_family import load_member
    >>> member = load_member("runs/demo/family/b0")
    >>> member.load().training, sorted(member.record.files)[:1]
    (False, ['architecture.json'])
    """

    folder: Path
    record: MemberRecord
    portable: Portable

    @property
    def architecture(self) -> Architecture:
        """The network, as data."""
        return self.portable.architecture

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
    def accuracy(self) -> float | None:
        """Fraction of the test images that it got right (or the run's other metric)."""
        return self.record.accuracy

    def build(self) -> Network:
        """The network with fresh weights."""
        from space.network import build

        return build(self.architecture)

    def load(self) -> Network:
        """The network with its trained weights, on the CPU, in evaluation mode.

        Raises `InvalidInput` if the weights are not those of family.json, or not of this network.
        Nothing is unpickled.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        data = self.read(WEIGHTS)
        network = self.build()
        try:
            network.load_state_dict(load(data))
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(
                f"{self.folder / WEIGHTS}: must contain the weights of {self.name}, but {reason}"
            ) from None
        return network.eval()

    def read(self, name: str) -> bytes:
        """The file `name` of the member, which family.json lists.

        Raises `InvalidInput` if it is not listed, differs from its hash, or is larger than the file
        of such a network can be.
        """
        path = self.folder / name
        if name not in self.record.files:
            raise InvalidInput(f"{path}: not listed in {FAMILY}; write it with phiscale export")
        try:
            _check_bytes(path, _most_bytes(self.cost))
            data = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from None
        _check_hash(path, hashlib.sha256(data).hexdigest(), self.record.files[name])
        return data


@dataclass(frozen=True, slots=True)
class SavedFamily:
    """A family on disk: a sequence of its members, which can also be looked up by name.

    >>> from scaling.saved_family import load_family
    >>> family = load_family("runs/demo/family")
    >>> len(family), family["b0"].cost == family[0].cost
    (1, True)
    """

    folder: Path
    record: FamilyRecord
    members: tuple[SavedMember, ...]

    @property
    def name(self) -> str:
        """The name of the run that made it."""
        return self.record.name

    @property
    def coefficients(self) -> Coefficients | None:
        """α, β and γ; None for networks that were not scaled."""
        return self.record.coefficients

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the logits."""
        return self.record.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes an input."""
        return self.record.preprocessing

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

    `SavedMember.load` reads the weights. Raises `InvalidInput`, naming the file, for one that is
    missing, damaged, swapped, outside the folder, or different from family.json.

    >>> from scaling.saved_family import load_family
    >>> [member.name for member in load_family("runs/demo/family")]
    ['b0']
    """
    folder = Path(folder)
    record = load_record(folder)
    members = tuple(_load_member(folder, record, member) for member in record.members)
    return SavedFamily(folder, record, members)


def load_member(folder: str | Path) -> SavedMember:
    """One member, by its folder `family/b1`; only its files are checked, as in `load_family`."""
    folder = Path(folder)
    family = folder.absolute().parent if folder.name in ("", "..") else folder.parent
    record = load_record(family)
    named = {member.name: member for member in record.members}
    name = folder.absolute().name
    if name not in named:
        raise one_of(str(family / FAMILY), name, named)
    return _load_member(family, record, named[name])


def load_record(folder: Path) -> FamilyRecord:
    """The content of the family.json in `folder`; raises `InvalidInput` for an invalid one."""
    path = folder / FAMILY
    _check_inside(folder, path)
    return validate(FamilyRecord, _read_json(path), source=str(path))


def _load_member(folder: Path, family: FamilyRecord, record: MemberRecord) -> SavedMember:
    path = folder / record.name / ARCHITECTURE
    _check_file(folder, path, record.files[ARCHITECTURE], _MAX_JSON)
    architecture = Architecture.from_dict(_read_json(path), source=str(path))
    # The cost is cheap to compute for any description, the key is not, so it is checked last.
    found = cost(architecture)
    _check_same(path, "resolution", architecture.resolution, record.resolution)
    _check_same(path, "cost", found, record.cost)
    if found.params > _MOST_PARAMS:
        raise InvalidInput(
            f"{path}: must have at most {_MOST_PARAMS} parameters, but has {found.params}"
        )
    for name, sha256 in record.files.items():
        _check_file(folder, folder / record.name / name, sha256, _most_bytes(found))
    weights = folder / record.name / WEIGHTS
    if (size := weights.stat().st_size) < 4 * found.params:  # before memory is allocated
        raise InvalidInput(
            f"{weights}: must have at least {4 * found.params} bytes for {found.params} "
            f"parameters, but has {size}"
        )
    _check_same(path, "key", architecture.key, record.key)
    _check_same(path, "number of classes", architecture.num_classes, len(family.classes))
    _check_same(path, "channels", architecture.in_channels, len(family.preprocessing.mean))
    name = full_name(family.name, record.name)
    portable = Portable(name, architecture, family.classes, family.preprocessing)
    return SavedMember(folder / record.name, record, portable)


def _most_bytes(found: Cost) -> int:
    """The largest that a file of such a network could be."""
    return _MOST_COPIES * 4 * found.params + _MOST_BESIDE


def _check_file(folder: Path, path: Path, sha256: str, most: int) -> None:
    """Checks that the file exists in the folder, with a plausible size and this hash."""
    if not path.is_file():
        raise InvalidInput(f"{path}: not found, but {FAMILY} lists it; export the family again")
    _check_inside(folder, path)
    _check_bytes(path, most)
    with path.open("rb") as file:
        _check_hash(path, hashlib.file_digest(file, "sha256").hexdigest(), sha256)


def _check_inside(folder: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"{path}: must be inside {folder}, but links to {path.resolve()}")


def _check_bytes(path: Path, most: int) -> None:
    if (size := path.stat().st_size) > most:
        raise InvalidInput(f"{path}: must have at most {most} bytes, but has {size}")


def _read_json(path: Path) -> Any:
    try:
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path}: must be a file")
        _check_bytes(path, _MAX_JSON)
        return json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path}: is not valid JSON: {error}") from None


def _unreadable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"{path}: cannot be read: {error.strerror}")


def _check_hash(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise InvalidInput(
            f"{path}: SHA-256 must be {expected[:12]}…, as in {FAMILY}, but is {found[:12]}…; "
            "the file was damaged or replaced; export the family again"
        )


def _check_same(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise InvalidInput(f"{path}: {what} must be {expected}, as in {FAMILY}, but is {found}")
