"""Optimisers and schedules against their formulas."""

import math

import pytest
import torch
from torch import nn

from experiments.config import TrainConfig
from experiments.training.batches import StepPlan
from experiments.training.optimizers import (
    RMSpropTF,
    learning_rate,
    make_optimizer,
    parameter_groups,
)


def rate(step: int, steps_per_epoch: int = 10, epochs: int = 20, **settings: object) -> float:
    config = TrainConfig.model_validate({"learning_rate": 1.0, **settings})
    return learning_rate(step, config, StepPlan(steps_per_epoch, 256), epochs)


def test_rmsprop_tf_computes_tensorflows_formula() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = RMSpropTF([weight], 0.1, decay=0.9, momentum=0.8, eps=1e-3)
    expected = [1.0, -2.0, 0.5]
    squares, moments = [1.0] * 3, [0.0] * 3
    for step in range(4):
        gradients = [0.3 * (step + 1), -1e-4, 2.0]
        weight.grad = torch.tensor(gradients)
        optimizer.step()
        for i, gradient in enumerate(gradients):
            squares[i] = 0.9 * squares[i] + 0.1 * gradient**2
            moments[i] = 0.8 * moments[i] + 0.1 * gradient / math.sqrt(squares[i] + 1e-3)
            expected[i] -= moments[i]
    torch.testing.assert_close(weight.detach(), torch.tensor(expected))


def test_rmsprop_tf_adds_weight_decay_to_the_gradient() -> None:
    decayed = nn.Parameter(torch.tensor([2.0]))
    plain = nn.Parameter(torch.tensor([2.0]))
    decayed.grad, plain.grad = torch.tensor([0.1]), torch.tensor([0.1 + 0.01 * 2.0])
    RMSpropTF([{"params": [decayed], "weight_decay": 0.01}], torch.tensor(0.1)).step()
    RMSpropTF([plain], torch.tensor(0.1)).step()
    torch.testing.assert_close(decayed, plain)


def test_the_two_forms_of_rmsprop_differ() -> None:
    steps = []
    for name in ("rmsprop", "rmsprop_tf"):
        network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(network.weight)
        optimizer = make_optimizer(
            network, TrainConfig(optimizer=name, weight_decay=0), torch.tensor(0.1)
        )
        network.weight.grad = torch.full_like(network.weight, 1e-3)
        optimizer.step()
        steps.append(-network.weight.item() / 0.1)
    # Torch's squares begin at 0 and its epsilon is added to the root.
    assert steps[0] == pytest.approx(1e-3 / (math.sqrt(0.1 * 1e-6) + 1e-3))
    assert steps[1] == pytest.approx(1e-3 / math.sqrt(0.9 + 0.1 * 1e-6 + 1e-3))


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "rmsprop_tf", "adamw"])
def test_batch_norm_and_biases_do_not_decay(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    config = TrainConfig.model_validate({"optimizer": name, "weight_decay": 0.5})
    optimizer = make_optimizer(network, config, torch.tensor(0.1))
    nn.init.ones_(network[0].bias)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = {
        name for name, value in network.state_dict().items() if not value.equal(before[name])
    }
    assert changed == {"0.weight", "3.weight"}


def test_parameter_groups_hold_every_parameter_once() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    held = [parameter for group in parameter_groups(network, 0.1) for parameter in group["params"]]
    assert {id(parameter) for parameter in held} == {id(p) for p in network.parameters()}
    assert len(held) == len(list(network.parameters()))


def test_warm_up_rises_linearly_to_the_peak() -> None:
    rates = [rate(step, warmup_epochs=2) for step in range(20)]
    assert rates == pytest.approx([(step + 1) / 20 for step in range(20)])


def test_cosine_falls_from_the_peak_to_zero() -> None:
    expected = [0.5 * (1 + math.cos(math.pi * step / 180)) for step in range(181)]
    assert [rate(20 + step, warmup_epochs=2) for step in range(181)] == pytest.approx(expected)


def test_a_line_falls_from_the_peak_to_zero() -> None:
    expected = [1 - step / 180 for step in range(181)]
    found = [rate(20 + step, warmup_epochs=2, schedule="linear") for step in range(181)]
    assert found == pytest.approx(expected)


def test_exponential_decay_steps_down_by_whole_periods_since_the_start() -> None:
    settings = {"schedule": "exponential", "warmup_epochs": 1, "decay_rate": 0.5, "decay_epochs": 2}
    assert rate(19, **settings) == 1.0
    assert rate(20, **settings) == 0.5
    assert rate(39, **settings) == 0.5
    assert rate(199, **settings) == 0.5**9


def test_warm_up_takes_a_quarter_of_a_short_training_at_most() -> None:
    assert rate(9, epochs=4, warmup_epochs=5) == 1.0
    assert rate(8, epochs=4, warmup_epochs=5) == 0.9
    assert rate(0, steps_per_epoch=1, epochs=1, warmup_epochs=5) == 1.0


def test_the_rate_is_proportional_to_the_batch() -> None:
    config = TrainConfig(learning_rate=0.016, warmup_epochs=0)
    assert learning_rate(0, config, StepPlan(10, 256), epochs=10) == pytest.approx(0.016)
    assert learning_rate(0, config, StepPlan(10, 64), epochs=10) == pytest.approx(0.004)
