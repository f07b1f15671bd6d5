"""timm's block strings: what timm builds from ours is the same network, and back again."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from space import choices, convert, presets
from space.architecture import Activation, Architecture, Gate, Head, Operator, Skip, Stage, Stem
from space.network import build
from space.timm_arguments import from_timm, to_timm
from space.validation import InvalidInput

MOBILE = [name for name in presets.names() if "resnet" not in name]


def sampled(name, count):
    space = choices.load(name)
    generator = np.random.default_rng(0)
    for _ in range(count):
        chosen = {key: generator.choice(values) for key, values in space.choices.items()}
        yield space.decode({key: value.item() for key, value in chosen.items()})


def expressible(architecture):
    """The nearest architecture that timm has words for: without pooled shortcuts."""
    stages = [
        replace(stage, skip=Skip.IDENTITY) if stage.skip is Skip.POOL else stage
        for stage in architecture.stages
    ]
    return replace(architecture, stages=tuple(stages))


def moved_to_timm(architecture, state):
    names = convert.timm_layout(architecture)
    found = {}
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        is_convolution = module == "hidden.linear" and kind == "weight"
        found[f"{names[module]}.{kind}"] = tensor[:, :, None, None] if is_convolution else tensor
    return found


def built_by_timm(data):
    from timm.layers.create_act import get_act_layer
    from timm.models import _efficientnet_builder as builder
    from timm.models import efficientnet, mobilenetv3
    from timm.models._efficientnet_blocks import SqueezeExcite

    own = {}
    if data["model"] == "MobileNetV3":
        own = {"se_from_exp": data["se_from_exp"], "head_norm": data["head_norm"]}
        own["head_bias"] = not data["head_norm"]
    given = ("stem_size", "num_features", "in_chans", "num_classes", "pad_type")
    given += ("drop_rate", "drop_path_rate")
    module = getattr({"EfficientNet": efficientnet}.get(data["model"], mobilenetv3), data["model"])(
        block_args=builder.decode_arch_def(data["arch_def"]),
        round_chs_fn=partial(builder.round_channels, multiplier=0),  # channels stay as they are
        act_layer=get_act_layer(data["act_layer"]),
        norm_layer=partial(nn.BatchNorm2d, eps=data["bn_eps"], momentum=data["bn_momentum"]),
        se_layer=partial(
            SqueezeExcite,
            gate_layer=data["se_gate"],
            force_act_layer=data["se_act_layer"] and get_act_layer(data["se_act_layer"]),
            rd_round_fn=builder.round_channels if data["se_divisor"] == 8 else None,
        ),
        **{name: data[name] for name in given},
        **own,
    )
    module.conv_stem.stride = (data["stem_stride"],) * 2
    return module


def assert_timm_builds_the_same(architecture, calibrated):
    with torch.device("meta"):
        network = build(architecture)
    network = calibrated(network)
    module = built_by_timm(to_timm(architecture))
    module.load_state_dict(moved_to_timm(architecture, network.state_dict()))
    image = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = network(image), module.eval()(image)
    assert expected.std() > 0.05
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    theirs = [block for stage in module.blocks for block in stage if block.has_skip]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in theirs]
    ours = [block for stage in network.stages for block in stage if block.shortcut is not None]
    assert rates == pytest.approx([block.drop.p for block in ours])
    assert sum(p.numel() for p in module.parameters()) == sum(
        p.numel() for p in network.parameters()
    )


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0",
        "efficientnet_v2_b0",
        "mobilenet_v1",
        "mobilenet_v3_large",
        "mobilenet_v4_conv_small",
        "mnasnet_small",
    ],
)
@pytest.mark.usefixtures("witness")
def test_timm_builds_the_preset(name, calibrated):
    assert_timm_builds_the_same(presets.load(name, num_classes=10), calibrated)


@pytest.mark.parametrize("name", choices.names())
@pytest.mark.usefixtures("witness")
def test_timm_builds_random_architectures_of_a_space(name, calibrated):
    space = choices.load(name)
    for architecture in sampled(name, 4):
        architecture = expressible(replace(architecture, num_classes=10))
        assert_timm_builds_the_same(architecture, calibrated)
    assert space.size > 4


@pytest.mark.parametrize("name", MOBILE)
def test_a_preset_comes_back_from_timm_arguments(name):
    architecture = presets.load(name)
    data = json.loads(json.dumps(to_timm(architecture)))
    assert from_timm(data).key == architecture.key


@pytest.mark.parametrize("name", choices.names())
def test_random_architectures_come_back_from_timm_arguments(name):
    for architecture in sampled(name, 100):
        architecture = expressible(architecture)
        assert from_timm(to_timm(architecture)).key == architecture.key


def test_published_tables_of_block_strings_are_read():
    """EfficientNet-B0's and MobileNetV3-small's, as timm's source has them."""
    b0 = {
        "model": "EfficientNet",
        "arch_def": [
            ["ds_r1_k3_s1_e1_c16_se0.25"],
            ["ir_r2_k3_s2_e6_c24_se0.25"],
            ["ir_r2_k5_s2_e6_c40_se0.25"],
            ["ir_r3_k3_s2_e6_c80_se0.25"],
            ["ir_r3_k5_s1_e6_c112_se0.25"],
            ["ir_r4_k5_s2_e6_c192_se0.25"],
            ["ir_r1_k3_s1_e6_c320_se0.25"],
        ],
        "stem_size": 32,
        "num_features": 1280,
        "act_layer": "silu",
        "drop_rate": 0.2,
        "drop_path_rate": 0.2,
    }
    assert from_timm(b0).key == presets.load("efficientnet_b0").key

    small = {
        "model": "MobileNetV3",
        "arch_def": [
            ["ds_r1_k3_s2_e1_c16_se0.25_nre"],
            ["ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"],
            ["ir_r1_k5_s2_e4_c40_se0.25", "ir_r2_k5_s1_e6_c40_se0.25"],
            ["ir_r2_k5_s1_e3_c48_se0.25"],
            ["ir_r3_k5_s2_e6_c96_se0.25"],
            ["cn_r1_k1_s1_c576"],
        ],
        "stem_size": 16,
        "num_features": 1024,
        "act_layer": "hard_swish",
        "bn_eps": 1e-3,
        "bn_momentum": 0.01,
        "drop_rate": 0.2,
        "se_gate": "hard_sigmoid",
        "se_act_layer": "relu",
        "se_divisor": 8,
        "se_from_exp": True,
    }
    assert from_timm(small).key == presets.load("mobilenet_v3_small").key


