"""Exports trained members in every format, and compares each with the trained network."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.coefficients import Coefficients
from scaling.family import PlannedMember
from scaling.formats import (
    ARCHITECTURE,
    CARD,
    WEIGHTS,
    Format,
    NotRun,
    Portable,
    Predict,
    Preprocessing,
    card,
    full_name,
    litert,
    onnx,
    predictor,
    preprocess,
    program,
    standalone,
    timm,
)
from scaling.saved_family import (
    FAMILY,
    DataRecord,
    FamilyRecord,
    MemberRecord,
    Origin,
    Quantised,
    ResolutionRecord,
    SavedMember,
    load_record,
)
from scaling.verification import (
    FILES,
    INT8,
    RUNTIMES,
    TOLERANCES,
    not_installed,
    open_format,
    open_int8,
)
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from space.network import Network

#: What a run writes.
EVERY = frozenset(Format) - RUNTIMES.keys()


class ExportMismatch(RuntimeError):
    """The exported network does not give the trained network's outputs."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The results of a member's training run; accuracies are fractions of `images` test images."""

    accuracy: float | None
    images: int
    train_seconds: float
    class_accuracies: tuple[float | None, ...] = ()
    resolutions: tuple[ResolutionRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What the members of a family share; `name` is the run's."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    data: DataRecord | None = None
    origin: Origin | None = None


def export_member(
    folder: Path,
    member: PlannedMember,
    network: Network,
    trained: Trained,
    about: About,
    inputs: Tensor,
    *,
    formats: Collection[Format] = EVERY,
) -> MemberRecord:
    """Writes FOLDER/NAME/, checks it, and returns its record for family.json.

    Runs the network from the written files in every format, and compares its outputs for `inputs`
    (N × channels × H × W, preprocessed) with those of `network`. Raises `ExportMismatch` with the
    largest difference. `write_family` writes the card. Formats whose packages are not installed or
    that cannot express the network are left out (see `left_out`).
    """
    name = full_name(about.name, member.name)
    portable = Portable(name, member.architecture, about.classes, about.preprocessing)
    before = _before(folder, member.name)
    files = _write(folder / member.name, portable, network, formats, before)
    same = before is not None and before.files.get(WEIGHTS) == files[WEIGHTS]
    record = MemberRecord(
        name=member.name,
        phi=member.phi,
        depth=member.depth,
        width=member.width,
        resolution=member.resolution,
        cost=member.cost,
        key=member.architecture.key,
        **{field.name: getattr(trained, field.name) for field in fields(trained)},
        files=files,
        target=member.target,
        miss=member.miss,
        int8=_still(before.int8, files) if before and same else {},
        card=before.card if before else None,
    )
    _prove(SavedMember(folder / member.name, record, portable), network, inputs, formats)
    return record


def _still(int8: dict[str, Quantised], files: dict[str, str]) -> dict[str, Quantised]:
    """What was measured with 8 bits, of the formats that are there."""
    return {name: each for name, each in int8.items() if INT8[Format(name)][0] in files}


def export_again(member: SavedMember, formats: Collection[Format], inputs: Tensor) -> MemberRecord:
    """Adds `formats` to a saved member, checked as by `export_member`; other files stay."""
    network = member.load()
    there = {each for each, names in FILES.items() if names[0] in member.record.files}
    files = _write(member.folder, member.portable, network, {*formats, *there}, member.record)
    record = replace(member.record, files=files)
    _prove(replace(member, record=record), network, inputs, formats)
    return record


def quantise(
    member: SavedMember,
    formats: Collection[Format],
    calibration: NDArray[np.float32],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> MemberRecord:
    """Writes the member with 8 bits in those of `formats` that have them, and measures accuracies.

    The ranges come from the inputs `calibration`, the accuracies from `images` (N × channels × H ×
    W, preprocessed) and their `labels` (N). ONNX is made from the member's model.onnx.
    """

    def accuracy(predict: Predict) -> float:
        starts = range(0, len(images), 64)
        right = [predict(images[i : i + 64]).argmax(1) == labels[i : i + 64] for i in starts]
        return sum(int(batch.sum()) for batch in right) / len(images)

    network, record = member.load(), member.record
    full = accuracy(predictor(network))
    for format_ in sorted(INT8.keys() & set(formats)):
        if format_ is Format.ONNX:
            contents: tuple[bytes, ...] = (onnx.quantised(member.read(onnx.FILE), calibration),)
        else:
            contents = RUNTIMES[format_].content(member.portable, network, calibration)
        files = dict(zip(INT8[format_], contents, strict=True))
        for name, content in files.items():
            write_file(member.folder / name, content)
        hashes = {name: _sha256(content) for name, content in files.items()}
        record = replace(record, files=record.files | hashes)
        small = open_int8(replace(member, record=record), format_, trust=True)
        arena = litert.arena(contents[0]) if format_ is Format.LITERT else None
        found = Quantised(accuracy(small), full, len(images), arena and sum(arena))
        record = replace(record, int8={**record.int8, format_.value: found})
    return record


def write_family(
    folder: Path, records: Sequence[MemberRecord], coefficients: Coefficients | None, about: About
) -> FamilyRecord:
    """Writes the cards and, last, FOLDER/family.json, which makes the members a family.

    An edited card is not overwritten; delete it to have it written again.
    """
    shared = {field.name: getattr(about, field.name) for field in fields(about)}
    return write_cards(folder, FamilyRecord(tuple(records), coefficients, **shared))


def write_cards(folder: Path, family: FamilyRecord) -> FamilyRecord:
    """Writes family.json and the members' cards, except edited ones."""
    members = []
    for record in family.members:
        path = folder / record.name / CARD
        if edited(path, record):
            members.append(record)
            continue
        text = card.text(family, record, folder).encode()
        write_file(path, text)
        members.append(replace(record, card=_sha256(text)))
    family = replace(family, members=tuple(members))
    data = asdict(family)
    for member, record in zip(data["members"], family.members, strict=True):
        member["cost"] = record.cost._asdict()
    write_file(folder / FAMILY, _json(data))
    return family


