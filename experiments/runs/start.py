"""The weights that training runs start from: where they are found, and the run's own copy.

    runs/NAME/  start.json  checkpoints/start/HASH.safetensors

A run reads its start once. What it means from then on is the copy, which lies with the checkpoints,
where every machine of a cluster finds it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import StartConfig
from experiments.progress import log
from experiments.runs.folder import KEPT_START, OpenRun, RecipeFolder
from experiments.runs.resolve import (
    existing_family,
    find_family,
    find_run,
    load_architecture,
)
from scaling.saved_family import ARCHITECTURE, WEIGHTS, SavedMember, StartRecord, load_family
from space import convert, presets
from space.architecture import Architecture
from space.convert import PixelStatistics
from space.files import write_file
from space.layers import tensor_shapes
from space.optional import needed
from space.validation import InvalidInput, validate
from space.weights import read_weights, recognise, to_bytes

if TYPE_CHECKING:
    from torch import Tensor
    from upath import UPath

#: Where else than in files weights come from.
_HUB, _TORCHVISION = "hf-hub:", "torchvision/"


@dataclass(frozen=True)
class Start:
    """A trained network whose `weights`, a state dict, others inherit.

    `record` says where they come from. `classes` are the names of its classes and `pixels` how its
    images were normalised, None where nobody knows.
    """

    record: StartRecord
    architecture: Architecture
    weights: Mapping[str, Tensor]
    classes: tuple[str, ...] | None = None
    pixels: PixelStatistics | None = None

    @property
    def name(self) -> str:
        """What budgets of training runs call it."""
        return _name(self.record)


def _name(record: StartRecord) -> str:
    return record.sha256[:16]


def find(settings: StartConfig) -> Start:
    """The start that a recipe names.

    Raises `InvalidInput` where there are no such weights, or they are not of a known network.
    """
    assert settings.weights is not None
    try:
        return _found(settings.weights, settings.architecture)
    except InvalidInput as error:
        raise InvalidInput(f"start.weights: {error}") from None
    except OSError as error:  # such as a name that is too long
        raise InvalidInput(f"start.weights: {settings.weights:.80}: {error.strerror}") from None


def _found(weights: str, architecture: str | None) -> Start:
    file = Path(weights)
    if file.is_file():
        return _from_file(file, architecture)
    if architecture is not None:
        raise InvalidInput(
            f"{weights}: not a file; only a file of weights takes start.architecture, but got "
            f"{architecture}"
        )
    if weights.startswith(_HUB):
        return _from_hub(weights.removeprefix(_HUB))
    if weights.startswith(_TORCHVISION):
        return _from_torchvision(weights.removeprefix(_TORCHVISION))
    if find_family(weights) or _names_run(weights):
        family = existing_family(weights)
        members = load_family(family.folder)
        # The largest member has learned the most, and the others are parts of it.
        name = family.member or max(members, key=lambda member: member.cost.macs).name
        return _from_member(members[name], members.classes)
    found = "is a folder without a family" if file.is_dir() else "not found"
    raise InvalidInput(
        f"{weights}: {found}; give a file of weights, a run with a family (RUN or RUN:MEMBER), "
        f"{_HUB}timm/NAME, or {_TORCHVISION}NAME"
    )


def _names_run(weights: str) -> bool:
    """Whether this is a run or a member, even one that is not there."""
    run = weights.rpartition(":")[0]
    return find_run(Path(weights)) is not None or bool(run and find_run(Path(run)))


def _from_file(file: Path, architecture: str | None, published: str | None = None) -> Start:
    """A checkpoint of the network `architecture`, else of what lies beside it or its tensors say.

    `published` is the network's name in another library, where that is known.
    """
    folder = file.absolute().parent
    if architecture is None and file.name == WEIGHTS:
        if (beside := find_family(str(folder))) and beside.member:
            family = load_family(beside.folder)
            return _from_member(family[beside.member], family.classes)
        if (folder / ARCHITECTURE).is_file():  # as `phiscale convert` writes them
            architecture = str(folder / ARCHITECTURE)
    state = read_weights(file)
    source = published or _named_source(architecture)
    if source is None and "stem.conv.weight" in state:  # phiscale's name
        if architecture is None:
            return _own(file, state)
        described = Path(architecture)
        name = described.parent.name if described.name == ARCHITECTURE else described.name
        return _of(file, state, name, load_architecture(architecture))
    source = source or _recognised(file, architecture)
    network, state = convert.from_source(source, state)
    return _loaded(file.name, source, network, state, pixels=convert.pixel_statistics(source))


def _named_source(architecture: str | None) -> str | None:
    """`architecture` where it is the name of a network of another library."""
    plain = architecture and architecture.partition(".")[0]  # without timm's tag
    return architecture if plain in convert.sources() else None


def _recognised(file: Path, preset: str | None) -> str:
    """The network of another library that these are weights of, if given one of this preset."""
    found = recognise(file)
    if preset is not None:
        fitting = tuple(name for name in found if convert.source(name).preset == preset)
        if not fitting:
            raise InvalidInput(f"{file}: holds the tensors of {', '.join(found)}, not of {preset}")
        found = fitting
    source, *others = found
    if others:
        log.remark(
            f"{file}: taken for {source}; {', '.join(others)} have the same tensors, but other "
            "padding or batch norm: name one as start.architecture to choose it"
        )
    return source


def _own(file: Path, state: Mapping[str, Tensor]) -> Start:
    """Weights in phiscale's names, of a preset."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in presets.names():
        network = _adapted(presets.load(name), state)
        if tensor_shapes(network) == shapes:
            return _of(file, state, name, network)
    raise InvalidInput(
        f"{file}: these weights are of no preset; give the network's architecture.json as "
        "start.architecture"
    )


