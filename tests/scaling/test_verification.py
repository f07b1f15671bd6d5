"""Families read back in every format: differences are named, and no stranger's code is run."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scaling import intervals
from scaling.coefficients import PUBLISHED
from scaling.export import (
    EVERY,
    About,
    Trained,
    export_again,
    export_member,
    quantise,
    write_family,
)
from scaling.family import family_at
from scaling.formats import Format, predictor
from scaling.saved_family import (
    DataRecord,
    Origin,
    Preprocessing,
    SavedMember,
    StartRecord,
    load_family,
    load_member,
)
from scaling.verification import (
    FILES,
    INT8,
    RUNTIMES,
    Different,
    Untrusted,
    open_format,
    verify,
)
from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.network import build
from space.validation import InvalidInput

BASELINE = Architecture(
    Stem(8, stride=1),
    (Stage(Operator.CONV, 8), Stage(Operator.INVERTED, 16, 2, 3, 2, 3.0, SqueezeExcite())),
    Head(32),
    resolution=12,
    num_classes=3,
)
CLASSES = ("cat", "dog", "<b>|`\n# owl")
ABOUT = About(
    name="pets",
    classes=CLASSES,
    preprocessing=Preprocessing((0.5,) * 3, (0.25,) * 3, stored=16),
    data=DataRecord("my|pets", "0" * 32, 60, 20, (40, 10, 10), (10, 6, 4), 6, ("one remark",)),
    origin=Origin("mnasnet_small", "accuracy · (macs / 8)^w", "tpe", 8, 3, 6, 0, "top1", "0.1.0"),
)
TRAINED = Trained(0.75, 20, 1.5, (1.0, 0.5, None))
MEMBERS = family_at(BASELINE, PUBLISHED, (0, 1)).members


def noise(side: int, count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def inputs(member: SavedMember) -> Any:
    return noise(member.architecture.resolution).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, timm: object) -> Path:
    assert timm  # so that its format is proved, too
    folder = tmp_path_factory.mktemp("run") / "family"
    records = []
    for member in MEMBERS:
        torch.manual_seed(0)
        network = build(member.architecture)
        network(noise(member.resolution) * 2 + 1)
        records.append(
            export_member(folder, member, network, TRAINED, ABOUT, noise(member.resolution))
        )
    write_family(folder, records, PUBLISHED, ABOUT)
    return folder


@pytest.fixture
def family(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "family")


def rehash(family: Path, member: int, name: str) -> None:
    """Makes family.json agree with a file that was changed, as a stranger would."""
    data = json.loads((family / "family.json").read_text())
    record = data["members"][member]
    content = (family / record["name"] / name).read_bytes()
    record["files"][name] = hashlib.sha256(content).hexdigest()
    (family / "family.json").write_text(json.dumps(data))


def test_every_format_is_there_and_puts_out_the_same(exported: Path) -> None:
    found = list(verify(load_family(exported), inputs))
    looked_at = {(check.member, check.what) for check in found if check.checked}
    formats = ("files", "cost", "torch", "timm", "program", "onnx")
    assert not list(exported.rglob("__pycache__"))
    assert looked_at == {(name, what) for name in ("b0", "b1") for what in formats}


def test_outputs_that_differ_are_named(family: Path) -> None:
    """Weights changed and hashed again: all that was made from the old ones is different."""
    from safetensors.torch import load, save

    path = family / "b0" / "model.safetensors"
    weights = load(path.read_bytes())
    weights["classifier.weight"] += 0.1
    path.write_bytes(save(weights, metadata={"format": "pt"}))
    rehash(family, 0, "model.safetensors")
    member = load_member(family / "b0")
    with pytest.raises(Untrusted, match=r"model\.pt2: differs from what this"):
        open_format(member, Format.PROGRAM)
    with pytest.raises(Different, match=r"model\.(pt2|onnx): outputs must match model.safetensors"):
        list(verify(load_family(family), inputs, trust=True))


@pytest.mark.parametrize(
    ("name", "format_"), [("model.py", Format.TORCH), ("timm_model.py", Format.TIMM)]
)
def test_a_strangers_code_is_not_run(
    family: Path, tmp_path: Path, name: str, format_: Format
) -> None:
    path, ran = family / "b0" / name, tmp_path / "ran"
    path.write_text(path.read_text() + f"\nPath({str(ran)!r}).touch()\n")
    rehash(family, 0, name)
    with pytest.raises(Untrusted, match=f"{name}: differs from what this"):
        open_format(load_member(family / "b0"), format_)
    checks = list(verify(load_family(family), inputs))
    (check,) = [check for check in checks if (check.member, check.what) == ("b0", format_)]
    assert not check.checked
    assert not ran.exists()
    open_format(load_member(family / "b0"), format_, trust=True)
    assert ran.exists()


def test_a_strangers_program_is_not_loaded(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = family / "b0" / "model.pt2"
    path.write_bytes(path.read_bytes() + b"\0")
    rehash(family, 0, "model.pt2")
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(Untrusted, match=r"model\.pt2: differs from what this"):
        open_format(load_member(family / "b0"), Format.PROGRAM)


def test_a_file_far_larger_than_the_network_is_not_read(family: Path) -> None:
    path = family / "b0" / "model.onnx"
    with path.open("r+b") as file:
        file.truncate(10**9)
    rehashed = json.loads((family / "family.json").read_text())
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    rehashed["members"][0]["files"]["model.onnx"] = sha256
    (family / "family.json").write_text(json.dumps(rehashed))
    with pytest.raises(InvalidInput, match=r"model\.onnx: must have at most \d+ bytes"):
        open_format(load_member(family / "b0"), Format.ONNX)


def test_a_member_is_read_by_its_own_folder(family: Path) -> None:
    (family / "b0" / "model.onnx").unlink()  # another's damage is none of its own
    assert load_member(family / "b1").name == "b1"
    with pytest.raises(InvalidInput, match="there is no 'b7'"):
        load_member(family / "b7")


def test_an_edited_card_stays_and_harms_nothing(family: Path) -> None:
    path = family / "b0" / "README.md"
    path.write_text(path.read_text().replace("their licence**: …", "their licence**: mine"))
    saved = load_family(family)
    write_family(family, [member.record for member in saved], saved.coefficients, ABOUT)
    assert "their licence**: mine" in path.read_text()
    path.unlink()
    write_family(family, [member.record for member in saved], saved.coefficients, ABOUT)
    assert "their licence**: …" in path.read_text()


def test_exporting_again_makes_only_what_is_missing(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scaling.formats import program

    member = load_member(family / "b0")
    before = {path.name: path.read_bytes() for path in member.folder.iterdir()}
    monkeypatch.setattr(program, "trace", lambda *_: pytest.fail("it was exported again"))
    record = export_again(member, EVERY - {Format.PROGRAM}, noise(12))
    assert record.files == member.record.files
    assert {path.name: path.read_bytes() for path in member.folder.iterdir()} == before


def test_what_eight_bits_lose_is_measured_and_said(family: Path) -> None:
    saved = load_family(family)
    member = saved["b0"]
    images = noise(12, 60).numpy()
    labels = open_format(member, Format.ONNX)(images).argmax(1)
    record = quantise(member, {Format.ONNX, Format.TORCH}, images[:32], images, labels)
    assert record.int8
    assert record.int8.keys() == {"onnx"}
    assert record.int8["onnx"].full_accuracy == 1
    assert 0.5 < record.int8["onnx"].accuracy <= 1
    assert record.int8["onnx"].images == 60
    write_family(family, [record, saved["b1"].record], saved.coefficients, ABOUT)
    assert "model.int8.onnx" in load_family(family)["b0"].record.files
    assert "points are lost" in (family / "b0" / "README.md").read_text()
    assert ("b0", "onnx int8") in {
        (each.member, each.what) for each in verify(load_family(family), inputs)
    }

    path = family / "b0" / "model.int8.onnx"
    path.write_bytes(other_classes((family / "b0" / "model.onnx").read_bytes()))
    rehash(family, 0, "model.int8.onnx")
    with pytest.raises(Different, match=r"model\.int8\.onnx: outputs must be close to"):
        list(verify(load_family(family), inputs))


class Toy:
    """A runtime whose files hold the weights in two parts; with 8 bits they are rounded."""

    EXTRA, PACKAGES = "litert", ("json",)
    FILES, INT8 = ("model.one", "model.two"), ("model.int8.one", "model.int8.two")

    def content(self, portable: Any, network: Any, calibration: Any = None) -> tuple[bytes, ...]:
        from safetensors.torch import save

        weights = dict(network.state_dict())
        if calibration is not None:
            assert calibration.shape[1:] == (3, 12, 12)
            weights["classifier.weight"] = (weights["classifier.weight"] * 64).round() / 64
        return json.dumps(portable.architecture.to_dict()).encode(), save(weights)

    def open_(self, files: tuple[bytes, ...]) -> Any:
        from safetensors.torch import load

        network = build(Architecture.from_dict(json.loads(files[0])))
        network.load_state_dict(load(files[1]))
        return predictor(network.eval())


def test_a_runtimes_files_are_written_measured_kept_and_run_where_they_are_trusted(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy()
    for names, given in ((FILES, toy.FILES), (INT8, toy.INT8), (RUNTIMES, toy)):
        monkeypatch.setitem(names, Format.LITERT, given)  # type: ignore[arg-type]
    member, images = load_family(family)["b0"], noise(12, 60).numpy()
    record = export_again(member, {Format.LITERT}, noise(12))
    assert record.files.keys() - member.record.files.keys() == {*toy.FILES}
    labels = open_format(member, Format.SAFETENSORS)(images).argmax(1)
    member = replace(member, record=record)
    record = quantise(member, {Format.LITERT, Format.TORCH}, images[:32], images, labels)
    assert record.int8
    assert record.int8.keys() == {"litert"}
    assert 0.5 < record.int8["litert"].accuracy <= record.int8["litert"].full_accuracy == 1
    others = [each.record for each in load_family(family) if each.name != "b0"]
    write_family(family, [record, *others], PUBLISHED, ABOUT)
    assert "With 8 bits (litert, static" in (family / "b0" / "README.md").read_text()

    def said(trust: bool) -> dict[str, bool]:
        checks = verify(load_family(family), inputs, trust=trust)
        return {each.what: each.checked for each in checks if "litert" in each.what}

    assert said(trust=True) == {"litert": True, "litert int8": True}
    assert said(trust=False) == {"litert": False, "litert int8": False}

    monkeypatch.setattr(Toy, "content", lambda *_: pytest.fail("it was written again"))
    again = export_again(load_family(family)["b0"], {Format.TORCH, Format.LITERT}, noise(12))
    assert (again.files, again.int8) == (record.files, record.int8)


def other_classes(data: bytes) -> bytes:
    """The ONNX model whose classifier says the opposite."""
    import onnx

    model = onnx.load_from_string(data)
    (weight,) = [each for each in model.graph.initializer if each.name == "classifier.weight"]
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
    found: bytes = model.SerializeToString()
    return found


def metadata(text: str) -> Any:
    import yaml

    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_card_says_what_is_known(exported: Path) -> None:
    text = (exported / "b1" / "README.md").read_text()
    found = metadata(text)
    assert found["pipeline_tag"] == "image-classification"
    (entry,) = found["model-index"]
    assert entry["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.75}]
    for part in (
        "**75.00%** accuracy of 20 test images",
        "| cat | 40 | 10 | 100.0% |",
        "| dog | 10 | 6 | 50.0% |",
        "dog is recognised worst (50.0% of 6 test images), cat best (100.0% of 10 test images): so "
        "few images do not show a difference between the two.",
        "4 times as many training images",
        "α = 1.2 (depth), β = 1.1 (width) and γ = 1.15",
        "accuracy · (macs / 8)^w",
        "Consent of the people shown",
        "resized to 16 × 16 pixels (bicubic), then to 14 × 14 (bilinear)",
    ):
        assert part in text, part
    code = [block.split("\n", 1)[1] for block in text.split("```")[1::2]]
    for block in code:
        compile(block, "README.md", "exec")
        lines = [line for line in block.splitlines() if line]
        assert len(lines) <= 7


def test_the_names_of_classes_and_data_cannot_break_the_card(exported: Path) -> None:
    text = (exported / "b0" / "README.md").read_text()
    assert "| &lt;b>\\|\\` \\# owl | 10 | 4 |  |" in text
    assert "`my\\|pets`" in text
    assert metadata(text)["model-index"][0]["results"][0]["dataset"]["name"] == "my|pets"


def test_nothing_in_a_start_breaks_the_card(family: Path) -> None:
    start = StartRecord("<b>", "a|b", "<img src=x>", "<i>")
    about = replace(ABOUT, origin=replace(ABOUT.origin, start=start))
    saved = load_family(family)
    write_family(family, [member.record for member in saved], saved.coefficients, about)
    text = (family / "b0" / "README.md").read_text()
    assert "the weights of &lt;b>: file a\\|b, SHA-256 &lt;img src=x>, licence &lt;i>." in text


def test_measured_latency_is_in_the_card(family: Path) -> None:
    (family / "latency.csv").write_text(
        "member,accuracy,backend,device,batch,threads,median_seconds,low_seconds,high_seconds,"
        "images_per_second\nb0,0.75,eager,cpu,1,2,0.002,0.0015,0.003,500\n"
    )
    saved = load_family(family)
    (family / "b0" / "README.md").unlink()
    write_family(family, [member.record for member in saved], saved.coefficients, ABOUT)
    text = (family / "b0" / "README.md").read_text()
    assert "| eager | cpu | 2 | 1 | 2 | 1.5 to 3 | 500 |" in text


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (0.0, 20, 0.0, 0.1611), (1.0, 20, 0.8389, 1.0)],
)
def test_intervals_are_wilsons(right: float, images: int, low: float, high: float) -> None:
    assert intervals.wilson(right, images) == pytest.approx((low, high), abs=1e-4)


def test_numbers_and_not_images_is_what_formats_are_given(exported: Path) -> None:
    logits = open_format(load_family(exported)["b0"], Format.ONNX)(noise(12, 7).numpy())
    assert logits.shape == (7, 3)
    assert logits.dtype == np.float32


def test_a_card_cannot_be_run(exported: Path, family: Path) -> None:
    run: Callable[..., Any] = open_format
    with pytest.raises(InvalidInput, match="cannot be run"):
        run(load_family(exported)["b0"], Format.CARD)
    with pytest.raises(InvalidInput, match=r"not listed in family\.json"):
        load_family(family)["b0"].read("other.bin")
