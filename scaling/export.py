"""Trained members on disk: written whole, loaded again, and compared with what was trained."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.coefficients import Coefficients
from scaling.family import (
    ARCHITECTURE,
    FAMILY,
    WEIGHTS,
    FamilyRecord,
    MemberRecord,
    Preprocessing,
    SavedMember,
)
from scaling.members import Member
from space.files import write_file

if TYPE_CHECKING:
    from torch import Tensor

    from space.network import Network

README = "README.md"

#: The largest difference of two outputs of the same weights, as a fraction of the largest output
#: (assumed: float32 rounding in another memory layout).
TOLERANCE = 1e-5


class ExportMismatch(RuntimeError):
    """What was loaded from disk does not compute what was trained."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a member's training gave: accuracy is a fraction, on `images` test images."""

    accuracy: float
    images: int
    train_seconds: float


@dataclass(frozen=True, slots=True)
class About:
    """What the members of a family share; `data` says in a line what they were trained on."""

    data: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing


def export_member(
    folder: Path, member: Member, network: Network, trained: Trained, about: About, inputs: Tensor
) -> MemberRecord:
    """Writes FOLDER/NAME/ and gives what family.json is to say of it, once it is proved.

    The network is loaded from the written files, and its outputs for `inputs` (N × channels × H ×
    W, preprocessed) are compared with those of `network`. Raises `ExportMismatch` with the largest
    difference.
    """
    from safetensors.torch import save

    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    contents: dict[str, bytes] = {
        ARCHITECTURE: _json(member.architecture.to_dict()),
        # One entry of metadata alone: of two the order, and with it the hash, would be random.
        WEIGHTS: save(weights, metadata={"format": "pt"}),
        README: _readme(member, trained, about).encode(),
    }
    for name, content in contents.items():
        write_file(folder / member.name / name, content)

    record = MemberRecord(
        name=member.name,
        phi=member.phi,
        depth=member.depth,
        width=member.width,
        resolution=member.resolution,
        cost=member.cost,
        key=member.architecture.key,
        **asdict(trained),
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        target=member.target,
        miss=member.miss,
    )
    _prove(SavedMember(folder / member.name, record, member.architecture), network, inputs)
    return record


def write_family(
    folder: Path, records: Sequence[MemberRecord], coefficients: Coefficients, about: About
) -> None:
    """Writes FOLDER/family.json, which makes the exported members a family; so it comes last."""
    family = FamilyRecord(tuple(records), coefficients, about.classes, about.preprocessing)
    data = asdict(family)
    for member, record in zip(data["members"], records, strict=True):
        member["cost"] = record.cost._asdict()
    write_file(folder / FAMILY, _json(data))


def _json(data: object) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _prove(saved: SavedMember, network: Network, inputs: Tensor) -> None:
    import torch

    trained = copy.deepcopy(network).cpu().eval()
    trained.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # not in stubs
    with torch.no_grad():
        expected = trained(inputs.cpu())
        found = saved.load()(inputs.cpu())
    difference = (found - expected).abs().max().item()
    largest = expected.abs().max().item()
    if not difference <= TOLERANCE * max(largest, 1.0):
        raise ExportMismatch(
            f"{saved.folder}: the network on disk must put out what was trained, but their outputs "
            f"differ by up to {difference:g} (outputs reach {largest:g})"
        )


_README = """\
# {name}

A convolutional network for images of {classes} classes, member {name} of a family made with
phiscale: the family's baseline scaled to φ = {phi:g} (depth × {depth:.3g}, width × {width:.3g},
{resolution} pixels).

| | |
| --- | --- |
| accuracy | {accuracy:.2%} of {images} test images |
| MACs (multiply–adds) | {macs:,} |
| parameters | {params:,} |
| activations | {activations:,} |
| training | {train_seconds:.0f} s on {data} |

## Use

```python
from scaling.family import load_family

member = load_family("path/to/family")["{name}"]
network = member.load()        # torch, on the CPU, in evaluation mode
logits = network(images)       # N × {channels} × {resolution} × {resolution} → N × {classes}
```

`images` are resized to {resolution} × {resolution} pixels ({interpolation}), with values from 0 to
1, less the mean {mean}, over the standard deviation {std} of each channel.

`{architecture_file}` describes the network, `{weights_file}` holds its weights (safetensors).

## Classes

In the order of the logits:

    {names}
"""


def _readme(member: Member, trained: Trained, about: About) -> str:
    preprocessing = about.preprocessing
    return _README.format(
        name=member.name,
        phi=member.phi,
        depth=member.depth,
        width=member.width,
        resolution=member.resolution,
        channels=member.architecture.in_channels,
        classes=len(about.classes),
        **asdict(trained),
        **member.cost._asdict(),
        data=about.data,
        interpolation=preprocessing.interpolation,
        mean=", ".join(f"{value:g}" for value in preprocessing.mean),
        std=", ".join(f"{value:g}" for value in preprocessing.std),
        architecture_file=ARCHITECTURE,
        weights_file=WEIGHTS,
        # JSON has no line breaks in strings: no class name can end the indented block.
        names=json.dumps(about.classes, ensure_ascii=False),
    )
