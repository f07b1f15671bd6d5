"""`phiscale cost FILE.py:CLASS` counts a user's own module, and says what is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from space import presets
from space.cost import cost
from space.device import Precision, device_memory

OWN = """
import torch
from torch import nn

import beside


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, beside.CHANNELS, 3)
        self.linear = nn.Linear(beside.CHANNELS, 5)

    def forward(self, image):
        return self.linear(self.conv(image).mean((2, 3)))


class Attention(Net):
    def forward(self, image):
        features = self.conv(image).flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(features, features, features)


class Wide(Net):
    def __init__(self, width, depth=1):
        super().__init__()


class Broken(Net):
    def __init__(self):
        raise RuntimeError("no weights")


def ours():
    from space.network import build
    from space.presets import load

    return build(load("efficientnet_b0"))


def number():
    return 3


constant = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("CHANNELS = 4\n", "utf-8")
    path = tmp_path / "own.py"
    path.write_text(OWN, "utf-8")
    return path


def test_a_module_of_ones_own_is_counted_by_fvcore(phiscale, own):
    said = phiscale("cost", f"{own}:Net", "--resolution", "8", "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["macs"] == 6 * 6 * 4 * 9 + 4 * 5
    assert found["params"] == 4 * 9 + 4 + 4 * 5 + 5
    assert found["activations"] == 6 * 6 * 4
    assert [part["name"] for part in found["parts"]] == ["conv", "linear"]
    assert sum(part["cost"]["macs"] for part in found["parts"]) == found["macs"]
    assert found["closed_form"] is None


def test_the_closed_form_stands_beside_the_count_of_a_network_of_phiscale(phiscale, own):
    said = phiscale("cost", f"{own}:ours", "--resolution", "64", "--json")
    found = json.loads(said.out)
    expected = cost(presets.load("efficientnet_b0"), 64)._asdict()
    assert found["closed_form"] == expected
    assert expected.items() <= found.items()
    assert "closed form" in phiscale("cost", f"{own}:ours", "--resolution", "64").out


def test_the_memory_of_a_device_is_shown_with_the_layer_of_its_peak(phiscale):
    asked = ("cost", "mobilenet_v2", "--resolution", "96", "--memory", "int8")
    found = json.loads(phiscale(*asked, "--json").out)["device_memory_bytes"]
    expected = device_memory(presets.load("mobilenet_v2"), Precision.INT8, 96)
    assert found == {"precision": "int8", **expected._asdict(), "over_bounds": []}
    assert f"{expected.sram:,} bytes of SRAM (the most at {expected.peak})" in phiscale(*asked).out


def test_a_member_above_the_bounds_of_its_run_is_said(phiscale, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    recipe["objective"] |= {"bounds": {"sram": 1000}, "precision": "int8"}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    asked = ("cost", f"{run}:b0", "--json", "--memory")
    found = json.loads(phiscale(*asked, "int8").out)["device_memory_bytes"]
    clause = f"{found['sram']:,} bytes of SRAM, more than the 1,000 that objective.bounds allow"
    assert found["over_bounds"] == [clause]
    assert not json.loads(phiscale(*asked, "float32").out)["device_memory_bytes"]["over_bounds"]
    said = phiscale("cost", f"{run}:b0", "--memory", "int8").out
    assert clause in " ".join(said.split())


def test_what_fvcore_does_not_count_is_said(phiscale, own):
    said = phiscale("cost", f"{own}:Attention", "--resolution", "8")
    assert said.status == 0, said.err
    assert "does not count scaled_dot_product_attention: the MACs are too low" in said.out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py:Net", "nowhere.py: not found; give FILE.py:CLASS"),
        ("own.py:Nett", "own.py: classes: there is no 'Nett'; did you mean 'Net'?"),
        ("own.py:Wide", "own.py:Wide: needs arguments (width); add a function that returns"),
        ("own.py:Broken", "own.py:Broken: failed with RuntimeError: no weights"),
        ("own.py:number", "own.py:number: must give a torch.nn.Module, but gives 3"),
        ("own.py:constant", "own.py:constant: must be a class or a function, but is 3"),
        ("own.py:Net --resolution 1", "cannot process an image of 1 × 1 × 1"),
        ("own.py:Net --explain", "--explain: needs a network of phiscale"),
        ("own.py:Net --memory int8", "--memory: needs a network of phiscale"),
        ("beside.py:Net", "beside.py: defines no subclass of torch.nn.Module"),
        ("bad.py:Net", "bad.py: cannot be imported: ModuleNotFoundError: No module named 'nope'"),
        ("script.py:Net", "script.py: cannot be imported: it ends the program with sys.exit(0)"),
        ("script.py", "script.py: is a file, but a network is a preset"),
        ("folder", "folder: not a run, because it contains no recipe.yaml"),
    ],
)
def test_a_mistake_is_a_sentence_and_status_2(phiscale, own, name, message, monkeypatch):
    (own.parent / "bad.py").write_text("import nope\n", "utf-8")
    (own.parent / "script.py").write_text("import sys\nsys.exit(0)\n", "utf-8")
    (own.parent / "folder").mkdir()
    monkeypatch.chdir(own.parent)
    said = phiscale("cost", *name.split())
    assert said.status == 2
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
