"""A learner's state travels between devices."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from experiments.config import TrainConfig
from experiments.training.learner import Learner
from space import presets
from space.network import build


def learner(config: TrainConfig) -> Learner:
    torch.manual_seed(0)
    network = build(presets.load("mnasnet_small", num_classes=10)).train()
    return Learner(network, config, torch.device("cpu"))


def step(learns: Learner) -> float:
    generator = torch.Generator().manual_seed(0)
    learns.turn_to(0.01)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    return learns.step(images, torch.arange(8)).item()


def as_of_a_gpu(state: dict[str, Any]) -> dict[str, Any]:
    """What the optimiser of a GPU would have left: it can be captured, and is fused."""
    changed = copy.deepcopy(state)
    for group in changed["optimizer"]["param_groups"]:
        group.update({key: True for key in ("capturable", "fused") if key in group})
        if group.get("foreach"):
            group["fused"] = False
    return changed


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf", "adamw"])
def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(optimizer: str) -> None:
    config = TrainConfig.model_validate({"optimizer": optimizer})
    first, same, other = learner(config), learner(config), learner(config)
    step(first)
    state = first.state()
    same.load(state)
    other.load(as_of_a_gpu(state))
    assert step(other) == step(same)
    fresh = learner(config).optimizer.param_groups
    for group, wanted in zip(other.optimizer.param_groups, fresh, strict=True):
        for key in ("capturable", "fused", "foreach"):
            assert group.get(key) == wanted.get(key)


@pytest.mark.parametrize("pieces", [1, 2])
def test_class_weights_multiply_the_loss_of_an_image(pieces: int) -> None:
    weights = torch.linspace(0.5, 1.5, 10)
    torch.manual_seed(0)
    network = build(presets.load("mnasnet_small", num_classes=10)).eval()  # batch norm is still
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    losses = F.cross_entropy(network(images), labels, label_smoothing=0.1, reduction="none")
    smooth = F.cross_entropy(
        network(images), labels, weights, label_smoothing=0.1, reduction="none"
    )
    config = TrainConfig(clip_norm=None)
    learns = Learner(network, config, torch.device("cpu"), pieces=pieces, class_weights=weights)
    learns.turn_to(0.01)
    found = learns.step(images, labels).item()
    assert found == pytest.approx(smooth.mean().item(), rel=1e-5)
    assert found != pytest.approx(losses.mean().item(), rel=1e-3)


def test_a_taught_network_learns_from_softened_outputs_at_the_teachers_resolution() -> None:
    torch.manual_seed(0)
    small = presets.load("mnasnet_small", num_classes=10)
    network, teacher = build(small).eval(), build(replace(small, resolution=48)).eval()
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    enlarged = F.interpolate(images, (48, 48), mode="bilinear", antialias=True)
    theirs, own = (teacher(enlarged) / 3).softmax(1), (network(images) / 3).softmax(1)
    divergence = (theirs * (theirs / own).log()).sum(1).mean()
    labelled = F.cross_entropy(network(images), labels, label_smoothing=0.1)
    expected = 0.9 * labelled + 0.1 * 9 * divergence
    learns = Learner(network, TrainConfig(), torch.device("cpu"), teacher=teacher)
    learns.turn_to(0.01)
    assert learns.step(images, labels).item() == pytest.approx(expected.item(), rel=1e-4)
    assert all(parameter.grad is None for parameter in teacher.parameters())