def _of(file: Path, state: Mapping[str, Tensor], name: str, network: Architecture) -> Start:
    """Weights in phiscale's names, of `network`."""
    from space.network import build

    network = _adapted(network, state)
    try:
        build(network).load_state_dict(dict(state))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InvalidInput(f"{file}: must hold the weights of {name}: {reason}") from None
    return _loaded(file.name, name, network, state)


def _adapted(network: Architecture, state: Mapping[str, Tensor]) -> Architecture:
    """The network with as many classes and image channels as the weights have."""
    classes, stem = state.get("classifier.weight"), state.get("stem.conv.weight")
    if classes is None or stem is None or stem.ndim != 4:
        return network
    return replace(network, num_classes=len(classes), in_channels=stem.shape[1])


def _from_member(member: SavedMember, classes: tuple[str, ...]) -> Start:
    """A member of a family of phiscale's."""
    given = member.portable.preprocessing
    return _loaded(
        f"{member.name}/{WEIGHTS}",
        member.portable.name,
        member.architecture,
        member.load().state_dict(),
        classes=classes,
        pixels=PixelStatistics(given.mean, given.std),
    )


def _from_hub(name: str) -> Start:
    """A repository of timm's on the Hugging Face hub, such as `timm/efficientnet_b0.ra_in1k`."""
    hub = needed("huggingface_hub", "hub", f"{_HUB}{name}")
    files = {}
    for file in ("config.json", "model.safetensors"):
        try:
            files[file] = Path(hub.hf_hub_download(name, file))
        except Exception as error:  # a dozen kinds: no network, no such repository, no access
            reason = str(error).partition("\n")[0]
            raise InvalidInput(f"{_HUB}{name}: cannot be fetched: {reason}") from None
    network, pixels, licence = hub_config(files["config.json"], name)
    found = _from_file(files["model.safetensors"], None, f"timm/{network}")
    record = replace(found.record, file=f"{_HUB}{name}", licence=licence)
    return replace(found, record=record, pixels=pixels or found.pixels)


