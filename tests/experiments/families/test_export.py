"""What leaves home answers as what stays: images from files, in every format, by the commands."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from experiments import config
from experiments.cli import app
from experiments.data import decode
from experiments.families.preprocess import prepare, read
from experiments.training.augment import normalise, resize
from scaling.coefficients import PUBLISHED
from scaling.export import About, Trained, export_member, write_family
from scaling.family import family_at
from scaling.formats import run_code
from scaling.saved_family import Preprocessing, Quantised, SavedMember, load_family
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.network import build
from space.validation import InvalidInput
from tests.deep_images import png, tiff

BASELINE = Architecture(
    Stem(8, stride=1),
    (Stage(Operator.SEPARABLE, 8), Stage(Operator.INVERTED, 16, 2, 3, 2, 3.0)),
    Head(32),
    resolution=24,
    num_classes=4,
)
ABOUT = About(
    "pets",
    ("cat", "dog", "owl", "eel"),
    Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), stored=53),
)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, timm: object) -> Path:
    assert timm
    folder = tmp_path_factory.mktemp("away") / "family"
    (member,) = family_at(BASELINE, PUBLISHED, (0,)).members
    torch.manual_seed(0)
    network, images = build(member.architecture), torch.randn(8, 3, 24, 24)
    network(images * 2)
    network.classifier.weight.data.mul_(20)
    record = export_member(folder, member, network, Trained(0.5, 8, 1.0), ABOUT, images)
    write_family(folder, [record], PUBLISHED, ABOUT)
    return folder


@pytest.fixture(scope="module")
def member(family: Path) -> SavedMember:
    return load_family(family)["b0"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, and drawings of every kind that a camera or a program writes."""
    import sklearn.datasets

    folder = tmp_path_factory.mktemp("pictures")
    photographs = Path(sklearn.datasets.__file__).parent / "images"
    photograph = Image.open(photographs / "china.jpg")
    photograph.save(folder / "a.png")
    (folder / "b.jpg").write_bytes((photographs / "flower.jpg").read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    photograph.resize((300, 101)).save(folder / "c.jpg", exif=exif)
    photograph.convert("L").crop((0, 0, 31, 90)).save(folder / "d.png")
    faint = photograph.convert("RGBA")
    faint.putalpha(Image.linear_gradient("L").resize(faint.size))
    faint.save(folder / "e.png")
    photograph.convert("P").save(folder / "f.png", transparency=3)
    sixteen = (np.asarray(photograph.convert("L")).astype(np.uint16) * 257 + 77).clip(0, 65535)
    Image.fromarray(sixteen).save(folder / "g.png")
    photograph.convert("CMYK").save(folder / "h.jpg")
    photograph.resize((53, 53)).save(folder / "i.png")
    deep = np.asarray(faint.resize((80, 60))).astype(np.uint16) * 256 + 200
    for name, channels in (("j", [0, 3]), ("k", [0, 1, 2]), ("l", [0, 1, 2, 3])):
        (folder / f"{name}.png").write_bytes(png(deep[..., channels]))
    (folder / "m.tif").write_bytes(tiff(deep[..., :3], "<"))
    (folder / "n.tif").write_bytes(tiff(deep, ">", deflate=True))
    return folder


def test_exported_code_prepares_every_kind_of_image_as_phiscale_does(member, pictures, tmp_path):
    path = member.folder / "preprocess.py"
    code = run_code(member.read(path.name), path, "exported")
    for path in sorted(pictures.iterdir()):
        expected, given = read(path, member.portable), code.preprocess(path)
        assert np.abs(given[0] - expected).max() < 1e-5, path.name
        assert given.flags.c_contiguous  # ExecuTorch ignores how an array lies in memory
    Image.new("F", (30, 30)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((30, 30), 1 << 16, np.int32)).save(tmp_path / "more.tif")
    (tmp_path / "planes.tif").write_bytes(tiff(np.zeros((9, 9, 3), np.uint16), planar=2))
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=r"floating-point|16 bits"):
            code.preprocess(path)
        with pytest.raises(InvalidInput, match=r"floating-point|16 bits|16-bit"):
            read(path, member.portable)


