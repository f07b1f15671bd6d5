"""Exports, predictions and checks of families that exist: what the commands of those names do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from experiments import config
from experiments.data.images import Images
from experiments.data.load import Data, load
from experiments.evaluators.int8 import calibrating
from experiments.families.preprocess import prepare, read
from experiments.progress import log
from scaling import export
from scaling.family import PlannedMember
from scaling.formats import Format, Portable, Preprocessing, litert
from scaling.saved_family import FamilyRecord, MemberRecord, SavedMember, load_family
from scaling.verification import open_format
from space.architecture import Architecture
from space.convert import IMAGENET
from space.device import over_bounds
from space.network import build
from space.validation import InvalidInput
from space.weights import read_weights

#: Test images on which formats are compared (assumed).
COMPARED = 16

Array = NDArray[np.float32]


def run_images(family: Path) -> Data | None:
    """The data of the run whose family lies in `family`; None for a family away from its run."""
    recipe = _recipe(family)
    if recipe is None:
        return None
    resolution = recipe.data.resolution
    assert resolution is not None  # settled when the run was opened
    return load(recipe.data, resolution=resolution, seed=recipe.seed)


def _recipe(family: Path) -> config.Recipe | None:
    """The recipe of the run whose family lies in `family`; None away from it."""
    path = family.absolute().parent / "recipe.yaml"
    return config.load(str(path)) if path.is_file() else None


def some_inputs(member: SavedMember, images: Images | None, count: int = COMPARED) -> Array:
    """Inputs of the member: the first of `images`, or noise where there are none."""
    side, channels = member.architecture.resolution, member.architecture.in_channels
    if images is not None:
        pixels = images.read(np.arange(min(count, len(images))))
    else:
        shape = (count, side, side, channels)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return np.stack([prepare(each, member.portable) for each in pixels])


def export_family(
    folder: Path, formats: Collection[Format], *, int8: bool, only: str | None = None
) -> FamilyRecord:
    """Writes every member of a saved family, or `only` one, in `formats` too, and with 8 bits.

    Gives the record of what was written.
    """
    family, data = load_family(folder), None
    if int8 and (data := run_images(folder)) is None:
        raise InvalidInput(
            f"--int8: {folder} is not in a run, so it has no images for calibration and testing"
        )
    records = []
    for member in family:
        record = member.record
        if only in (None, member.name):
            inputs = some_inputs(member, data.test if data else None)
            record = export.export_again(member, formats, torch.from_numpy(inputs))
            for format_, reason in export.left_out(member.portable, formats).items():
                log.remark(f"{member.name}: not written for {format_}: {reason}")
            if int8:
                assert data
                record = quantised(replace(member, record=record), formats, data)
        records.append(record)
    written = export.write_cards(folder, replace(family.record, members=tuple(records)))
    return replace(written, members=tuple(m for m in written.members if only in (None, m.name)))


def _over_bounds(member: SavedMember) -> list[str]:
    """A clause on each bound of the run that the member's 8-bit LiteRT file exceeds."""
    found = member.record.int8.get(Format.LITERT)
    recipe = _recipe(member.folder.parent)
    if found is None or found.arena is None or recipe is None:
        return []
    needs = {"sram": found.arena, "flash": (member.folder / litert.INT8[0]).stat().st_size}
    return over_bounds(needs, recipe.objective.bounds.model_dump())


def quantised(member: SavedMember, formats: Collection[Format], data: Data) -> MemberRecord:
    """Ranges are taken from held-out images of all classes, accuracies from all test images.

    Says where the LiteRT file needs more memory than the run's bounds allow.
    """
    chosen = calibrating(data.held_out)
    calibration = some_inputs(member, chosen, len(chosen))
    images = some_inputs(member, data.test, len(data.test))
    record = export.quantise(member, formats, calibration, images, data.test.labels)
    for clause in _over_bounds(replace(member, record=record)):
        log.remark(f"{member.name}: its {litert.INT8[0]} takes {clause}")
    return record


def export_architecture(
    name: str,
    architecture: Architecture,
    weights: Path | None,
    folder: Path,
    formats: Collection[Format],
) -> FamilyRecord:
    """Writes one network as a family of its own; with random weights where `weights` is None.

    Classes are called by their numbers, and images are normalised as ImageNet's are.
    """
    network = build(architecture)
    if weights is not None:
        try:
            network.load_state_dict(read_weights(weights))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InvalidInput(f"{weights}: must hold the weights of {name}: {reason}") from None
    member = PlannedMember(name, 0.0, 1.0, 1.0, architecture)
    mean, std = IMAGENET.of(architecture.in_channels)
    classes = tuple(str(index) for index in range(architecture.num_classes))
    about = export.About(name, classes, Preprocessing(mean, std))
    portable = Portable(name, architecture, classes, about.preprocessing)
    shape = (COMPARED, architecture.in_channels, architecture.resolution, architecture.resolution)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for format_, reason in export.left_out(portable, formats).items():
        log.remark(f"{name}: not written for {format_}: {reason}")
    nothing = export.Trained(None, 0, 0.0)
    record = export.export_member(folder, member, network, nothing, about, inputs, formats=formats)
    return export.write_family(folder, [record], None, about)


class Prediction(NamedTuple):
    """The most probable classes of an image, the first first, each with its probability."""

    image: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Unpredicted(NamedTuple):
    """An image file that cannot be read, and why."""

    image: Path
    reason: str


def predictions(
    member: SavedMember, images: Iterable[Path], format_: Format, *, top: int, trust: bool
) -> Iterator[Prediction | Unpredicted]:
    """What the member sees in each image file, run in a format."""
    predict = open_format(member, format_, trust=trust)
    for image in images:
        try:
            pixels = read(image, member.portable)
        except InvalidInput as error:
            yield Unpredicted(image, str(error))
            continue
        logits = predict(pixels[None])[0].astype(np.float64)
        odds = np.exp(logits - logits.max())
        odds /= odds.sum()
        best = np.argsort(-odds, kind="stable")[:top]
        names = tuple(member.portable.classes[index] for index in best)
        yield Prediction(image, names, tuple(odds[best].tolist()))
