"""Networks whose outputs tell them apart, and what travels with them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from scaling.formats import Portable, Preprocessing
from space import choices
from space.architecture import Architecture
from space.network import Network, build

Sampled = Callable[[str, int], Iterator[Architecture]]


@pytest.fixture(scope="session")
def portable() -> Callable[..., Portable]:
    """What travels with a network of ten classes."""

    def make(
        architecture: Architecture, name: str = "pets-b1", stored: int | None = 53
    ) -> Portable:
        count, channels = architecture.num_classes, architecture.in_channels
        classes = tuple(f"class {index}" for index in range(count))
        mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
        return Portable(name, architecture, classes, Preprocessing(mean, std, stored))

    return make


@pytest.fixture(scope="session")
def trained() -> Callable[[Architecture, torch.Tensor], Network]:
    """The network with random weights, its statistics those of some images: nothing vanishes."""

    def make(architecture: Architecture, images: torch.Tensor) -> Network:
        generator = torch.Generator().manual_seed(0)
        network = build(architecture)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.data.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
                if module.bias is not None:
                    module.bias.data.normal_(0, 0.5, generator=generator)
        for norm in norms:
            norm.momentum = None
            norm.bias.data.normal_(0, 0.3, generator=generator)
        with torch.no_grad():
            network.train()(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return network.eval()

    return make


@pytest.fixture(scope="session")
def sampled() -> Sampled:
    """Random architectures of a space, with ten classes."""

    def draw(name: str, count: int) -> Iterator[Architecture]:
        space, generator = choices.load(name), np.random.default_rng(0)
        for _ in range(count):
            chosen = {key: generator.choice(values) for key, values in space.choices.items()}
            decoded = space.decode({key: value.item() for key, value in chosen.items()})
            yield replace(decoded, num_classes=10)

    return draw