def hub_config(path: Path, name: str) -> tuple[str, PixelStatistics | None, str | None]:
    """What the config.json of timm's repository `name` says: network, pixels and licence.

    Raises `InvalidInput` if it is not one.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
        network, given = config["architecture"], config.get("pretrained_cfg") or {}
        licence, pixels = given.get("license"), None
        if "mean" in given and "std" in given:
            pixels = PixelStatistics(*(tuple(map(float, given[key])) for key in ("mean", "std")))
        if not (isinstance(network, str) and isinstance(licence, str | None)):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InvalidInput(
            f"{_HUB}{name}: is not a repository of timm's, because its config.json names no "
            f"`architecture` or is damaged; give {_HUB}timm/NAME"
        ) from None
    return network, pixels, licence


def _from_torchvision(name: str) -> Start:
    """torchvision's default weights of a network."""
    source = f"{_TORCHVISION}{name}"
    convert.source(source)
    try:
        models = needed("torchvision.models", "hub", source)
    except RuntimeError as error:  # its build and torch's do not fit together
        raise InvalidInput(
            f"{source}: torchvision cannot be imported ({error}); install the one for your torch"
        ) from None
    weights = models.get_model_weights(name).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise InvalidInput(f"{source}: cannot be fetched: {error}") from None
    network, ours = convert.from_source(source, state)
    return _loaded(str(weights), source, network, ours)


def _loaded(
    file: str,
    source: str,
    network: Architecture,
    state: Mapping[str, Tensor],
    *,
    classes: tuple[str, ...] | None = None,
    pixels: PixelStatistics | None = None,
) -> Start:
    record = StartRecord(source, file, hashlib.sha256(to_bytes(state)).hexdigest())
    return Start(record, network, state, classes, pixels)


def absolute(settings: StartConfig) -> StartConfig:
    """The settings with names that hold wherever the run is continued."""
    weights, architecture = settings.weights, settings.architecture
    if weights is not None:
        if Path(weights).is_file():
            weights = str(Path(weights).resolve())
        elif family := find_family(weights):
            weights = str((family.folder / (family.member or "")).resolve())
    if architecture is not None and Path(architecture).is_file():
        architecture = str(Path(architecture).resolve())
    return StartConfig(weights=weights, architecture=architecture)


def keep(run: RecipeFolder, start: Start) -> None:
    """Copies the start into the run, whose manifest names it."""
    copy(run, start.name, start.weights)
    run.note(initial_weights=asdict(start.record))
    run.write(
        KEPT_START,
        {
            "record": asdict(start.record),
            "architecture": start.architecture.to_dict(),
            "classes": start.classes,
            "pixels": start.pixels and start.pixels._asdict(),
        },
    )


def kept(run: OpenRun) -> Start | None:
    """The run's own copy of its start; None where its recipe has none.

    Raises `InvalidInput` where the copy is not there and cannot be made again.
    """
    from safetensors.torch import load

    if run.recipe.start.weights is None:
        return None
    source = str(run.folder / KEPT_START)
    if not Path(source).is_file():
        raise InvalidInput(
            f"{source}: not found, so the weights that this run starts from are not known; restore "
            "it, or start a new run with --out"
        )
    data = run.read(KEPT_START)
    record = validate(StartRecord, data["record"], source=f"{source}: record")
    network = Architecture.from_dict(data["architecture"], source=f"{source}: architecture")
    classes = None if data["classes"] is None else tuple(data["classes"])
    pixels = data["pixels"] and PixelStatistics(*map(tuple, data["pixels"].values()))
    path = copy_path(run, _name(record))
    if not path.is_file():
        _copy_again(run, record, path)
    return Start(record, network, load(path.read_bytes()), classes, pixels)


def _copy_again(run: OpenRun, record: StartRecord, path: Path | UPath) -> None:
    """Copies the start again where its copy was removed, or checkpoints are kept elsewhere now."""
    help_ = "restore it, or set executor.checkpoints as before"
    try:
        found = find(run.recipe.start)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: not found ({help_}), nor its source: {error}") from None
    if found.record.sha256 != record.sha256:
        raise InvalidInput(
            f"{path}: not found, and {run.recipe.start.weights} holds other weights by now; {help_}"
        )
    copy(run, found.name, found.weights)


def copy(run: RecipeFolder, name: str, weights: Mapping[str, Tensor]) -> None:
    """Puts weights with the run's checkpoints."""
    if not copy_path(run, name).is_file():
        write_file(copy_path(run, name), to_bytes(weights))


def copy_path(run: RecipeFolder, name: str) -> Path | UPath:
    """Where the run's copy of the weights `name` is."""
    return run.checkpoints / "start" / f"{name}.safetensors"
