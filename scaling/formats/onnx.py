"""ONNX: `model.onnx`, and `model.int8.onnx` quantised after training.

Input `images` (batch × channels × resolution × resolution, preprocessed), output `logits`
(batch × classes); the metadata say classes, preprocessing and cost. Needs the extra `onnx`.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.formats import Portable, Predict
from space.architecture import MAX_CHANNELS
from space.validation import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

FILE = "model.onnx"
INT8 = "model.int8.onnx"

#: What is installed for this; `phiscale[onnx]` has all of it.
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

#: What a network of ours is made of in ONNX. Nothing else is run: some operators take as much
#: memory as a number in the file says.
_OPERATORS = {
    *("Add", "AveragePool", "Clip", "Constant", "Conv", "Gemm", "HardSigmoid", "HardSwish"),
    *("MaxPool", "Mul", "Pad", "ReduceMean", "Relu", "Reshape", "Sigmoid"),
    *("DequantizeLinear", "QuantizeLinear"),
}

#: Images that are quantised at a time, and that calibrate (assumed; more changed nothing).
_CALIBRATION_BATCH = 32


def require() -> None:
    """Raises `InvalidInput`, saying what to install, where something is missing."""
    for name in _PACKAGES:
        try:
            import_module(name)
        except ImportError:
            raise InvalidInput(
                f"ONNX needs the package {name}, which is not installed: pip install "
                "'phiscale[onnx]', or leave onnx out of --to"
            ) from None


def content(portable: Portable, program: ExportedProgram) -> bytes:
    """The bytes of `model.onnx`, checked: the program of `scaling.formats.program.trace`."""
    require()
    import onnx
    import torch

    with _quiet():
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=["images"], output_names=["logits"]
        )
    assert exported is not None  # it is not, but where it writes a file
    model = exported.model_proto
    for node in (*model.graph.node, *model.graph.value_info, *model.graph.input):
        del node.metadata_props[:]  # they name files of the machine that exports
    del model.graph.metadata_props[:], model.metadata_props[:]
    model.producer_name = "phiscale"
    model.graph.name = portable.identifier
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    _describe(model, portable)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _describe(model: Any, portable: Portable) -> None:
    for key, value in portable.about().items():
        entry = model.metadata_props.add()
        entry.key = key
        entry.value = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def quantised(data: bytes, images: NDArray[np.float32]) -> bytes:
    """`model.onnx` with weights and activations of 8 bits, ranges taken from `images`.

    Weights have a range for each channel; activations are asymmetric, in QDQ form. `images` are
    N × channels × resolution × resolution, preprocessed as the network's input.
    """
    require()
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            starts = range(0, len(images), _CALIBRATION_BATCH)
            self.batches = iter([{"images": images[i : i + _CALIBRATION_BATCH]} for i in starts])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, prepared, small = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        whole.write_bytes(data)
        quant_pre_process(whole, prepared)
        quantization.quantize_static(
            prepared,
            small,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        return small.read_bytes()


def open_(data: bytes, source: str) -> Predict:
    """Runs the network in `data` with onnxruntime; `source` names it in errors.

    Raises `InvalidInput` for what is no network that phiscale could have written.
    """
    require()
    import onnxruntime

    _check(data, source)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"images": images})[0]
        return logits

    return predict


def _check(data: bytes, source: str) -> None:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInput(f"{source}: must be an ONNX model, but {reason}") from None
    strange = {node.op_type for node in model.graph.node} - _OPERATORS
    if strange:
        raise InvalidInput(f"{source}: no network of phiscale's has the operator {min(strange)}")
    for tensor in model.graph.initializer:
        if tensor.external_data:
            raise InvalidInput(f"{source}: its weights must lie in the file, but lead to another")
        if tensor.data_type == onnx.TensorProto.INT64:  # shapes and paddings
            largest = max(map(abs, onnx.numpy_helper.to_array(tensor).ravel().tolist()), default=0)
            if largest > MAX_CHANNELS:
                raise InvalidInput(f"{source}: a shape of {largest} is beyond any network's")


@contextmanager
def _quiet() -> Iterator[None]:
    """torch and onnxruntime tell of their own insides, which no user can do anything about."""
    loggers = [logging.getLogger(name) for name in ("", "onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
