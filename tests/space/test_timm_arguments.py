"""timm's block strings: what timm builds from ours is the same network."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from space import choices, convert, presets
from space.architecture import Activation, Architecture, Gate, Head, Operator, Skip, Stage, Stem
from space.network import build
from space.timm_arguments import to_timm
from space.validation import InvalidInput


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


def test_block_strings_are_those_that_timm_publishes():
    """EfficientNet-B0's and MobileNetV3-small's, but for the e1 that timm's source writes of ds."""
    b0 = to_timm(presets.load("efficientnet_b0"))
    assert b0["arch_def"] == [
        ["ds_r1_k3_s1_c16_se0.25"],
        ["ir_r2_k3_s2_e6_c24_se0.25"],
        ["ir_r2_k5_s2_e6_c40_se0.25"],
        ["ir_r3_k3_s2_e6_c80_se0.25"],
        ["ir_r3_k5_s1_e6_c112_se0.25"],
        ["ir_r4_k5_s2_e6_c192_se0.25"],
        ["ir_r1_k3_s1_e6_c320_se0.25"],
    ]
    small = to_timm(presets.load("mobilenet_v3_small"))
    assert small["arch_def"] == [
        ["ds_r1_k3_s2_c16_se0.25_nre"],
        ["ir_r1_k3_s2_e4.5_c24_nre"],
        ["ir_r1_k3_s1_e3.66667_c24_nre"],
        ["ir_r1_k5_s2_e4_c40_se0.25"],
        ["ir_r2_k5_s1_e6_c40_se0.25"],
        ["ir_r2_k5_s1_e3_c48_se0.25"],
        ["ir_r3_k5_s2_e6_c96_se0.25"],
        ["cn_r1_k1_s1_c576"],
    ]
    assert (small["se_gate"], small["se_act_layer"]) == ("hard_sigmoid", "relu")
    assert (small["se_divisor"], small["se_from_exp"]) == (8, True)


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
            "stage 1: .* identity or none, not pool",
        ),
        (
            replace(_one_stage(), stages=(Stage(Operator.CONV, 32, stride=3),)),
            "stages: .* strides are 1 and 2",
        ),
        (
            replace(_one_stage(), stages=(Stage(Operator.CONV, 8, stride=2),) * 5),
            "stages: .* 32 at most, with 2 for the stem, but here to 64",
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


def test_activations_of_blocks_are_said_where_they_differ():
    stage = Stage(Operator.SEPARABLE, 16, activation=Activation.HARD_SWISH, skip=Skip.NONE)
    strings = to_timm(replace(_one_stage(), stages=(stage,)))["arch_def"]
    assert strings == [["ds_r1_k3_s1_c16_nhs_noskip"]]
