"""Whatever is in a stranger's files: an error in a sentence, or what they say; never anything else.

Real files with bytes, headers and structures changed. What once led to another end stands among the
examples.
"""

import hashlib
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_library
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import scaling
from scaling.coefficients import PUBLISHED
from scaling.export import About, Trained, export_member, write_cards, write_family
from scaling.family import family_at
from scaling.formats import Format, onnx
from scaling.saved_family import DataRecord, Origin, Preprocessing, load_family
from scaling.verification import open_format
from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.network import build
from space.validation import InvalidInput
from space.weights import import_weights, read_weights

BASELINE = Architecture(
    Stem(8, stride=1),
    (Stage(Operator.INVERTED, 16, 2, 3, 2, 3.0, SqueezeExcite()),),
    Head(32),
    resolution=12,
    num_classes=3,
)
ABOUT = About(
    name="pets",
    classes=("cat", "dog", "owl"),
    preprocessing=Preprocessing((0.5,) * 3, (0.25,) * 3, stored=16),
    data=DataRecord("pets", "0" * 32, 60, 20, (40, 10, 10), (10, 6, 4), 6, ("one remark",)),
    origin=Origin("mnasnet_small", "accuracy", "tpe", 8, 3, 6, 0, "top1", "0.1.0"),
)
FORMATS = (Format.ONNX, Format.TORCH, Format.CARD)
LATENCY = (
    "member,accuracy,backend,device,batch,threads,median_seconds,low_seconds,high_seconds,"
    "images_per_second\nb0,0.75,eager,cpu,1,2,0.002,0.0015,0.003,500\n"
)
FILES = ("architecture.json", "model.safetensors", "model.onnx")
fuzzed = settings(
    max_examples=int(os.environ.get("PHISCALE_FUZZ", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

#: The files that were opened while a stranger's family was read.
opened: list[str] | None = None


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if opened is not None and event == "open" and isinstance(arguments[0], str):
        opened.append(arguments[0])


sys.addaudithook(_record)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "family"
    (member,) = family_at(BASELINE, PUBLISHED, (0,)).members
    torch.manual_seed(0)
    inputs = torch.randn(4, 3, 12, 12)
    network = build(member.architecture)
    trained = Trained(0.75, 20, 1.5, (1.0, 0.5, None))
    record = export_member(folder, member, network, trained, ABOUT, inputs, formats=FORMATS)
    write_family(folder, [record], PUBLISHED, ABOUT)
    (folder / "latency.csv").write_text(LATENCY)
    return folder


@pytest.fixture
def family(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "family", dirs_exist_ok=True)


def rehashed(family: Path, name: str) -> None:
    """Makes family.json agree with a file of b0, as a stranger would."""
    data = json.loads((family / "family.json").read_text())
    content = (family / "b0" / name).read_bytes()
    data["members"][0]["files"][name] = hashlib.sha256(content).hexdigest()
    (family / "family.json").write_text(json.dumps(data))


def use(family: Path) -> None:
    """All that phiscale does with a family, code and programs aside."""
    global opened
    opened = []
    try:
        loaded = load_family(family)
        for member in loaded:
            images = np.zeros((1, 3, 12, 12), np.float32)
            assert member.load()(torch.from_numpy(images)).shape == (1, 3)
            if Format.ONNX in FORMATS and "model.onnx" in member.record.files:
                open_format(member, Format.ONNX)(images)
        write_cards(family, loaded.record)
    except InvalidInput:
        pass
    finally:
        found, opened = opened, None
    outside = [path for path in found if not Path(path).resolve().is_relative_to(family.resolve())]
    own = (sys.prefix, sys.base_prefix, str(Path(scaling.__file__).parent / "templates"))
    assert not [path for path in outside if not path.startswith(own)]


# ------------------------------------------------------------------------------------ bytes


#: Where bytes are put, as a part of the file, and what stands there then; None cuts the file there.
changes = st.lists(
    st.tuples(st.floats(0, 1), st.none() | st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, edits: list[tuple[float, bytes | None]]) -> bytes:
    for place, content in edits:
        start = int(place * len(data))
        data = (
            data[:start]
            if content is None
            else data[:start] + content + data[start + len(content) :]
        )
    return data


@fuzzed
@given(
    edits=changes,
    name=st.sampled_from(
        [
            "family.json",
            "b0/architecture.json",
            "b0/model.safetensors",
            "b0/model.onnx",
            "latency.csv",
        ]
    ),
)
@example(edits=[(0.0, None)], name="latency.csv")
@example(edits=[(0.9, b'x,y\n"')], name="latency.csv")
@example(edits=[(0.0, b"\xff\xfe")], name="family.json")
@example(edits=[(0.0, b"\xff" * 8)], name="b0/model.safetensors")
@example(edits=[(0.15625, b"\x80")], name="b0/model.onnx")
def test_changed_bytes_are_refused_or_read(whole, family, edits, name):
    (family / name).write_bytes(changed((whole / name).read_bytes(), edits))
    try:
        if name.startswith("b0/"):
            rehashed(family, name.removeprefix("b0/"))
        use(family)
    finally:
        shutil.copytree(whole, family, dirs_exist_ok=True)


# -------------------------------------------------------------------------------------- JSON


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**18), 2**63, 0, -1])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["../b0", "/etc/passwd", "b0/../..", "..", "", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every container and key in JSON data."""
    found = []
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        found.append((data, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


def set_at(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


@fuzzed
@given(data=st.data(), name=st.sampled_from(["family.json", "b0/architecture.json"]))
def test_any_value_in_a_family_is_refused_or_used(whole, family, data, name):
    content = json.loads((whole / name).read_text())
    container, key = data.draw(st.sampled_from(places(content)))
    container[key] = data.draw(values)
    (family / name).write_text(json.dumps(content))
    try:
        if name != "family.json":
            rehashed(family, "architecture.json")
        use(family)
    finally:
        shutil.copytree(whole, family, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("members", 0, "accuracy"), 7),
        (("members", 0, "accuracy"), float("nan")),
        (("members", 0, "images"), 10**400),
        (("members", 0, "images"), -1),
        (("members", 0, "class_accuracies"), [2, None, None]),
        (("members", 0, "phi"), float("inf")),
        (("members", 0, "int8"), {"accuracy": 0.5, "full_accuracy": 0.5, "images": 0}),
        (("data", "train_per_class"), []),
        (("data", "test"), -5),
        (("preprocessing", "std"), [0.0, 1.0, 1.0]),
        (("preprocessing", "mean"), [float("nan")] * 3),
        (("coefficients", "alpha"), 1e308),
    ],
)
def test_numbers_that_nothing_measured_gives_are_refused(family, path, value):
    content = json.loads((family / "family.json").read_text())
    set_at(content, path, value)
    (family / "family.json").write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match=r"family\.json: "):
        load_family(family)


@pytest.mark.parametrize("depth", [150, 900, 990, 5_000, 1_000_000])
@pytest.mark.parametrize("name", ["family.json", "b0/architecture.json"])
def test_nesting_without_end_is_refused(family, name, depth):
    for text in ("[" * depth + "]" * depth, '{"members": ' * depth + "1" + "}" * depth):
        (family / name).write_text(text)
        if name != "family.json":
            rehashed(family, "architecture.json")
        with pytest.raises(InvalidInput, match="json: "):
            load_family(family)


# --------------------------------------------------------------------------------------- links


def test_nothing_but_files_of_the_folder_is_read(family, tmp_path):
    path = family / "family.json"
    outside = tmp_path / "outside.json"
    shutil.move(path, outside)
    path.symlink_to(outside)
    with pytest.raises(InvalidInput, match="must be inside"):
        load_family(family)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InvalidInput, match="must be a file"):
        load_family(family)


def test_a_file_of_any_size_is_refused_before_it_is_read(family):
    for name in ("b0/model.safetensors", "b0/architecture.json", "family.json"):
        with (family / name).open("r+b") as file:
            file.truncate(10**13)
        with pytest.raises(InvalidInput, match=f"{Path(name).name}: must have at most"):
            load_family(family)


# --------------------------------------------------------------------------------- safetensors


def safetensors(header: Any, data: bytes = b"\0" * 64) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(begin: int, end: int, shape: Any = (16,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "a length beyond the file": struct.pack("<Q", 2**63) + b"{}",
    "a length of nothing": struct.pack("<Q", 0),
    "offsets beyond the file": safetensors({"a": tensor(0, 10**12, [10**12])}),
    "offsets below it": safetensors({"a": tensor(-64, 0)}),
    "offsets backwards": safetensors({"a": tensor(64, 0)}),
    "overlapping tensors": safetensors({"a": tensor(0, 64), "b": tensor(0, 64)}),
    "the same name twice": safetensors(
        json.dumps({"a": tensor(0, 64), "A": tensor(0, 64)}).replace('"A"', '"a"').encode()
    ),
    "a shape whose product overflows": safetensors({"a": tensor(0, 64, [2**62, 4, 4])}),
    "a shape without end": safetensors({"a": tensor(0, 64, [1] * 100_000)}),
    "an unknown type": safetensors({"a": tensor(0, 64, dtype="PICKLE")}),
    "nesting without end": safetensors(b"[" * 50_000),
    "no JSON": safetensors(b"\x80\x04pickle"),
    "numbers that are none": safetensors(b'{"a": {"dtype": "F32", "shape": [NaN]}}'),
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_a_safetensors_file_that_lies_of_itself_is_refused(data, family, tmp_path):
    (family / "b0" / "model.safetensors").write_bytes(data)
    rehashed(family, "model.safetensors")
    with pytest.raises(InvalidInput, match=r"model\.safetensors: "):
        load_family(family)["b0"].load()
    path = tmp_path / "other.safetensors"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"other\.|unexpected tensor"):
        import_weights("torchvision/resnet18", path, tmp_path)


@fuzzed
@given(edits=changes)
def test_weights_of_pytorch_are_tensors_or_refused(edits, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(4.0), "b": torch.ones(2, 2)}, path)
    path.write_bytes(changed(path.read_bytes(), edits))
    try:
        found = read_weights(path)
    except InvalidInput:
        return
    assert all(isinstance(value, torch.Tensor) for value in found.values())


# ---------------------------------------------------------------------------------------- ONNX


def edited(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        model = onnx_library.load_from_string(data)
        change(model)
        found: bytes = model.SerializeToString()
        return found

    return edit


def lead_outside(model: Any) -> None:
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "../../outside"


def lead_outside_from_a_node(model: Any) -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0])
    value.ClearField("float_data")
    value.data_location = TensorProto.EXTERNAL
    entry = value.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    node = helper.make_node("Constant", [], ["c"], value=value)
    model.graph.node.insert(0, node)


def define(model: Any) -> None:
    opsets = [helper.make_opsetid("", 18)]
    body = [helper.make_node("ConstantOfShape", ["s"], ["y"])]
    model.functions.append(helper.make_function("own", "Relu", ["s"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[1].domain = "own"


def widen(model: Any) -> None:
    shape = [1, 1, 60_000, 60_000]
    column = helper.make_tensor("w", TensorProto.FLOAT, [60_000, 1], [0.0] * 60_000)
    row = helper.make_tensor("h", TensorProto.FLOAT, [60_000], [0.0] * 60_000)
    model.graph.initializer.extend([column, row])
    model.graph.node.insert(0, helper.make_node("Add", ["w", "h"], [f"large {shape}"]))


def pad(model: Any) -> None:
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    (pads,) = [given for given in convolution.attribute if given.name == "pads"]
    pads.ints[:] = [10**9] * 4


def rename(model: Any) -> None:
    model.graph.output[0].name = "other"
    model.graph.node[-1].output[0] = "other"


MODELS: dict[str, Callable[[Any], object]] = {
    "weights in another file": lead_outside,
    "a constant in another file": lead_outside_from_a_node,
    "a function of its own": define,
    "small weights of which much is made": widen,
    "padding without end": pad,
    "another output": rename,
    "no input": lambda model: model.graph.ClearField("input"),
    "another input": lambda model: model.graph.input[0].type.tensor_type.shape.dim.pop(),
    "a node that is not there": lambda model: model.graph.node.pop(3),
    "no operator set": lambda model: model.ClearField("opset_import"),
    "an operator set to come": lambda model: setattr(model.opset_import[0], "version", 10**6),
    "weights of another shape": lambda model: model.graph.initializer[0].dims.append(7),
}


@pytest.mark.parametrize("change", MODELS.values(), ids=MODELS)
def test_an_onnx_model_that_phiscale_does_not_write_is_refused(change, whole):
    data = edited(change)((whole / "b0" / "model.onnx").read_bytes())
    with pytest.raises(InvalidInput, match=r"x\.onnx: "):
        onnx.open_(data, "x.onnx")(np.zeros((1, 3, 12, 12), np.float32))
