"""The closed-form cost against counts made elsewhere."""

import csv
import json
import tarfile
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from space import choices, convert, presets
from space.architecture import Activation, Numerics, Operator, SqueezeExcite, Stage
from space.blocks import BLOCKS
from space.cost import cost, parts
from space.cost_table import SumTable, tabulate
from space.device import Precision, device_memory
from space.explain import explain
from space.module_cost import module_cost
from space.network import build

#: A published network of another library for each preset that one has.
WITNESSES = {
    convert.source(name).preset: name
    for name in reversed(convert.sources())
    if name.startswith(("torchvision/", "timm/"))
}


def test_every_preset_has_a_witness():
    assert set(WITNESSES) == set(presets.names())


@pytest.mark.parametrize("name", presets.names())
def test_cost_is_what_another_implementation_counts(name, witness, count):
    architecture, module = presets.load(name), witness(WITNESSES[name])
    for resolution in (architecture.resolution, 32, 97, 225, 290):
        assert cost(architecture, resolution) == count(module, (1, 3, resolution, resolution))


@pytest.mark.parametrize("table", ["costs.csv", "efficientnet.csv"])
def test_cost_equals_the_reference_tables(shared, table):
    by_source = {source.split("/")[1]: source for source in convert.sources()}
    rows = list(csv.DictReader((shared / "reference" / table).read_text("utf-8").splitlines()))
    assert rows
    for row in rows:
        name = row["model"] if row["model"] != "mnasnet_a1" else "semnasnet_100"
        architecture = presets.load(convert.source(by_source[name]).preset)
        found = cost(architecture)
        assert architecture.resolution == int(row["resolution"])
        assert (found.macs, found.params) == (int(row["macs"]), int(row["params"])), name
        assert found.activations == int(row.get("conv_activations", found.activations)), name


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "efficientnet_v2_b0", "mobilenet_v3_small", "resnet18"]
)
def test_fvcore_is_a_second_witness(name):
    architecture = presets.load(name)
    assert module_cost(build(architecture), 75).total == cost(architecture, 75)


@cache
def _count_block(block, side, count):
    with torch.device("meta"):
        module = BLOCKS[block.operator](block, Numerics())
    return count(module, (1, block.in_channels, side, side))


