"""One call makes a network faster in place, and says what it did."""

from __future__ import annotations

import copy

import pytest
import torch

from experiments.training.acceleration import accelerate, kernel_calls
from space import presets
from space.network import build

_CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _network():
    torch.manual_seed(0)
    return build(presets.load("mnasnet_a1", num_classes=10))


def test_a_network_keeps_its_names_and_memory():
    network = _network()
    before = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    accelerate(network, _CPU)
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_it_says_what_it_changed():
    assert accelerate(_network(), _CPU) == (
        "channels last",
        "ReLU in place (41 layers)",
        "weight gradients of depthwise 5×5 by narrower kernels (6 layers)",
        "batch norm and ReLU as one compiled loop (49 layers)",
        "squeeze-and-excite as mean and linear layers (8 layers)",
    )


def test_it_says_why_there_are_no_compiled_loops(monkeypatch):
    monkeypatch.setattr(kernel_calls, "_kernels", lambda: (None, "numba cannot be used: no numba"))
    changes = accelerate(_network(), _CPU)
    assert "no compiled loops: numba cannot be used: no numba" in changes
    torch.set_num_threads(2)
    assert "no compiled loops: torch has 2 threads" in accelerate(_network(), _CPU)


def test_the_function_stays_the_same_also_of_a_copy():
    plain, images = _network().eval(), torch.randn(2, 3, 32, 32)
    accelerated = copy.deepcopy(plain)
    accelerate(accelerated, _CPU)
    network = copy.deepcopy(accelerated)
    network.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network(images), plain(images), rtol=1e-3, atol=1e-4)
