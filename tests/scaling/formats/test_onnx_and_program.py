"""ONNX and torch.export: the network's outputs, in files that say what goes in and comes out."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx as onnx_library
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from scaling.formats import onnx, program
from space import presets
from space.architecture import (
    Architecture,
    Head,
    Operator,
    Padding,
    Skip,
    SqueezeExcite,
    Stage,
    Stem,
)
from space.validation import InvalidInput

Made = tuple[bytes, bytes, np.ndarray, np.ndarray]

#: Between them they have every operator, shortcut, activation and padding.
CASES = ["mobilenet_v3_small", "resnet18", "space"]


@pytest.fixture(scope="module", params=CASES)
def made(request, portable, trained, sampled) -> Made:
    """model.onnx, model.pt2, and inputs with their outputs."""
    if request.param == "space":
        (architecture,) = sampled("mnasnet_small", 1)
        architecture = replace(architecture, resolution=29)
    else:
        preset = presets.load(request.param, num_classes=10)
        same = replace(preset.numerics, padding=Padding.SAME)
        architecture = replace(preset, resolution=33, numerics=same)
    return write(architecture, portable, trained)


def write(architecture: Architecture, portable: Any, trained: Callable[..., Any]) -> Made:
    pixels = architecture.resolution
    images = torch.randn(5, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    network = trained(architecture, images)
    given = portable(architecture)
    traced = program.trace(given, network)
    with torch.no_grad():
        expected = network(images).numpy()
    return onnx.content(given, traced), program.content(given, traced), images.numpy(), expected


def test_the_outputs_are_the_networks_for_any_batch(made):
    for predict in (onnx.open_(made[0], "model.onnx"), program.open_(made[1])):
        for count in (5, 1):
            found = predict(made[2][:count])
            largest = np.abs(made[3]).max()
            assert np.abs(found - made[3][:count]).max() <= 1e-4 * largest


def pool_architecture() -> Architecture:
    """A network whose shortcuts pool, pad and cut channels."""
    stages = (
        Stage(Operator.INVERTED, 24, 2, 3, 2, 3.0, SqueezeExcite(), Skip.POOL),
        Stage(Operator.SEPARABLE, 16, skip=Skip.POOL),
    )
    return Architecture(Stem(16), stages, Head(32), resolution=33, num_classes=10)


def test_old_runtimes_read_the_files_and_compute_the_same_average(portable, trained):
    """Versions of onnxruntime differ in averages whose windows count padding (ceil_mode)."""
    data, _, images, expected = write(pool_architecture(), portable, trained)
    small = onnx.quantised(data, images)
    for each in (data, small):
        model = onnx_library.load_from_string(each)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
        assert model.ir_version == helper.find_min_ir_version_for(model.opset_import) == 8
        pools = [node for node in model.graph.node if node.op_type == "AveragePool"]
        assert pools
        for pool in pools:
            (counts,) = [a.i for a in pool.attribute if a.name == "count_include_pad"]
            assert counts == 0
    # OpenVINO computes a quantised padding of channels wrongly.
    assert "Pad" not in {node.op_type for node in model.graph.node}
    found = onnx.open_(small, "model.int8.onnx")(images)
    assert np.abs(found - expected).max() <= 0.15 * np.abs(expected).max()


def test_batch_norm_is_folded_and_the_batch_axis_is_called_batch(made):
    model = onnx_library.load_from_string(made[0])
    onnx_library.checker.check_model(model, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    for value, name in ((model.graph.input[0], "images"), (model.graph.output[0], "logits")):
        assert value.name == name
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_the_metadata_say_classes_preprocessing_and_cost(made):
    session = onnxruntime.InferenceSession(made[0])
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["classes"])[0] == "class 0"
    assert json.loads(found["preprocessing"])["square"] == "bicubic"
    assert int(found["macs"]) > 1e5
    extra = {"phiscale.json": ""}
    torch.export.load(io.BytesIO(made[1]), extra_files=extra)
    assert json.loads(extra["phiscale.json"])["classes"] == json.loads(found["classes"])


def test_no_path_of_this_machine_travels(made):
    for data in made[:2]:
        assert b"site-packages" not in data
        assert b"/network.py" not in data


def test_the_same_network_gives_the_same_bytes(portable, trained, sampled):
    (architecture,) = sampled("efficientnet_v2_small", 1)
    architecture = replace(architecture, resolution=16)
    first, second = (write(architecture, portable, trained) for _ in range(2))
    assert first[:2] == second[:2]


def test_eight_bits_are_smaller_and_nearly_the_same(made):
    small = onnx.quantised(made[0], made[2])
    assert len(small) < 0.6 * len(made[0])
    found = onnx.open_(small, "model.int8.onnx")(made[2])
    assert np.corrcoef(found.ravel(), made[3].ravel())[0, 1] > 0.8


def strange(*nodes: Any, numbers: tuple[int, ...] = ()) -> bytes:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", *"abc"])
    shape = helper.make_tensor("shape", TensorProto.INT64, [len(numbers)], numbers)
    graph = helper.make_graph(list(nodes), "g", [image], [logits], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "must be an ONNX model"),
        (b"\x00" * 100, "must be an ONNX model"),
        (
            strange(helper.make_node("ConstantOfShape", ["shape"], ["logits"]), numbers=(10**12,)),
            "phiscale writes no operator ConstantOfShape",
        ),
        (
            strange(
                helper.make_node("Pad", ["images", "shape"], ["logits"]),
                numbers=(0, 0, 0, 0, 0, 10**9, 0, 0),
            ),
            "a tensor must have at most",
        ),
    ],
    ids=["empty", "zeros", "an operator that allocates", "padding without end"],
)
def test_what_phiscale_could_not_have_written_is_not_run(data, reason):
    with pytest.raises(InvalidInput, match=f"x.onnx: .*{reason}"):
        onnx.open_(data, "x.onnx")
