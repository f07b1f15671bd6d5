"""Stacked networks learn as each of them alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from experiments.benchmarks.gpu.speed import in_one_pass
from experiments.benchmarks.operations import operations
from experiments.benchmarks.stacked import StackedLearner
from experiments.config import TrainConfig
from experiments.training.learner import Learner
from space import presets
from space.architecture import Skip
from space.network import build

_SEEDS, _IMAGES, _SIDE = 3, 6, 24
_CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _double_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # in float32, rounding grows with every step
    yield
    torch.set_default_dtype(before)


def _networks(preset, **changes):
    architecture = replace(presets.load(preset, num_classes=5), **changes)
    made = []
    for seed in range(_SEEDS):
        torch.manual_seed(seed)
        made.append(build(architecture).train())
    return made


@pytest.mark.parametrize(
    ("preset", "optimizer"), [("mobilenet_v3_small", "rmsprop_tf"), ("mnasnet_small", "sgd")]
)
def test_each_network_has_the_losses_weights_and_statistics_of_a_learner_of_its_own(
    preset, optimizer
):
    networks = _networks(preset, dropout=0.3, stochastic_depth=0.3)
    config = TrainConfig(batch_size=_IMAGES, optimizer=optimizer)
    alone = [Learner(copy.deepcopy(network), config, _CPU) for network in networks]
    together = StackedLearner(networks, config, _CPU)
    for seed, learner in enumerate(alone):
        learner.generator.manual_seed(seed)
        together.generators[seed].manual_seed(seed)
    for _ in range(3):
        images = [torch.randn(_IMAGES, 3, _SIDE, _SIDE) for _ in networks]
        targets = [torch.randint(5, (_IMAGES,)) for _ in networks]
        losses = []
        for learner, *batch in zip(alone, images, targets, strict=True):
            learner.turn_to(0.01)
            losses.append(learner.step(*batch).item())
        together.turn_to(0.01)
        total = together.step(torch.cat(images, 1), torch.stack(targets, 1)).item()
        assert total == pytest.approx(sum(losses), rel=1e-5)
    for seed, learner in enumerate(alone):
        wanted = [each for each in learner.network.state_dict().values() if each.ndim]
        for one, other in zip(together.weights(seed), wanted, strict=True):
            # Losses are computed in float32.
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_pool_shortcuts_pad_and_cut_the_channels_of_each_network():
    base = presets.load("mnasnet_small")
    stages = tuple(replace(each, skip=Skip.POOL) for each in base.stages)
    networks = _networks("mnasnet_small", stages=stages)
    together = StackedLearner(networks, TrainConfig(batch_size=_IMAGES), _CPU)
    images = torch.randn(_SEEDS, _IMAGES, 3, _SIDE, _SIDE)
    found = together.network.eval()(torch.cat([*images], 1)).chunk(_SEEDS, 1)
    for logits, network, some in zip(found, networks, images, strict=True):
        torch.testing.assert_close(logits, network.eval()(some))


def test_gradients_of_all_networks_are_not_clipped_together():
    with pytest.raises(ValueError, match="clip_norm must be None for stacked networks"):
        StackedLearner(_networks("resnet18"), TrainConfig(clip_norm=1.0), _CPU)


def test_one_pass_takes_little_more_operations_than_one_network():
    torch.set_default_dtype(torch.float32)
    alone, together = (operations("mobilenet_v3_small", seeds=seeds) for seeds in (1, 4))
    assert together < 1.5 * alone


def test_steps_of_several_seeds_are_timed():
    torch.set_default_dtype(torch.float32)
    assert all(speed > 0 for speed in in_one_pass("cpu", size=4).values())
