"""Core ML: `model.mlpackage.zip`, an ML program in float32; unpack it before use.

Input `images`, 1 × channels × resolution × resolution, preprocessed; output `logits`, 1 × classes;
the metadata of the model hold `phiscale`: classes, preprocessing and cost. Core ML runs on Apple's
systems alone, so phiscale does not run it.
"""

from __future__ import annotations

import io
import json
import tempfile
import uuid
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.formats import NotRun, Portable, Predict, program, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from space.network import Network

EXTRA = "coreml"
PACKAGES: tuple[str, ...] = ("coremltools",)
FILES: tuple[str, ...] = ("model.mlpackage.zip",)
INT8: tuple[str, ...] = ()

_PACKAGE = "model.mlpackage"


def content(
    portable: Portable, network: Network, calibration: NDArray[np.float32] | None = None
) -> tuple[bytes, ...]:
    """The content of `FILES`; the same bytes for the same network."""
    assert calibration is None
    with silent():
        import coremltools
        import torch

        pixels, channels = portable.architecture.resolution, portable.architecture.in_channels
        images = torch.zeros(1, channels, pixels, pixels)
        traced = torch.export.export(program.folded(network), (images,)).run_decompositions({})
        model = coremltools.convert(
            traced,
            inputs=[coremltools.TensorType("images", images.shape)],
            outputs=[coremltools.TensorType("logits")],
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS16,
            skip_model_load=True,
        )
        model.user_defined_metadata.clear()  # a date
        about = json.dumps(portable.about(), ensure_ascii=False)
        model.user_defined_metadata["phiscale"] = about
        with tempfile.TemporaryDirectory() as folder:
            model.save(f"{folder}/{_PACKAGE}")
            return (_packed(Path(folder)),)


def _packed(folder: Path) -> bytes:
    """The package in `folder` as an archive; its random identifiers become those of its paths."""
    path = folder / _PACKAGE / "Manifest.json"
    manifest = json.loads(path.read_bytes())
    entries = manifest["itemInfoEntries"]
    names = {
        key: str(uuid.uuid5(uuid.NAMESPACE_URL, each["path"])) for key, each in entries.items()
    }
    manifest["itemInfoEntries"] = {names[key]: each for key, each in entries.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, sort_keys=True))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "executorch_debug_handle_mapping.json":
                name = path.relative_to(folder).as_posix()
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes())  # dated 1980
    return file.getvalue()


def open_(files: tuple[bytes, ...]) -> Predict:
    """Reads the package in `files`, which must be trusted, and raises `NotRun`."""
    with silent(), tempfile.TemporaryDirectory() as folder:
        import coremltools

        with zipfile.ZipFile(io.BytesIO(files[0])) as archive:
            archive.extractall(folder)
        coremltools.models.MLModel(f"{folder}/{_PACKAGE}", skip_model_load=True)
    raise NotRun("Core ML predicts on Apple's systems alone: not verified here")
