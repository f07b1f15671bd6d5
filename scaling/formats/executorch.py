"""ExecuTorch: `model.pte` for its XNNPACK backend, and `model.int8.pte` quantised after training.

Input 1 × channels × resolution × resolution, preprocessed, output 1 × classes; `config.json` beside
it has classes and preprocessing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaling.formats import Portable, Predict, one_by_one, program, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.fx import GraphModule

    from space.network import Network

EXTRA = "executorch"
PACKAGES: tuple[str, ...] = ("executorch", "torchao")
FILES: tuple[str, ...] = ("model.pte",)
INT8: tuple[str, ...] = ("model.int8.pte",)


def content(
    portable: Portable, network: Network, calibration: NDArray[np.float32] | None = None
) -> tuple[bytes, ...]:
    """The content of `FILES`, or of `INT8` with ranges from the inputs `calibration`."""
    with silent():
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        pixels = portable.architecture.resolution
        images = torch.zeros(1, portable.architecture.in_channels, pixels, pixels)
        traced = torch.export.export(program.folded(network), (images,))
        if calibration is not None:
            traced = torch.export.export(_quantised(traced.module(), calibration), (images,))
        lowered = to_edge_transform_and_lower(traced, partitioner=[XnnpackPartitioner()])
        return (lowered.to_executorch().buffer,)


def _quantised(module: GraphModule, calibration: NDArray[np.float32]) -> GraphModule:
    """8-bit weights with a range per channel, and 8-bit activations."""
    import torch
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    settings = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    quantiser = xnnpack_quantizer.XNNPACKQuantizer().set_global(settings)
    observed = prepare_pt2e(module, quantiser)
    with torch.inference_mode():
        for image in torch.from_numpy(calibration):
            observed(image[None])
    converted: GraphModule = convert_pt2e(observed)
    return converted


def open_(files: tuple[bytes, ...]) -> Predict:
    """Runs the program in `files`, which must be trusted."""
    with silent():
        import torch
        from executorch.runtime import Runtime

        loaded = Runtime.get().load_program(files[0])
        method = loaded.load_method("forward")

    def predict(image: NDArray[np.float32]) -> NDArray[np.float32]:
        assert loaded, files  # the method does not keep what it points to
        logits: NDArray[np.float32] = method.execute([torch.from_numpy(image)])[0].numpy().copy()
        return logits

    return one_by_one(predict)