def _one_stage(**changes):
    return Architecture(Stem(16), (Stage(Operator.INVERTED, 16, expansion=4),), Head(32), **changes)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        (
            presets.load("resnet18"),
            "stem: .* a 3×3 convolution of stride 1 or 2, without pooling",
        ),
        (replace(_one_stage(), stem=Stem(16, stride=3)), "stem: .* stride 1 or 2"),
        (
            replace(_one_stage(), stages=(Stage(Operator.BASIC, 16),)),
            "stage 1: .* no operator basic",
        ),
        (
            replace(_one_stage(), stages=(Stage(Operator.CONV, 32, skip=Skip.POOL),)),
            "stage 1: .* but here pool",
        ),
        (
            replace(_one_stage(), stages=(Stage(Operator.CONV, 32, stride=3),)),
            "stages: .* strides are 1 and 2",
        ),
        (
            replace(_one_stage(), stages=(Stage(Operator.CONV, 8, stride=2),) * 5),
            "stages: .* 32 at most, but here to 64",
        ),
        (
            replace(
                _one_stage(), stages=(Stage(Operator.INVERTED, 16, expansion=4, linear=False),)
            ),
            "stage 1: .* activation after the projection",
        ),
    ],
)
def test_what_timm_cannot_express_is_refused(architecture, reason):
    with pytest.raises(InvalidInput, match=reason):
        to_timm(architecture)


def test_squeeze_excites_that_differ_are_refused():
    b0, v3 = presets.load("efficientnet_b0"), presets.load("mobilenet_v3_small")
    mixed = replace(b0, stages=(*b0.stages, replace(v3.stages[-1], stride=1)))
    assert {stage.se.gate for stage in mixed.stages} == set(Gate)
    with pytest.raises(InvalidInput, match="one gate and one activation for all"):
        to_timm(mixed)


@pytest.mark.parametrize(
    ("string", "reason"),
    [
        ("mqa_r1_k3_h4_s1_d64_c16", "mqa_r1_k3_h4_s1_d64_c16: a block string is written"),
        ("ir_r1_k3_s1_c16_e4", "a block string is written"),
        ("ir_r1_k3_s1_e1_c16", "timm builds an expand convolution at expansion 1"),
    ],
)
def test_a_block_string_that_we_have_no_operator_for_is_refused(string, reason):
    data = to_timm(_one_stage()) | {"arch_def": [[string]]}
    with pytest.raises(InvalidInput, match=reason):
        from_timm(data)


def test_unknown_arguments_are_refused_with_the_nearest():
    data = to_timm(_one_stage()) | {"stem_sise": 3}
    with pytest.raises(InvalidInput, match="stem_sise: unknown key; did you mean 'stem_size'"):
        from_timm(data)


def test_activations_of_blocks_are_said_where_they_differ():
    stage = Stage(Operator.SEPARABLE, 16, activation=Activation.HARD_SWISH, skip=Skip.NONE)
    strings = to_timm(replace(_one_stage(), stages=(stage,)))["arch_def"]
    assert strings == [["ds_r1_k3_s1_c16_nhs_noskip"]]
