import numpy as np
import pytest
import torch

from experiments.families.cam import activation_maps
from space import presets
from space.network import build


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_mean_of_a_map_and_the_bias_are_the_logit(images):
    network = build(presets.load("mobilenet_v2", num_classes=5)).eval()
    torch.nn.init.normal_(network.classifier.bias)
    labels = torch.tensor([0, 4, 2])
    maps = activation_maps(network, images, labels)
    logits = network(images).gather(1, labels[:, None])[:, 0]
    assert maps.shape == (3, 2, 2)
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


def test_a_map_is_of_its_class_alone_and_leaves_the_network_as_it_was(images):
    network = build(presets.load("mobilenet_v2", num_classes=5))
    one = activation_maps(network, images, torch.tensor([0, 1, 2]))
    other = activation_maps(network, images, torch.tensor([0, 1, 3]))
    np.testing.assert_array_equal(one[:2], other[:2])
    assert np.abs(one[2] - other[2]).max() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
