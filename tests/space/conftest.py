"""Independent witnesses: torchvision's and timm's networks, and counts by forward hooks."""

import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from space.cost import Cost


@pytest.fixture(scope="session")
def witness(import_torchvision: Callable[[], ModuleType]) -> Callable[..., nn.Module]:
    """Builds `torchvision/NAME` or `timm/NAME` without weights, on the meta device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torchvision, timm = import_torchvision(), importlib.import_module("timm")
        except ImportError as error:
            pytest.skip(f"torchvision and timm are the witnesses, and are missing: {error}")

    def build(source: str, **arguments: Any) -> nn.Module:
        library, name = source.split("/")
        create = torchvision.models.get_model if library == "torchvision" else timm.create_model
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return create(name, **arguments)

    return build


@pytest.fixture(scope="session")
def count() -> Callable[[nn.Module, tuple[int, ...]], Cost]:
    """Runs a module on a tensor of a shape, and counts in hooks what runs."""

    def by_hooks(module: nn.Module, shape: tuple[int, ...]) -> Cost:
        macs = activations = 0

        def hook(layer: nn.Module, _: object, out: torch.Tensor) -> None:
            nonlocal macs, activations
            if isinstance(layer, nn.Conv2d):
                macs += layer.weight[0].numel() * out.numel()
                activations += out.numel()
            else:
                macs += layer.weight.numel()

        layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        hooks = [layer.register_forward_hook(hook) for layer in layers]
        device = next(module.parameters()).device
        with torch.no_grad():
            module.eval()(torch.zeros(shape, device=device))
        for handle in hooks:
            handle.remove()
        return Cost(macs, sum(p.numel() for p in module.parameters()), activations)

    return by_hooks


@pytest.fixture(scope="session")
def calibrated() -> Callable[[nn.Module], nn.Module]:
    """Gives a module on the meta device random weights, and batch norms that fit random images.

    Freshly initialised networks in evaluation mode put out next to nothing, and any two of them
    would agree.
    """

    def fill(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        module = module.to_empty(device="cpu").requires_grad_(False)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.normal_(0, layer.weight[0].numel() ** -0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.5, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0, 0.3, generator=generator)
                layer.momentum = None  # the next batch alone makes the statistics
        module.train()
        for layer in module.modules():  # nothing may be dropped while they are made
            if not isinstance(layer, nn.BatchNorm2d):
                layer.training = False
        module(torch.randn(4, 3, 75, 75, generator=generator))
        return module.eval()

    return fill
