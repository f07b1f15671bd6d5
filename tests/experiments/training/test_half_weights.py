"""Weights in bfloat16 by one operation: autocast's numbers, in fewer operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.config import TrainConfig
from experiments.training import learner
from experiments.training.acceleration import accelerate
from experiments.training.learner import Learner
from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.network import build

NETWORK = Architecture(
    Stem(8),
    (Stage(Operator.INVERTED, 16, repeats=2, expansion=2, se=SqueezeExcite()),),
    Head(16),
    resolution=16,
    num_classes=10,
)


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16, and the layers of a GPU, on a CPU."""
    monkeypatch.setattr(learner, "mixes_precision", lambda _: True)
    gpu = torch.device("cuda")
    monkeypatch.setattr(learner, "accelerate", lambda network, _: accelerate(network, gpu))


def made(*, half: bool, pieces: int = 1) -> Learner:
    torch.manual_seed(0)
    made = Learner(build(NETWORK).train(), TrainConfig(), torch.device("cpu"), pieces=pieces)
    assert made._half_weights is not None
    if not half:  # autocast's own copies
        made._half_weights, made._call = None, made.network
    return made


def stepped(learns: Learner, steps: int = 3) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        learns.turn_to(0.01)
        images = torch.randn(16, 3, 16, 16, generator=generator)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(10, (16,), generator=generator)
        losses.append(learns.step(images, labels).item())
    return losses


@pytest.mark.parametrize("pieces", [1, 2])
def test_losses_and_weights_are_those_of_autocast_bit_for_bit(pieces: int) -> None:
    ours, autocast = made(half=True, pieces=pieces), made(half=False, pieces=pieces)
    assert stepped(ours) == stepped(autocast)
    expected = autocast.averaged.state_dict()
    for name, value in ours.averaged.state_dict().items():
        assert torch.equal(value, expected[name]), name


class Casts(TorchDispatchMode):
    """Counts casts, of one tensor or of many."""

    count = 0

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        single, many = torch.ops.aten._to_copy.default, torch.ops.aten._foreach_copy_.default
        self.count += function in (single, many)
        return function(*args, **(kwargs or {}))


def test_a_step_casts_all_weights_at_once() -> None:
    counts = []
    for half in (False, True):
        learns = made(half=half)
        stepped(learns, 1)
        with Casts() as casts:
            stepped(learns, 1)
        counts.append(casts.count)
    layers = sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in learns.network.modules())
    before, after = counts
    assert before - after > 2 * layers - 4  # a copy and a gradient of each


def test_batches_are_counted_where_the_state_is_read() -> None:
    learns = made(half=True)
    stepped(learns)
    for network in (learns.averaged, learns.network):
        counts = [v for n, v in network.named_buffers() if n.endswith("num_batches_tracked")]
        assert counts
        assert all(count == 3 for count in counts)