def test_images_are_prepared_as_a_training_prepares_them(member, pictures):
    """But for torch's own bilinear filter, which rounds differently here and there."""
    for path in sorted(pictures.iterdir()):
        stored = decode.fit(decode.decode(path.read_bytes(), 3), 53)
        pixels = resize(torch.from_numpy(stored.copy())[None], 24).permute(0, 3, 1, 2)
        step = np.abs(normalise(pixels)[0].numpy() - prepare(stored, member.portable)).max()
        assert step < 1.01 / 255 / 0.224


def answers(*arguments: object) -> Any:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_format_gives_the_same_answer(family, pictures):
    expected = answers(family / "b0", pictures, "--top", 4)
    assert len(expected) == 14
    assert len({image["top"][0]["class"] for image in expected}) > 1
    for name in ("torch", "onnx", "program", "timm"):
        for one, other in zip(
            expected, answers(family / "b0", pictures, "--top", 4, "--format", name), strict=True
        ):
            assert one["image"] == other["image"]
            odds = [
                {top["class"]: top["probability"] for top in each["top"]} for each in (one, other)
            ]
            assert odds[0] == pytest.approx(odds[1], abs=1e-4)


def test_the_cards_code_gives_the_same_answer(family, pictures, tmp_path):
    """Every snippet but timm's and phiscale's own, in a folder with the files and one image."""
    folder = shutil.copytree(family / "b0", tmp_path / "b0")
    shutil.copy(pictures / "k.png", folder / "image.png")
    (answer,) = answers(family / "b0", pictures / "k.png")
    blocks = (folder / "README.md").read_text().split("```python\n")[1:]
    scripts = [block.split("```")[0] for block in blocks]
    scripts = [each for each in scripts if "scaling" not in each and "timm" not in each]
    assert len(scripts) == 3
    for script in scripts:
        command = [sys.executable, "-W", "ignore", "-c", script, "image.png"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.stdout.split()[-1:] == [answer["top"][0]["class"]], script + done.stderr
    command = [sys.executable, "model.py", "image.png"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert "{class} {probability:.1%}".format(**answer["top"][0]) in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["b0", "nowhere.png"], "no such file or folder"),
        (["b9", "a.png"], "there is no 'b9'"),
        (["b0", "a.png", "--format", "onxx"], "did you mean 'onnx'"),
    ],
)
def test_what_cannot_be_predicted_is_said(
    family, pictures, monkeypatch, arguments, message, tmp_path
):
    place = shutil.copytree(family, tmp_path / "family")
    shutil.copy(pictures / "a.png", place)
    monkeypatch.chdir(place)
    done = CliRunner().invoke(app, ["predict", *arguments])
    assert done.exit_code != 0
    assert message in str(done.exception)


