"""OpenVINO: `model.xml` with its weights in `model.bin`, and `model.int8.…` by NNCF.

Input `images` (batch × channels × resolution × resolution, preprocessed), output `logits`
(batch × classes). The `rt_info` of the model holds `phiscale`: classes, preprocessing and cost.
Outputs are those of 32 bits only with the hint `INFERENCE_PRECISION_HINT=f32`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.formats import Portable, Predict, program, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from space.network import Network

EXTRA = "openvino"
PACKAGES: tuple[str, ...] = ("openvino", "nncf")
FILES: tuple[str, ...] = ("model.xml", "model.bin")
INT8: tuple[str, ...] = ("model.int8.xml", "model.int8.bin")


def content(
    portable: Portable, network: Network, calibration: NDArray[np.float32] | None = None
) -> tuple[bytes, ...]:
    """The content of `FILES`, or of `INT8` with ranges from the inputs `calibration`."""
    with silent():
        import openvino

        model = openvino.convert_model(program.trace(portable, network))
        pixels = portable.architecture.resolution
        model.reshape([-1, portable.architecture.in_channels, pixels, pixels])
        if calibration is not None:
            import nncf

            images = nncf.Dataset([image[None] for image in calibration])
            model = nncf.quantize(model, images, subset_size=len(calibration))
        model.inputs[0].set_names({"images"})
        model.outputs[0].set_names({"logits"})
        model.set_rt_info(json.dumps(portable.about(), ensure_ascii=False), "phiscale")
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in FILES]
            openvino.save_model(model, paths[0], compress_to_fp16=False)
            return tuple(path.read_bytes() for path in paths)


def open_(files: tuple[bytes, ...]) -> Predict:
    """Runs the model in `files`, which must be trusted."""
    with silent():
        import openvino

        core = openvino.Core()
        network = core.compile_model(
            core.read_model(*files), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = network(images)["logits"]
        return logits

    return predict
