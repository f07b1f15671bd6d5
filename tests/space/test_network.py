"""Built networks: shapes, features, initial weights, what acts in training, and the key."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from space import presets
from space.architecture import (
    Architecture,
    Head,
    Numerics,
    Operator,
    Skip,
    Stage,
    Stem,
)
from space.blocks import PadSame, PoolShortcut, Residual
from space.network import build
from tests.space.strategies import ARCHITECTURES


def computation(architecture):
    """What a built network computes, in words, and not where one stage ends and another begins."""
    with torch.device("meta"):
        network = build(architecture)
    blocks = [repr(block) for stage in network.stages for block in stage]
    rest = [repr(part) for name, part in network.named_children() if name != "stages"]
    return architecture.resolution, blocks, rest


def changed(data, architecture):
    """The architecture with one thing in it drawn anew, or two equal stages made one."""
    other = data.draw(ARCHITECTURES)
    kind = data.draw(st.sampled_from(["whole", "stage", "merge", "split"]))
    stages = architecture.stages
    index = data.draw(st.integers(0, len(stages) - 1))
    if kind == "whole":
        name = data.draw(st.sampled_from(list(Architecture.__dataclass_fields__)))
        return replace(architecture, **{name: getattr(other, name)})
    if kind == "stage":
        name = data.draw(st.sampled_from(list(Stage.__dataclass_fields__)))
        stage = replace(stages[index], **{name: getattr(other.stages[0], name)})
    elif kind == "merge":
        stage = replace(stages[index], repeats=1 + stages[index].repeats)
    else:
        again = replace(stages[index], stride=1, repeats=1)
        return replace(architecture, stages=(*stages[: index + 1], again, *stages[index + 1 :]))
    return replace(architecture, stages=(*stages[:index], stage, *stages[index + 1 :]))


@given(st.data(), ARCHITECTURES)
@settings(max_examples=60, deadline=None)
def test_keys_are_equal_if_and_only_if_the_built_networks_are(data, architecture):
    one = changed(data, architecture)
    other = changed(data, architecture)
    for left, right in ((architecture, one), (architecture, other), (one, other)):
        assert (left.key == right.key) == (computation(left) == computation(right))


def strides(architecture):
    """The strides at which there are maps, the stem's before its pooling among them."""
    return sorted({architecture.stem.stride, *architecture.strides[1:]})


@given(ARCHITECTURES)
@settings(max_examples=40, deadline=None)
def test_any_architecture_runs_and_has_features(architecture):
    network = build(architecture).eval()
    for size in ((architecture.resolution, architecture.resolution), (19, 26)):
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            logits, maps = network(image), network.features(image)
        assert logits.shape == (2, architecture.num_classes)
        assert torch.isfinite(logits).all()
        for found, stride in zip(maps, strides(architecture), strict=True):
            expected = [math.ceil(side / stride) for side in size]
            assert found.shape[2:] == tuple(expected)


def test_features_of_b0_are_the_last_maps_at_each_stride():
    maps = build(presets.load("efficientnet_b0")).features(torch.zeros(1, 3, 64, 64))
    assert [(m.shape[1], 64 // m.shape[2]) for m in maps] == [
        *((16, 2), (24, 4), (40, 8), (112, 16), (320, 32))
    ]
    first = build(presets.load("resnet18")).features(torch.zeros(1, 3, 64, 64))[0]
    assert first.shape == (1, 64, 32, 32)


def test_features_and_logits_come_from_the_same_maps():
    network = build(presets.load("mobilenet_v3_small", num_classes=3)).eval()
    image = torch.randn(2, 3, 65, 65)
    with torch.no_grad():
        last = network.features(image)[-1]
        pooled = network.mean(network.head(last)).flatten(1)
        assert torch.equal(network.classifier(network.hidden(pooled)), network(image))


def test_channels_last_stays_and_changes_nothing():
    network = build(presets.load("efficientnet_b0", num_classes=3)).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        network = network.to(memory_format=torch.channels_last)
        image = image.to(memory_format=torch.channels_last)
        for found in network.features(image):
            assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-7)