def edited(path: Path, record: MemberRecord) -> bool:
    """Whether the card was changed after it was written."""
    if record.card is None or not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() != record.card


def left_out(portable: Portable, formats: Collection[Format]) -> dict[Format, str]:
    """Those of `formats` that cannot be written here, each with the reason."""
    reasons = {each: not_installed(each) for each in (Format.ONNX, *RUNTIMES) if each in formats}
    if Format.TIMM in formats:
        reasons[Format.TIMM] = timm.reason_against(portable.architecture)
    return {format_: reason for format_, reason in reasons.items() if reason}


def _before(folder: Path, name: str) -> MemberRecord | None:
    """The member's record in an earlier export; None if there is none that can be read."""
    try:
        members = load_record(folder).members
    except InvalidInput:
        return None
    return next((record for record in members if record.name == name), None)


def _write(
    folder: Path,
    portable: Portable,
    network: Network,
    formats: Collection[Format],
    before: MemberRecord | None,
) -> dict[str, str]:
    """Writes the member's files, removes those of another network, and returns the hashes."""
    from safetensors.torch import save

    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    contents = {
        ARCHITECTURE: _json(portable.architecture.to_dict()),
        # One entry of metadata: the order of two, and with it the hash, would be random.
        WEIGHTS: save(weights, metadata={"format": "pt"}),
        timm.CONFIG: _json(timm.config(portable)),
        preprocess.FILE: preprocess.source(portable).encode(),
    }
    wanted = set(formats) - left_out(portable, formats).keys()
    if Format.TORCH in wanted:
        contents[standalone.FILE] = standalone.source(portable).encode()
    if Format.TIMM in wanted:
        contents[timm.FILE] = timm.source(portable).encode()
    contents |= _kept(folder, contents, before)
    traced = cache(lambda: program.trace(portable, network))
    if Format.PROGRAM in wanted and program.FILE not in contents:
        contents[program.FILE] = program.content(portable, traced())
    if Format.ONNX in wanted and onnx.FILE not in contents:
        contents[onnx.FILE] = onnx.content(portable, traced())
    for format_, runtime in RUNTIMES.items():
        if format_ in wanted and not contents.keys() >= set(runtime.FILES):
            contents |= zip(runtime.FILES, runtime.content(portable, network), strict=True)
    for name in chain(*FILES.values(), *INT8.values()):
        if name not in contents:
            (folder / name).unlink(missing_ok=True)
    for name, content in contents.items():
        write_file(folder / name, content)
    return {name: _sha256(content) for name, content in contents.items()}


def _kept(
    folder: Path, contents: dict[str, bytes], before: MemberRecord | None
) -> dict[str, bytes]:
    """The files that take seconds to make, if an earlier export of the same network left them."""
    if before is None or any(
        before.files.get(name) != _sha256(content)
        for name, content in contents.items()
        if name in (ARCHITECTURE, WEIGHTS, timm.CONFIG)
    ):
        return {}
    found = {}
    names = (FILES[each] for each in (Format.PROGRAM, Format.ONNX, *RUNTIMES))
    for name in chain(*names, *INT8.values()):
        path = folder / name
        if name in before.files and path.is_file():
            data = path.read_bytes()
            if _sha256(data) == before.files[name]:
                found[name] = data
    return found


def _json(data: object) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _prove(
    saved: SavedMember, network: Network, inputs: Tensor, formats: Collection[Format]
) -> None:
    import numpy as np
    import torch

    trained = copy.deepcopy(network).cpu().eval()
    trained.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # not in stubs
    images = inputs.cpu().contiguous()
    with torch.no_grad():
        expected = trained(images).numpy()
    largest = max(float(np.abs(expected).max()), 1.0)
    written = {each for each in FILES.keys() & set(formats) if FILES[each][0] in saved.record.files}
    for format_ in (Format.SAFETENSORS, *sorted(written - {Format.SAFETENSORS})):
        if not_installed(format_):  # timm_model.py is written without timm
            continue
        try:  # this process has just written these files, so their code may run
            found = open_format(saved, format_, trust=True)(images.numpy())
        except NotRun:
            continue
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCES[format_] * largest:
            raise ExportMismatch(
                f"{saved.folder}: the exported network ({format_}) must give the trained network's "
                f"outputs, but they differ by up to {difference:g} (largest output {largest:g})"
            )
