"""Files of weights, to and from another library's: what `phiscale convert` does.

What is read may come from a stranger: PyTorch's files are opened for tensors alone, and nothing in
them can run. What is written is safetensors, which torch, torchvision and timm users load with
`safetensors.torch.load_file`.
"""

from __future__ import annotations

import argparse
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.architecture import Architecture
from space.convert import from_source, recognised, to_source
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor


#: Keys under which training scripts keep a state dict, the averaged weights first: timm,
#: torchvision's references, PyTorch Lightning, PyTorch's tutorial; and how deep they may lie.
_WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict"),
    *("model", "net"),
)
_DEPTH = 3

#: What wrappers of modules put before every name: DataParallel, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.")

#: Counters that thop leaves in a network that it has counted, and that torch's AveragedModel keeps
#: (torchvision's `model_ema`).
_COUNTERS = ("total_ops", "total_params", "n_averaged")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a PyTorch checkpoint, by name, in float32.

    Weights are found where training scripts keep them, averaged ones (EMA) first, and without what
    wrappers of modules put before their names. Raises `InvalidInput` for a file without weights,
    with weights that are not finite, or with anything pickled that is not plain data; nothing in it
    is run.
    """
    import torch

    state = _checkpoint(path)
    for _ in range(_DEPTH):
        if isinstance(state, Mapping):
            inner = (state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping))
            state = next(inner, state)
    if not isinstance(state, Mapping):
        raise InvalidInput(f"{path}: a state dict is needed, but it holds a {type(state).__name__}")
    state = {key: value for key, value in state.items() if not str(key).endswith(_COUNTERS)}
    for key, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            raise InvalidInput(f"{path}: a state dict is needed, but {key!r} is of type {kind}")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InvalidInput(
                f"{path}: {key} holds values that are infinite or not numbers, so its training run "
                "diverged; give an earlier checkpoint"
            )
    if not state:
        raise InvalidInput(f"{path}: it holds no weights")
    while any(all(key.startswith(prefix) for key in state) for prefix in _PREFIXES):
        state = {key.partition(".")[2]: tensor for key, tensor in state.items()}
    return {key: t.float() if t.is_floating_point() else t for key, t in state.items()}


def _checkpoint(path: Path) -> Any:
    """What a file of weights holds; plain data, tensors and timm's arguments alone."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file ends torch's own unpickler in a dozen ways
        if classes := _pickled_classes(path):
            raise InvalidInput(
                f"{path}: it holds a pickled {classes[0]}, which is not loaded, since that would "
                "run code from the file; save its weights alone: torch.save(model.state_dict(), …)"
            ) from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch advises to run what is in the file
            reason = "it is no checkpoint of PyTorch's"
        printable = "".join(character for character in reason if character.isprintable())
        raise InvalidInput(f"{path}: no weights can be read from it: {printable}") from None


def _pickled_classes(path: Path) -> list[str]:
    """The classes and functions that a PyTorch checkpoint would import; empty for other files."""
    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not a checkpoint that torch can read
        return []
    return sorted("".join(c for c in name if c.isprintable()) for name in names)


def recognise(weights: Path) -> tuple[str, ...]:
    """The sources whose tensors a file holds, the likeliest by its name first.

    Raises `InvalidInput` where there is none.
    """
    found = recognised(read_weights(weights), hint=weights.name)
    if not found:
        raise InvalidInput(
            f"{weights}: its tensors are not those of a network that phiscale knows; `phiscale "
            "presets` lists those, of torchvision, timm and EfficientNet-PyTorch"
        )
    return found


def import_weights(source: str, weights: Path, folder: Path) -> Architecture:
    """Writes `architecture.json` and `model.safetensors` into `folder`, and gives the architecture.

    `weights` are a file of the network `source` (see `space.convert.sources`). Raises
    `InvalidInput` where they are not.
    """
    architecture, state = from_source(source, read_weights(weights))
    text = json.dumps(architecture.to_dict(), indent=2, ensure_ascii=False)
    write_file(folder / "model.safetensors", to_bytes(state))
    write_file(folder / "architecture.json", text + "\n")
    return architecture


def export_weights(source: str, weights: Path, out: Path) -> None:
    """Writes to `out` (safetensors) what the network `source` loads, from a file of ours.

    Raises `InvalidInput` where the weights are not those of the source's network.
    """
    write_file(out, to_bytes(to_source(source, read_weights(weights))))


def to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """A state dict as the content of a safetensors file."""
    from safetensors.torch import save

    return save({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()})