def test_one_seed_gives_one_network():
    architecture = presets.load("mnasnet_small", num_classes=3)
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build(architecture).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["stem.conv.weight"], states[2]["stem.conv.weight"])


def test_initial_weights_are_the_official_ones():
    """Standard deviations within 5 standard errors, of a normal sample with that many weights."""
    torch.manual_seed(0)
    network = build(presets.load("mobilenet_v3_large", num_classes=100))
    seen = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
            count, std = module.weight.numel(), math.sqrt(2 / fan_out)
            assert module.weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * count))
            assert abs(module.weight.mean().item()) < 5 * std / math.sqrt(count)
            seen += module.groups > 1
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.out_features)
            assert 0.99 * bound < module.weight.abs().max().item() <= bound
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
        if getattr(module, "bias", None) is not None:
            assert not module.bias.any()
    assert seen == 15  # depthwise: fan-out k², where torchvision takes k² · channels


def test_stochastic_depth_rises_linearly_over_the_blocks():
    architecture = replace(presets.load("efficientnet_b1"), stochastic_depth=0.23)
    with torch.device("meta"):
        blocks = [
            module for module in build(architecture).modules() if isinstance(module, Residual)
        ]
    assert len(blocks) == 23
    for index, block in enumerate(blocks):
        assert block.drop.p == pytest.approx(0.23 * index / 23)


class _Doubled(Residual):
    """A block whose branch gives its input."""

    def forward(self, x):
        return self.join(x, x)


def test_stochastic_depth_drops_the_branch_of_whole_images_in_training_alone():
    torch.manual_seed(0)
    joined = Architecture(Stem(2), (Stage(Operator.CONV, 2),), Head(0)).blocks()[0][0]
    block, images = _Doubled(joined, Numerics()), torch.ones(4_000, 2, 1, 1)
    block.drop.p = 0.25
    assert torch.equal(block.eval()(images), 2 * images)
    out = block.train()(images)
    assert out.unique().tolist() == [1.0, pytest.approx(1 + 1 / 0.75)]
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean().item() == pytest.approx(2, abs=5 * math.sqrt(0.25 / 0.75 / 4_000))
    alone = _Doubled(joined._replace(shortcut=Skip.NONE), Numerics())
    alone.drop.p = 0.25
    assert torch.equal(alone.train()(images), images)


def test_same_padding_puts_the_odd_pixel_at_the_end():
    image = torch.ones(1, 1, 4, 5)
    padded = PadSame(kernel=3, stride=2)(image)
    assert padded.shape == (1, 1, 5, 7)
    assert padded[0, 0, :, 3].tolist() == [1, 1, 1, 1, 0]
    assert padded[0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_the_pool_shortcut_averages_windows_and_fits_channels():
    stage = Stage(Operator.CONV, 3, stride=2, skip=Skip.POOL)
    architecture = Architecture(Stem(2), (stage,), Head(0))
    wider = PoolShortcut(architecture.blocks()[0][0])
    x = torch.arange(18.0).reshape(1, 2, 3, 3)
    out = wider(x)
    assert out.shape == (1, 3, 2, 2)
    assert out[0, 0].tolist() == [[2.0, 3.5], [6.5, 8.0]]  # a corner's window holds one pixel
    assert not out[0, 2].any()

    narrower = replace(architecture, stages=(replace(stage, channels=1, stride=1),))
    assert torch.equal(PoolShortcut(narrower.blocks()[0][0])(x), x[:, :1])


def test_a_network_learns_and_its_gradients_reach_every_weight():
    torch.manual_seed(0)
    network = build(replace(presets.load("mnasnet_a1", num_classes=4), stochastic_depth=0.0))
    F.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
    assert all(weight.grad is not None for weight in network.parameters())
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
