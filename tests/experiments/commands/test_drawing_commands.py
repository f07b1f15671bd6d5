"""Networks are drawn and compared by what they are and cost."""

import json

import pytest

from space import presets
from space.cost import cost


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_drawn_within_80_columns(name, phiscale):
    said = phiscale("show", name)
    lines = said.out.splitlines()
    assert said.status == 0
    assert len(lines) == 3 + len(presets.load(name).stages) + 2
    assert max(map(len, lines)) <= 80
    shares = [int(line.split()[-1].rstrip("%")) for line in lines[3:]]
    assert 90 <= sum(shares) <= 110


def test_a_drawing_says_what_each_stage_is(phiscale):
    lines = phiscale("show", "efficientnet_b0").out.splitlines()
    (sixth,) = [line for line in lines if line.startswith("stage 6")]
    assert "7  192 4 × inverted 5×5 e6 /2 se" in sixth
    assert "448 pixels" in phiscale("show", "efficientnet_b0", "--resolution", "448").out


def test_json_has_the_architecture_and_exact_costs(phiscale):
    network = presets.load("mobilenet_v2")
    assert "universal 5×5+5×5 e3 /2" in phiscale("show", "mobilenet_v4_conv_small").out
    found = json.loads(phiscale("show", "mobilenet_v2", "--json").out)
    assert found["architecture"] == network.to_dict()
    assert found["cost"] == cost(network)._asdict()
    assert sum(part["cost"]["params"] for part in found["parts"]) == cost(network).params


def test_two_networks_stand_side_by_side(phiscale):
    lines = phiscale("compare", "efficientnet_b0", "mobilenet_v3_large").out.splitlines()
    assert "386M" in lines[-1]
    assert lines[-1].startswith("total")
    assert sum(line.startswith("stage") for line in lines) == max(
        len(presets.load(name).stages) for name in ("efficientnet_b0", "mobilenet_v3_large")
    )
    one, other = json.loads(phiscale("compare", "resnet18", "resnet34", "--json").out)
    assert other["cost"]["macs"] > one["cost"]["macs"]


def test_networks_of_a_run_are_named_by_it(phiscale, tiny_run):
    baseline = json.loads((tiny_run / "baseline.json").read_text("utf-8"))
    for name, key in ((f"{tiny_run}", baseline["key"]), (f"{tiny_run}:baseline", baseline["key"])):
        assert json.loads(phiscale("show", name, "--json").out)["key"] == key
    members = json.loads((tiny_run / "family" / "family.json").read_text("utf-8"))["members"]
    for member in members:
        shown = json.loads(phiscale("show", f"{tiny_run}:{member['name']}", "--json").out)
        assert (shown["cost"], shown["resolution"]) == (member["cost"], member["resolution"])
    assert phiscale("cost", f"{tiny_run}:trial-0", "--json").status == 0
    assert phiscale("compare", f"{tiny_run}:b0", f"{tiny_run}:b1").status == 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mobilenet_v4", "did you mean 'mobilenet_v2'?"),
        ("nowhere.json", "nowhere.json: not found"),
        ("{run}:trail-0", "did you mean 'trial-0'?"),
    ],
)
def test_a_wrong_name_is_corrected(name, hint, phiscale, tiny_run):
    said = phiscale("show", name.format(run=tiny_run))
    assert said.status == 2
    assert hint in said.err
