import numpy as np
import pytest
import torch

from experiments.families.cam import activation_maps
from space import presets
from space.network import build


@pytest.fixture
def images():
    return torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def test_the_mean_of_a_map_and_the_bias_are_the_logit(images):
    network = build(presets.load("mobilenet_v2", num_classes=5)).eval()
    torch.nn.init.normal_(network.classifier.bias)
    labels = torch.tensor([0, 4, 2])
    maps = activation_maps(network, images, labels)
    logits = network(images).gather(1, labels[:, None])[:, 0]
    assert maps.shape == (3, 7, 7)
    found = maps.mean((1, 2)) + network.classifier.bias[labels].detach().numpy()
    np.testing.assert_allclose(found, logits.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_behind_a_hidden_layer_a_map_foretells_small_changes_of_the_logit(images):
    network = build(presets.load("mobilenet_v3_small", num_classes=5)).eval().double()
    images, labels = images.double(), torch.tensor([1, 3, 3])

    def logits(gain):
        features = network.head(network.features(images)[-1]) * gain
        hidden = network.hidden(features.mean((2, 3)))
        return network.classifier(hidden).gather(1, labels[:, None])[:, 0]

    with torch.no_grad():
        slope = (logits(1 + 1e-6) - logits(1 - 1e-6)) / 2e-6
    maps = activation_maps(network, images, labels)
    np.testing.assert_allclose(maps.mean((1, 2)), slope.numpy(), rtol=1e-4)


@pytest.mark.parametrize(("pixels", "side"), [(224, 7), (128, 8), (64, 8), (24, 12), (8, 4)])
def test_a_map_has_seven_places_a_side_where_the_network_has_such_maps(images, pixels, side):
    for name in ("mobilenet_v2", "mobilenet_v4_conv_small"):
        network = build(presets.load(name, num_classes=5))
        maps = activation_maps(network, images[:1, :, :pixels, :pixels], torch.tensor([1]))
        assert maps.shape == (1, side, side)


def test_an_early_map_is_weighed_by_the_logits_gradient(images):
    network = build(presets.load("mobilenet_v2", num_classes=5)).eval().double()
    images, labels = images[:, :, :64, :64].double(), torch.tensor([1, 3, 3])
    maps = activation_maps(network, images, labels)
    feature = network.features(images)[2].detach().requires_grad_()
    x = feature
    for stage in network.stages[3:]:
        x = stage(x)
    logits = network.classifier(network.mean(network.head(x)).flatten(1))
    logits.gather(1, labels[:, None]).sum().backward()
    expected = (feature.grad.sum((2, 3), keepdim=True) * feature).sum(1)
    np.testing.assert_allclose(maps, expected.detach().numpy(), rtol=1e-6, atol=1e-9)


def test_a_map_is_of_its_class_alone_and_leaves_the_network_as_it_was(images):
    network = build(presets.load("mobilenet_v2", num_classes=5))
    images = images[:, :, :64, :64]
    one = activation_maps(network, images, torch.tensor([0, 1, 2]))
    other = activation_maps(network, images, torch.tensor([0, 1, 3]))
    np.testing.assert_array_equal(one[:2], other[:2])
    assert np.abs(one[2] - other[2]).max() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
