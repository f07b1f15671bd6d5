"""Files of weights, to and from another library's: what `phiscale convert` does.

What is read may come from a stranger: PyTorch's files are opened for tensors alone, and nothing in
them can run. What is written is safetensors, which torch, torchvision and timm users load with
`safetensors.torch.load_file`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from space.architecture import Architecture
from space.convert import from_source, to_source
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of PyTorch's (a state dict), by name.

    Raises `InvalidInput` for what is neither.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file ends torch's own unpickler in a dozen ways
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InvalidInput(f"{path}: no weights can be read from it: {reason}") from None
    if not isinstance(state, Mapping):
        raise InvalidInput(f"{path}: a state dict is needed, but it holds a {type(state).__name__}")
    for key, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            raise InvalidInput(f"{path}: a state dict is needed, but {key!r} is a {kind}")
    return dict(state)


def import_weights(source: str, weights: Path, folder: Path) -> Architecture:
    """Writes `architecture.json` and `model.safetensors` into `folder`, and gives the architecture.

    `weights` are a file of the network `source` (see `space.convert.sources`). Raises
    `InvalidInput` where they are not.
    """
    architecture, state = from_source(source, read_weights(weights))
    text = json.dumps(architecture.to_dict(), indent=2, ensure_ascii=False)
    _write_weights(folder / "model.safetensors", state)
    write_file(folder / "architecture.json", text + "\n")
    return architecture


def export_weights(source: str, weights: Path, out: Path) -> None:
    """Writes to `out` (safetensors) what the network `source` loads, from a file of ours.

    Raises `InvalidInput` where the weights are not those of the source's network.
    """
    _write_weights(out, to_source(source, read_weights(weights)))


def _write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    write_file(path, save(plain))