def _count_stages(architecture, count):
    """The stages counted block by block, since random architectures share many blocks."""
    side, total = parts(architecture)[0].resolution, np.zeros(3, int)
    for stage in architecture.blocks():
        for block in stage:
            # Activations are no part of what is counted, and spaces differ in them.
            total += _count_block(block._replace(activation=Activation.RELU), side, count)
            side = -(-side // block.stride)
    return total.tolist()


@pytest.mark.parametrize("name", choices.names())
def test_random_architectures_of_a_space_cost_what_hooks_count(name, count):
    space = choices.load(name).adapted(num_classes=7, resolution=33)
    table = tabulate(space)
    indices = np.random.default_rng(0).integers(0, table.sizes, (300, len(table.names)))
    for number, (row, found) in enumerate(zip(indices, table(indices).tolist(), strict=True)):
        chosen = zip(space.choices.items(), row, strict=True)
        architecture = space.decode({key: values[index] for (key, values), index in chosen})
        assert list(cost(architecture)) == found
        stages = [part.cost for part in parts(architecture)[1:-1]]
        assert np.sum(stages, axis=0).tolist() == _count_stages(architecture, count)
        if number < 5:
            with torch.device("meta"):
                module = build(architecture)
            assert cost(architecture) == count(module, (1, 3, 33, 33))


def test_a_table_of_costs_refuses_what_is_no_choice():
    table = tabulate(choices.load("mnasnet"))
    rows = np.zeros((2, len(table.names)), int)
    with pytest.raises(ValueError, match=r"shape \(N, 42\) are needed, but got \(2, 41\)"):
        table(rows[:, 1:])
    rows[1, 3] = table.sizes[3]
    with pytest.raises(ValueError, match="index < number"):
        table(rows)


@pytest.mark.parametrize("name", ["mnasnet_small", "accel_nasbench", "efficientnet_v2"])
@pytest.mark.parametrize("resolutions", [(), (33, 24, 48)], ids=str)
def test_a_table_of_a_sum_over_stages_gives_what_each_network_has(name, resolutions):
    space = choices.load(name)
    if resolutions:
        space = replace(space, choices={"resolution": resolutions, **space.choices})
    table = tabulate(space)
    rows = np.random.default_rng(0).integers(0, table.sizes, (300, len(table.names)))
    for place in range(3):
        of_rows = SumTable(space, table, lambda network, place=place: cost(network)[place])(rows)
        assert of_rows.tolist() == table(rows)[:, place].tolist()


def test_networks_of_a_space_with_several_resolutions_cost_what_they_cost_alone():
    space = choices.load("mnasnet_small").adapted(num_classes=7, in_channels=1)
    space = replace(space, choices={**space.choices, "resolution": (33, 24, 48)})
    table = tabulate(space, precision=Precision.FLOAT32)
    rows = np.random.default_rng(0).integers(0, table.sizes, (300, len(table.names)))
    found = zip(rows, table(rows).tolist(), table.device(rows).tolist(), strict=True)
    for row, counts, device in found:
        chosen = zip(space.choices.items(), row, strict=True)
        network = space.decode({key: values[index] for (key, values), index in chosen})
        assert network.resolution in (24, 33, 48)
        assert list(cost(network)) == counts
        assert list(device_memory(network, Precision.FLOAT32)[:2]) == device


def test_parts_sum_to_the_cost():
    for name in presets.names():
        architecture = presets.load(name)
        whole = np.sum([part.cost for part in parts(architecture, 97)], axis=0)
        assert tuple(whole.tolist()) == cost(architecture, 97)


@pytest.mark.parametrize("classes", [2, 10, 1_000, 21_000])
def test_classes_cost_their_rows_of_the_classifier(classes):
    b0 = presets.load("efficientnet_b0", classes)
    without = cost(presets.load("efficientnet_b0", 1))
    assert cost(b0).macs == without.macs + 1_280 * (classes - 1)
    assert cost(b0).params == without.params + 1_281 * (classes - 1)


def test_a_stage_that_is_merged_with_its_like_costs_the_same():
    b0 = presets.load("efficientnet_b0")
    first, *rest = b0.stages
    split = replace(b0, stages=(first, first, *rest))
    merged = replace(b0, stages=(replace(first, repeats=2), *rest))
    assert cost(split) == cost(merged)


def test_a_resolution_below_one_is_refused():
    with pytest.raises(ValueError, match="resolution >= 1"):
        cost(presets.load("resnet18"), 0)


def _accel_nasbench(record):
    """EfficientNet-B0 with a record's choices (see the data's README)."""
    b0 = presets.load("efficientnet_b0")
    stages = [
        Stage(
            Operator.INVERTED,
            stage.channels,
            record[f"block{i}_l"],
            record[f"block{i}_k"],
            stage.stride,
            record[f"block{i}_e"],
            SqueezeExcite() if record[f"block{i}_se"] else None,
        )
        for i, stage in enumerate(b0.stages)
    ]
    return replace(b0, stages=tuple(stages))


def test_costs_of_accel_nasbench_are_reproduced(shared):
    """Parameters as they are; MACs in the convention of the data, which is thop's."""
    with tarfile.open(shared / "data/accel_nasbench/anb_dataset_jsons.tar.gz") as archive:
        members = [archive.extractfile(member) for member in archive if member.isfile()]
        records = [json.load(member) for member in members]
    assert len(records) == 5_138
    for record in records:
        architecture = _accel_nasbench(record["architecture"])
        assert cost(architecture).params == round(record["model_info"]["params"] * 1e6)
        thop = next(row for row in explain(architecture) if row.tool == "thop")
        assert thop.total == round(record["model_info"]["macs"] * 1e6)
