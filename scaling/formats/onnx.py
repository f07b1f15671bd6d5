"""ONNX: `model.onnx`, and `model.int8.onnx` quantised after training.

Input `images` (batch × channels × resolution × resolution, preprocessed), output `logits`
(batch × classes); the metadata hold classes, preprocessing and cost. Needs the extra `onnx`.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.formats import Portable, Predict, quiet
from space.optional import install
from space.validation import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

FILE = "model.onnx"
INT8 = "model.int8.onnx"

#: The packages that ONNX needs; the extra `onnx` installs them.
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

#: The operator version that torch's exporter writes without converting, and the oldest onnxruntime
#: for Python 3.11, which runs both files (`make test-install` tries it).
_OPSET, OLDEST_RUNTIME = 18, "1.15"

#: The operators that phiscale writes. A model with any other is not run.
_OPERATORS = {
    *("Add", "AveragePool", "Clip", "Conv", "Gemm", "HardSigmoid", "HardSwish"),
    *("MaxPool", "Mul", "Pad", "ReduceMean", "Relu", "Reshape", "Sigmoid"),
    *("DequantizeLinear", "QuantizeLinear"),
}

#: The most elements of a tensor for one image (assumed: twelve times EfficientNet-B8's largest).
_MOST_ELEMENTS = 2**28

#: Images per calibration batch (assumed; more changed nothing).
_CALIBRATION_BATCH = 32


def require() -> None:
    """Raises `InvalidInput`, which says what to install, if a package is missing."""
    for name in _PACKAGES:
        try:
            import_module(name)
        except ImportError:
            raise InvalidInput(
                f"ONNX needs the package {name}, which is not installed: {install('onnx')}; "
                "or leave onnx out of --to"
            ) from None


def content(portable: Portable, program: ExportedProgram) -> bytes:
    """The bytes of `model.onnx`, checked: the program of `scaling.formats.program.trace`."""
    require()
    import onnx
    import torch

    with quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=_OPSET,
            input_names=["images"],
            output_names=["logits"],
        )
    assert exported is not None  # None only if it writes a file
    model = exported.model_proto
    for node in (*model.graph.node, *model.graph.value_info, *model.graph.input):
        del node.metadata_props[:]  # paths of this machine
    del model.graph.metadata_props[:], model.metadata_props[:]
    model.producer_name = "phiscale"
    model.graph.name = portable.identifier
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    _lower_versions(model)
    for key, fact in portable.about().items():
        text = fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _lower_versions(model: Any) -> None:
    """Declares the lowest versions that the operators allow, so that old runtimes read the file."""
    import onnx

    used = {node.domain for node in model.graph.node}
    versions = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(versions)
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)


def quantised(data: bytes, images: NDArray[np.float32]) -> bytes:
    """`model.onnx` with 8-bit weights and activations, calibrated on `images`.

    Weights have a range per channel; activations are asymmetric, in QDQ form. `images` are
    N × channels × resolution × resolution, preprocessed.
    """
    require()
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            starts = range(0, len(images), _CALIBRATION_BATCH)
            self.batches = iter([{"images": images[i : i + _CALIBRATION_BATCH]} for i in starts])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder, quiet():
        whole, prepared, small = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        whole.write_bytes(_without_channel_padding(data))
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
        model = onnx.load_from_string(small.read_bytes())
    _lower_versions(model)
    quantised_data: bytes = model.SerializeToString(deterministic=True)
    return quantised_data


def _without_channel_padding(data: bytes) -> bytes:
    """The model with each padding (or cropping) of channels as a 1×1 convolution of zeros and ones.

    OpenVINO moves the scale and zero point of a quantised tensor behind the padding, where the
    number of channels differs: 2026.4 does not compile such a network, or computes wrong outputs.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(data)
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    channels = {name: dims[1].dim_value for name, dims in shapes.items() if len(dims) == 4}
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Pad" and constants[node.input[1]][5] != 0:
            source, name = node.input[0], node.output[0]
            weight = np.eye(channels[name], channels[source], dtype=np.float32)[:, :, None, None]
            model.graph.initializer.append(numpy_helper.from_array(weight, f"{name}_weight"))
            node.CopyFrom(helper.make_node("Conv", [source, f"{name}_weight"], [name], name=name))
    used = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    padded: bytes = model.SerializeToString()
    return padded


def open_(data: bytes, source: str) -> Predict:
    """Runs the model in `data` with onnxruntime; `source` names it in errors.

    Raises `InvalidInput` for a model that phiscale cannot have written.
    """
    require()
    import onnxruntime

    _check(data, source)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its exceptions say the same
    with _explained(f"{source}: onnxruntime cannot run it:"):
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with _explained(f"{source}: onnxruntime cannot run it:"):
            logits: NDArray[np.float32] = session.run(["logits"], {"images": images})[0]
        return logits

    return predict


@contextmanager
def _explained(message: str) -> Iterator[None]:
    """Raises `InvalidInput` for any error of onnx or onnxruntime, which share no base class."""
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise InvalidInput(f"{message} {reason}") from None


def _check(data: bytes, source: str) -> None:
    """Checks that phiscale can have written the model, and that it needs a bounded memory."""
    import onnx

    with _explained(f"{source}: must be an ONNX model, but"):
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
        _check_operators(model, source)
        del model.graph.value_info[:]  # shapes that the file states are not trusted
        for value in model.graph.input:
            value.type.tensor_type.shape.dim[0].dim_value = 1
        found = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*found.input, *found.value_info, *found.output)
    }
    for name in (*shapes, *(name for node in model.graph.node for name in node.output)):
        sides = shapes.get(name, [0])
        if min(sides, default=1) < 1 or math.prod(sides) > _MOST_ELEMENTS:
            shape = " × ".join(map(str, sides)) if name in shapes else "of unknown shape"
            raise InvalidInput(
                f"{source}: a tensor must have at most {_MOST_ELEMENTS} elements for one image, "
                f"but {name} is {shape}"
            )


def _check_operators(model: Any, source: str) -> None:
    """Checks that the model is self-contained and has only operators that phiscale writes."""
    plain = {"FLOAT", "INT", "STRING", "FLOATS", "INTS"}
    for node in model.graph.node:
        if node.domain or node.op_type not in _OPERATORS:
            raise InvalidInput(f"{source}: phiscale writes no operator {node.op_type}")
        for given in node.attribute:
            if given.AttributeType.Name(given.type) not in plain:
                raise InvalidInput(f"{source}: the operator {node.op_type} must not contain data")
    if model.functions or model.graph.sparse_initializer:
        raise InvalidInput(f"{source}: must not contain functions or sparse weights")
    for tensor in model.graph.initializer:
        if tensor.external_data or tensor.data_location:
            raise InvalidInput(f"{source}: must contain its weights, but refers to another file")
