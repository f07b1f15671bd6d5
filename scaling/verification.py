"""Reads members back in any format and compares them, for `phiscale predict` and `verify`.

model.py, timm_model.py and torch.export programs are code. They run only if they are exactly what
phiscale writes for the member's architecture and weights, or if the caller trusts them. The hash in
family.json proves only that the folder is complete, not who wrote it. The runtimes for devices take
their files for code, too: phiscale runs those only if the caller trusts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.formats import (
    Format,
    NotRun,
    Predict,
    Runtime,
    coreml,
    executorch,
    litert,
    onnx,
    openvino,
    predictor,
    program,
    require,
    run_code,
    standalone,
    timm,
)
from scaling.saved_family import WEIGHTS, SavedFamily, SavedMember
from space.module_cost import module_cost
from space.validation import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The largest difference of two outputs of the same weights, as a fraction of the largest output
#: (assumed: float32 rounding, where batch norms are folded or another library computes).
TOLERANCES = {
    Format.SAFETENSORS: 1e-5,
    Format.TORCH: 1e-5,
    Format.PROGRAM: 1e-4,
    Format.TIMM: 1e-5,
    Format.ONNX: 1e-4,
    Format.LITERT: 1e-4,
    Format.OPENVINO: 1e-4,
    Format.EXECUTORCH: 1e-4,
}

#: The largest difference of outputs with 8 bits from those with 32, as a fraction of the outputs'
#: standard deviation (assumed: another network's outputs differ by about √2 of it, those of
#: the demo's members by 0.03, measured).
EIGHT_BITS = 0.7

#: The formats of runtimes for devices, which are written only where a command names them.
RUNTIMES: dict[Format, Runtime] = {
    Format.LITERT: litert,
    Format.OPENVINO: openvino,
    Format.EXECUTORCH: executorch,
    Format.COREML: coreml,
}

#: The formats that can be run, and the files of each; those with 8 bits.
FILES = {
    Format.SAFETENSORS: ("model.safetensors",),
    Format.TORCH: (standalone.FILE,),
    Format.TIMM: (timm.FILE,),
    Format.PROGRAM: (program.FILE,),
    Format.ONNX: (onnx.FILE,),
} | {format_: runtime.FILES for format_, runtime in RUNTIMES.items()}
INT8 = {Format.ONNX: (onnx.INT8,)} | {
    format_: runtime.INT8 for format_, runtime in RUNTIMES.items() if runtime.INT8
}


class Untrusted(NotRun):
    """A file that was not run, because its author is not known to be phiscale."""


class Different(Exception):
    """A part of a family differs from its description."""


def open_format(member: SavedMember, format_: Format, *, trust: bool = False) -> Predict:
    """A function that runs the member in a format, after checking the file against its hash.

    Raises `Untrusted` for code that phiscale would not have written (unless `trust`), and
    `InvalidInput` if the format was not exported or its package is not installed.
    """
    match format_:
        case Format.SAFETENSORS:
            return predictor(member.load())
        case Format.ONNX:
            return onnx.open_(member.read(onnx.FILE), str(member.folder / onnx.FILE))
        case Format.TORCH:
            return _standalone(member, trust)
        case Format.TIMM:
            if reason := timm.reason_against(member.architecture):
                raise InvalidInput(reason)
            code = _code(member, timm.FILE, timm.source(member.portable), trust)
            member.read(WEIGHTS)  # timm reads it unchecked
            return timm.open_(code, member.folder / timm.FILE, member.portable)
        case Format.PROGRAM:
            return _program(member, trust)
        case Format.CARD:
            raise InvalidInput("format `card`: a text for people, which cannot be run")
        case _:
            return _opened(member, format_, RUNTIMES[format_].FILES, trust)


def open_int8(member: SavedMember, format_: Format, *, trust: bool = False) -> Predict:
    """As `open_format`, with 8 bits; `format_` is one of `INT8`."""
    if format_ is Format.ONNX:
        return onnx.open_(member.read(onnx.INT8), str(member.folder / onnx.INT8))
    return _opened(member, format_, INT8[format_], trust)


def _opened(member: SavedMember, format_: Format, names: tuple[str, ...], trust: bool) -> Predict:
    files = tuple(member.read(name) for name in names)
    require(RUNTIMES[format_])
    if not trust:
        raise Untrusted(
            f"{member.folder / names[0]}: its runtime is not made for files of strangers, so it "
            "was not run; use --trust to run it"
        )
    return RUNTIMES[format_].open_(files)


def _code(member: SavedMember, name: str, expected: str, trust: bool) -> bytes:
    """The code in a file of the member; raises `Untrusted` if it may not run."""
    code = member.read(name)
    if code != expected.encode() and not trust:
        raise Untrusted(
            f"{member.folder / name}: differs from what this version of phiscale writes, so it was "
            "not run; use --trust to run it"
        )
    return code


def _standalone(member: SavedMember, trust: bool) -> Predict:
    code = _code(member, standalone.FILE, standalone.source(member.portable), trust)
    name = f"phiscale_{member.portable.identifier}_model"
    module = run_code(code, member.folder / standalone.FILE, name)
    member.read(WEIGHTS)  # model.py reads it unchecked
    return predictor(module.load())


def _program(member: SavedMember, trust: bool) -> Predict:
    data = member.read(program.FILE)
    if not trust:
        traced = program.trace(member.portable, member.load())
        if program.content(member.portable, traced) != data:
            raise Untrusted(
                f"{member.folder / program.FILE}: differs from what this version of phiscale "
                "writes with this version of torch, so it was not loaded; use --trust to load it"
            )
    return program.open_(data)


# ---------------------------------------------------------------------------------------- verify


@dataclass(frozen=True, slots=True)
class Check:
    """A check that passed; `note` says how well, or why it was skipped (`checked` False)."""

    member: str
    what: str
    note: str
    checked: bool = True


#: The inputs of a member: N × channels × resolution × resolution, preprocessed.
Inputs = Callable[[SavedMember], "NDArray[np.float32]"]


def verify(family: SavedFamily, inputs: Inputs, *, trust: bool = False) -> Iterator[Check]:
    """Loads every member in every format and compares outputs; raises `Different` if they differ.

    Loading the family has compared hashes and costs; this also counts the MACs and parameters of
    the network itself.
    """
    for member in family:
        count = len(member.record.files)
        yield Check(member.name, "files", f"{count} as hashed in family.json")
        yield _count(member)
        images = inputs(member)
        expected = open_format(member, Format.SAFETENSORS)(images)
        kinds = ((FILES, open_format, _compare), (INT8, open_int8, _compare_eight_bits))
        for files, open_, compare in kinds:
            for format_, (name, *_) in files.items():
                if name not in member.record.files or name == WEIGHTS:
                    continue
                what = f"{format_} int8" if files is INT8 else format_.value
                try:
                    if reason := not_installed(format_):
                        raise NotRun(reason)
                    found = open_(member, format_, trust=trust)(images)
                except NotRun as error:
                    yield Check(member.name, what, str(error), checked=False)
                else:
                    most = EIGHT_BITS if files is INT8 else TOLERANCES[format_]
                    note = compare(member.folder / name, found, expected, most)
                    yield Check(member.name, what, note)


def _compare(
    path: Path, found: NDArray[np.float32], expected: NDArray[np.float32], most: float
) -> str:
    """Says how close the outputs of a file are; raises `Different` if they do not match."""
    import numpy as np

    largest = max(float(np.abs(expected).max()), 1.0)
    difference = float(np.abs(found - expected).max()) / largest
    if not difference <= most:
        raise Different(
            f"{path}: outputs must match model.safetensors, but on {len(found)} images they "
            f"differ by up to {difference:.2g} of the largest output"
        )
    return f"{len(found)} images, outputs within {difference:.1g}"


def _compare_eight_bits(
    path: Path, found: NDArray[np.float32], expected: NDArray[np.float32], most: float
) -> str:
    """The same of a file with 8 bits, by the outputs' standard deviation."""
    import numpy as np

    difference = float(np.sqrt(np.mean((found - expected) ** 2) / max(np.var(expected), 1e-12)))
    agree = int((found.argmax(1) == expected.argmax(1)).sum())
    if not difference <= most:
        raise Different(
            f"{path}: outputs must be close to model.safetensors, but on {len(found)} images they "
            f"differ by {difference:.2g} of the outputs' standard deviation (at most "
            f"{most:g})"
        )
    return f"{agree} of {len(found)} images in the same class, outputs within {difference:.1g}"


def not_installed(format_: Format) -> str | None:
    """Which package the format needs that is not installed, in a sentence; None if all are."""
    try:
        if format_ is Format.ONNX:
            onnx.require()
        elif format_ is Format.TIMM:
            timm.require()
        elif format_ in RUNTIMES:
            require(RUNTIMES[format_])
    except InvalidInput as error:
        return str(error)
    return None


def _count(member: SavedMember) -> Check:
    """Compares the cost model with the network as fvcore counts it."""
    network, given = member.build(), member.architecture
    found = module_cost(network, given.resolution, given.in_channels).total
    if found != member.cost:
        raise Different(
            f"{member.folder}: must have {member.cost.macs} MACs and {member.cost.params} "
            f"parameters by the cost model, but the network has {found.macs} and {found.params}"
        )
    return Check(
        member.name, "cost", f"{found.macs:,} MACs, {found.params:,} parameters, as counted"
    )
