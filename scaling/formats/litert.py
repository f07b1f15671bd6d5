"""LiteRT (TensorFlow Lite): `model.tflite`, and `model.int8.tflite` quantised after training.

Input `images`, 1 × resolution × resolution × channels, preprocessed; output `logits`, 1 × classes.
With 8 bits both are int8, with their scale and zero point in the file. The archive at its end, as
TensorFlow Lite's metadata have it, holds `phiscale.json`: classes, preprocessing and cost.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scaling.formats import ABOUT, Portable, Predict, one_by_one, program, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from space.network import Network

EXTRA = "litert"
PACKAGES: tuple[str, ...] = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")
FILES: tuple[str, ...] = ("model.tflite",)
INT8: tuple[str, ...] = ("model.int8.tflite",)

_SIGNATURE = "serving_default"

#: Lets LiteRT for Microcontrollers allocate what a model needs; it prints from C++.
_ALLOCATE = """\
import sys
from tflite_micro import runtime
runtime.Interpreter.from_file(sys.argv[1], arena_size=64_000_000).print_allocations()
"""


def content(
    portable: Portable, network: Network, calibration: NDArray[np.float32] | None = None
) -> tuple[bytes, ...]:
    """The content of `FILES`, or of `INT8` with ranges from the inputs `calibration`."""
    import torch

    pixels = portable.architecture.resolution
    images = torch.zeros(1, portable.architecture.in_channels, pixels, pixels)
    with silent():
        data = converted(program.folded(network), images)
        if calibration is not None:
            data = _quantised(data, calibration)
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive:
        about = json.dumps(portable.about(), ensure_ascii=False)
        archive.writestr(zipfile.ZipInfo(ABOUT), about)  # dated 1980
    return (file.getvalue(),)


def converted(module: nn.Module, images: Tensor) -> bytes:
    """A network, or a part of one, as LiteRT has it: its maps have the channels last.

    `images` is an input of `module`, N × channels × H × W.
    """
    import litert_torch
    import torch

    class ChannelsLast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            found = self.module(images.permute(0, 3, 1, 2))
            return {"logits": found.permute(0, 2, 3, 1) if found.ndim == 4 else found}

    given = {"images": images.permute(0, 2, 3, 1).contiguous()}
    model = litert_torch.convert(ChannelsLast().eval(), sample_kwargs=given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILES[0]
        model.export(str(path))
        return path.read_bytes()


def _quantised(data: bytes, calibration: NDArray[np.float32]) -> bytes:
    """8-bit weights with a range per channel, and 8-bit activations."""
    from ai_edge_quantizer import quantizer, recipe

    quantiser = quantizer.Quantizer(data, recipe.static_wi8_ai8())
    images = [{"images": _channels_last(image[None])} for image in calibration]
    found = quantiser.quantize(quantiser.calibrate({_SIGNATURE: images}))
    return _in_one_piece(bytes(found.quantized_model))


def _in_one_piece(data: bytes) -> bytes:
    """The model with all weights inside its flatbuffer, which is all that microcontrollers read.

    The quantiser writes those of larger models behind it.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1: inside
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _channels_last(images: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


class Arena(NamedTuple):
    """Bytes of RAM that a model takes in LiteRT for Microcontrollers.

    `head` holds tensors and the workspace of kernels, `tail` the runtime's own structures.
    """

    head: int
    tail: int


def arena(data: bytes) -> Arena | None:
    """What the interpreter allocates, without options, for a model; None without tflite-micro."""
    if find_spec("tflite_micro") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILES[0]
        path.write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", _ALLOCATE, path],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    told = dict(re.findall(r"Arena allocation (head|tail) (\d+) bytes", done.stdout))
    return Arena(int(told["head"]), int(told["tail"]))


def open_(files: tuple[bytes, ...]) -> Predict:
    """Runs the model in `files`, which must be trusted."""
    with silent():
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=files[0], num_threads=1)
        interpreter.allocate_tensors()
        run = interpreter.get_signature_runner(_SIGNATURE)
    given, gives = run.get_input_details()["images"], run.get_output_details()["logits"]

    def predict(image: NDArray[np.float32]) -> NDArray[np.float32]:
        values, (scale, zero) = _channels_last(image), given["quantization"]
        if scale:
            values = np.clip(np.round(values / scale + zero), -128, 127).astype(given["dtype"])
        logits: NDArray[np.float32] = run(images=values)["logits"].astype(np.float32)
        scale, zero = gives["quantization"]
        return (logits - np.float32(zero)) * np.float32(scale) if scale else logits

    return one_by_one(predict)
