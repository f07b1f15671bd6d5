"""Members read back in any format, and compared: what `phiscale predict` and `verify` do.

A model.py, a timm_model.py and a torch.export program are code. They are run where they are, byte
for byte, what phiscale itself writes for the member's architecture and weights, or where the caller
vouches for them; a hash in a stranger's family.json proves no more than that the folder is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.formats import Format, Predict, onnx, program, run_code, standalone, timm
from scaling.saved_family import SavedFamily, SavedMember
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
}

#: The largest difference of outputs with 8 bits from those with 32, as a fraction of the outputs'
#: standard deviation (assumed: another network's outputs differ by about √2 of it, those of
#: the demo's members by 0.03, measured).
EIGHT_BITS = 0.7

#: The formats that can be run, and the file of each.
FILES = {
    Format.SAFETENSORS: "model.safetensors",
    Format.TORCH: standalone.FILE,
    Format.ONNX: onnx.FILE,
    Format.PROGRAM: program.FILE,
    Format.TIMM: timm.FILE,
}


class Untrusted(InvalidInput):
    """A file that is not run, since it is not what phiscale would have written."""


class Different(Exception):
    """Something of a family is not what it says it is; the message names it."""


def open_format(member: SavedMember, format_: Format, *, trust: bool = False) -> Predict:
    """Runs the member in a format, its file checked against its hash in family.json.

    Raises `Untrusted` for code that phiscale would not have written, unless `trust`, and
    `InvalidInput` where the format is not there, or its package is not installed.
    """
    match format_:
        case Format.SAFETENSORS:
            return _network(member)
        case Format.ONNX:
            return onnx.open_(member.read(onnx.FILE), str(member.folder / onnx.FILE))
        case Format.TORCH:
            return _standalone(member, trust)
        case Format.TIMM:
            if reason := timm.reason_against(member.architecture):
                raise InvalidInput(reason)
            code = _code(member, timm.FILE, timm.source(member.portable), trust)
            member.read(FILES[Format.SAFETENSORS])  # timm reads it unchecked
            return timm.open_(code, member.folder / timm.FILE, member.portable)
        case Format.PROGRAM:
            return _program(member, trust)
        case Format.CARD:
            raise InvalidInput("a card is for people; it cannot be run")


def _network(member: SavedMember) -> Predict:
    import torch

    network = member.load()

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    return predict


def _code(member: SavedMember, name: str, expected: str, trust: bool) -> bytes:
    """The code in a file of the member, which may run."""
    code = member.read(name)
    if code != expected.encode() and not trust:
        raise Untrusted(
            f"{member.folder / name}: is not what this version of phiscale writes, so it is not "
            "run; --trust runs it"
        )
    return code


def _standalone(member: SavedMember, trust: bool) -> Predict:
    import torch

    code = _code(member, standalone.FILE, standalone.source(member.portable), trust)
    name = f"phiscale_{member.portable.identifier}_model"
    module = run_code(code, member.folder / standalone.FILE, name)
    member.read(FILES[Format.SAFETENSORS])  # model.py reads it unchecked
    network = module.load()

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    return predict


def _program(member: SavedMember, trust: bool) -> Predict:
    data = member.read(program.FILE)
    if not trust:
        traced = program.trace(member.portable, member.load())
        if program.content(member.portable, traced) != data:
            raise Untrusted(
                f"{member.folder / program.FILE}: is not what this phiscale writes with this "
                "torch; loading a program can run code, so it is not loaded; --trust loads it"
            )
    return program.open_(data)


# ---------------------------------------------------------------------------------------- verify


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that holds; `note` says how well, or why it was not looked at (`checked` False)."""

    member: str
    what: str
    note: str
    checked: bool = True


#: The inputs of a member: N × channels × resolution × resolution, preprocessed.
Inputs = Callable[[SavedMember], "NDArray[np.float32]"]


def verify(family: SavedFamily, inputs: Inputs, *, trust: bool = False) -> Iterator[Check]:
    """Reloads every member in every format and compares; raises `Different` at the first that is.

    Hashes, and costs by the cost model, were compared when the family was loaded; here the network
    that is built is counted, too.
    """
    import numpy as np

    for member in family:
        count = len(member.record.files)
        yield Check(member.name, "files", f"{count} as hashed in family.json")
        images = inputs(member)
        yield _count(member, images)
        expected = open_format(member, Format.SAFETENSORS)(images)
        largest = max(float(np.abs(expected).max()), 1.0)
        if onnx.INT8 in member.record.files:
            yield _eight_bits(member, images, expected)
        for format_ in (Format.TORCH, Format.TIMM, Format.PROGRAM, Format.ONNX):
            if FILES[format_] not in member.record.files:
                continue
            missing, found = _missing(format_), None
            try:
                found = None if missing else open_format(member, format_, trust=trust)(images)
            except Untrusted as error:
                missing = str(error)
            if found is None:
                yield Check(member.name, format_, str(missing), checked=False)
                continue
            difference = float(np.abs(found - expected).max()) / largest
            path = member.folder / FILES[format_]
            if not difference <= TOLERANCES[format_]:
                raise Different(
                    f"{path}: must put out what model.safetensors does, but on {len(images)} "
                    f"images differs by up to {difference:.2g} of the largest output"
                )
            note = f"{len(images)} images, outputs within {difference:.1g}"
            yield Check(member.name, format_, note)


def _eight_bits(
    member: SavedMember, images: NDArray[np.float32], expected: NDArray[np.float32]
) -> Check:
    """Compares the network of 8 bits with the whole one: they may differ, but not by much."""
    import numpy as np

    path = member.folder / onnx.INT8
    if reason := _missing(Format.ONNX):
        return Check(member.name, "int8", reason, checked=False)
    found = onnx.open_(member.read(onnx.INT8), str(path))(images)
    difference = float(np.sqrt(np.mean((found - expected) ** 2) / max(np.var(expected), 1e-12)))
    agree = int((found.argmax(1) == expected.argmax(1)).sum())
    if not difference <= EIGHT_BITS:
        raise Different(
            f"{path}: must put out nearly what model.safetensors does, but on {len(images)} "
            f"images differs by {difference:.2g} of the outputs' spread (at most {EIGHT_BITS:g})"
        )
    note = f"{agree} of {len(images)} images of the same class, outputs within {difference:.1g}"
    return Check(member.name, "int8", note)


def _missing(format_: Format) -> str | None:
    """What is not installed for a format, in a sentence."""
    try:
        if format_ is Format.ONNX:
            onnx.require()
        elif format_ is Format.TIMM:
            timm.require()
    except InvalidInput as error:
        return str(error)
    return None


def _count(member: SavedMember, images: NDArray[np.float32]) -> Check:
    """Compares the cost model with what really runs: multiply–adds and parameters."""
    import torch
    from torch import nn

    network, macs = member.build().eval(), 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d | nn.Linear):
            macs += layer.weight[0].numel() * out[0].numel()

    for module in network.modules():
        module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.from_numpy(images[:1]))
    params = sum(parameter.numel() for parameter in network.parameters())
    if (macs, params) != (member.cost.macs, member.cost.params):
        raise Different(
            f"{member.folder}: by the cost model {member.cost.macs} MACs and {member.cost.params} "
            f"parameters, but what runs has {macs} and {params}"
        )
    return Check(member.name, "cost", f"{macs:,} MACs, {params:,} parameters, as counted")