@pytest.fixture
def run(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the run `pets` has the family."""
    shutil.copytree(family, tmp_path / "runs" / "pets" / "family")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "pets"


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.parametrize("name", ["pets", "pets:b0", "runs/pets", "runs/pets/family/b0"])
def test_a_runs_name_means_its_trained_members_in_every_command(run, pictures, family, name):
    before = load_family(family)["b0"].record.files["model.safetensors"]
    done = invoke("export", name, "--to", "onnx", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["folder"].endswith("runs/pets/family")
    assert load_family(run / "family")["b0"].record.files["model.safetensors"] == before
    assert answers(name, pictures / "a.png") == answers(family / "b0", pictures / "a.png")
    assert invoke("verify", name).exit_code == 0


@pytest.mark.usefixtures("run")
def test_a_member_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    assert "did you mean 'b0'" in str(invoke("predict", "pets:b1", "x.png").exception)
    record = SimpleNamespace(members=[SimpleNamespace(name="b0"), SimpleNamespace(name="b1")])
    monkeypatch.setattr("experiments.runs.resolve.load_record", lambda _: record)
    assert "give one of its members (b0, b1)" in str(invoke("predict", "pets", "x.png").exception)


def test_random_weights_are_exported_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("export", "mobilenet_v3_small", "--to", "torch")
    assert "has no trained weights" in str(done.exception)
    assert not (tmp_path / "exported").exists()
    assert invoke("export", "mobilenet_v3_small", "--to", "torch", "--untrained").exit_code == 0
    assert (tmp_path / "exported" / "mobilenet_v3_small" / "family.json").is_file()


def test_images_that_cannot_be_read_are_named_and_the_others_predicted(family, tmp_path, pictures):
    for name in ("._a.png", ".ipynb_checkpoints/a.png", "sub/a.png", "broken.png", "float.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    shutil.copy(pictures / "a.png", tmp_path / "sub" / "a.png")
    Image.new("F", (30, 30)).save(tmp_path / "float.tif")
    done = invoke("predict", family / "b0", tmp_path, "--json")
    assert done.exit_code == 1
    found = {Path(each["image"]).name: each for each in json.loads(done.stdout)}
    assert found.keys() == {"a.png", "broken.png", "float.tif"}
    assert found["a.png"]["top"]
    assert "not an image of a known format" in found["broken.png"]["error"]
    assert "floating-point" in found["float.tif"]["error"]
    strange = tmp_path / "strange\x1b[2J.png"
    shutil.copy(pictures / "a.png", strange)
    said = invoke("predict", family / "b0", strange)
    assert said.exit_code == 0
    assert "strange�[2J.png   " in said.stdout


def test_verify_ends_with_the_first_difference(family, tmp_path):
    done = CliRunner().invoke(app, ["verify", str(family), "--json"])
    assert done.exit_code == 0, done.output
    what = {check["what"] for check in json.loads(done.stdout) if check["checked"]}
    assert what == {"files", "cost", "torch", "timm", "program", "onnx"}
    place = shutil.copytree(family, tmp_path / "family")
    (place / "b0" / "model.onnx").write_bytes(b"damaged")
    done = CliRunner().invoke(app, ["verify", str(place)])
    assert done.exit_code == 1


def test_one_architecture_is_exported_with_its_weights(family, tmp_path):
    source = str(family / "b0" / "architecture.json")
    out = tmp_path / "out"
    arguments = ["export", source, "--out", str(out), "--to", "torch,card"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    member = load_family(out)["b0"]
    before = load_family(family)["b0"].record.files["model.safetensors"]
    assert member.record.files["model.safetensors"] == before
    assert member.accuracy is None
    assert "These weights were not evaluated" in (out / "b0" / "README.md").read_text()
    assert "model.onnx" not in member.record.files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet18", "--int8"], "--int8: needs a run"),
        (["resnet18", "--to", "onx"], "did you mean 'onnx'"),
        (["resnet18", "--to", "litert"], "pip install '.[litert]'"),
        (["resnet18", "--to", "openvino"], "pip install '.[openvino]'"),
        (["resnet18", "--to", "executorch"], "pip install '.[executorch]'"),
        (["resnet18", "--to", "coreml"], "pip install '.[coreml]'"),
        (["resnet18", "--to", "coreml,torch", "--int8"], "--to must name one of"),
        (["resnet17"], "resnet1"),
    ],
)
def test_what_cannot_be_exported_is_said(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", *arguments])
    assert done.exit_code != 0
    assert message in str(done.exception)


def test_a_family_away_from_its_run_cannot_be_quantised(family):
    done = CliRunner().invoke(app, ["export", str(family), "--int8"])
    assert "is not in a run" in str(done.exception)


def test_a_microcontroller_file_beyond_the_bounds_of_its_run_is_named(member, tmp_path):
    from experiments.families.export import _over_bounds

    run = tmp_path / "run"
    shutil.copytree(member.folder.parent, run / "family")
    recipe = config.load("demo", ["objective.bounds={sram: 100K, flash: 1M}"])
    (run / "recipe.yaml").write_text(config.dump(recipe))
    (run / "family" / "b0" / "model.int8.tflite").write_bytes(bytes(2_000_000))

    def said(arena: int | None) -> list[str]:
        found = {"litert": Quantised(0.5, 0.5, 8, arena)}
        record = replace(member.record, int8=found)
        return _over_bounds(replace(member, folder=run / "family" / "b0", record=record))

    (sram, flash) = said(100_001)
    assert sram == "100,001 bytes of SRAM, more than the 100,000 that objective.bounds allow"
    assert flash.startswith("2,000,000 bytes of flash")
    assert said(100_000) == [flash]
    assert said(None) == []
