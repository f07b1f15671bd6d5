"""Fused norms: the same outputs, gradients, statistics and names as torch's norm and ReLU."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from experiments.training.acceleration import kernel_calls, norms
from space.architecture import Numerics
from space.blocks import ConvNorm


def _accelerated(network: nn.Module) -> nn.Module:
    norms.accelerate(network)
    return network


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _layer(channels: int, activation: type[nn.Module] = nn.ReLU) -> ConvNorm:
    """A layer whose convolution changes nothing, so that its input is the norm's."""
    layer = ConvNorm(Numerics(), channels, channels, groups=channels, activation=activation)
    nn.init.ones_(layer.conv.weight)
    nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
    nn.init.normal_(layer.norm.bias)
    return layer.to(memory_format=torch.channels_last)


def _fused(layer: nn.Module) -> nn.Module:
    made = _accelerated(copy.deepcopy(layer))
    assert any(isinstance(each, norms._ClampedNorm) for each in made.modules())
    return made


def _gradients(layer: nn.Module, x: Tensor, of_output: Tensor) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    out.backward(of_output.to(out.dtype))
    assert isinstance(layer, ConvNorm)
    found = [out, x.grad, layer.norm.weight.grad, layer.norm.bias.grad]
    return [each.detach().double() for each in found if each is not None]


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 5),
    channels=st.integers(1, 40),
    height=st.integers(1, 9),
    width=st.integers(2, 9),
    mean=st.sampled_from([0.0, 3.0, -200.0]),
    activation=st.sampled_from([nn.ReLU, nn.ReLU6, nn.SiLU, nn.Identity]),
    seed=st.integers(0, 1_000),
)
def test_output_gradients_and_statistics_are_those_of_torch_in_double_precision(
    images, channels, height, width, mean, activation, seed
):
    torch.manual_seed(seed)
    plain = _layer(channels, activation)
    fused = _fused(plain)
    x = (mean + 2 * torch.randn(images, channels, height, width)).to(
        memory_format=torch.channels_last
    )
    of_output = torch.randn_like(x)
    exact = copy.deepcopy(plain).double()
    # Where a value is clamped is decided by its last digit; no such value may decide the test.
    normed = exact.norm(x.double()).detach()
    exact.norm.reset_running_stats()
    of_output[(normed.abs() < 1e-3) | ((normed - 6).abs() < 1e-3)] = 0

    wanted = _gradients(exact, x.double(), of_output)
    found = _gradients(fused, x, of_output)

    assert len(found) == len(wanted) == 4
    scale = 1 + abs(mean) / 20  # float32 holds seven digits of the input
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4 * scale, atol=2e-4 * scale)
    for name in ("running_mean", "running_var"):  # the learner counts batches
        wanted_statistics = exact.norm.get_buffer(name)
        torch.testing.assert_close(
            fused.norm.get_buffer(name).double(), wanted_statistics, rtol=1e-4, atol=1e-4
        )


def test_measures_as_torch_does():
    plain = _layer(24)
    plain.norm.running_mean.normal_()
    plain.norm.running_var.uniform_(0.5, 2)
    fused = _fused(plain).eval()
    x = torch.randn(4, 24, 6, 6).to(memory_format=torch.channels_last)
    wanted = plain.eval()(x)
    torch.testing.assert_close(fused(x), wanted)  # where gradients may be asked for
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), wanted)


def test_parameters_are_the_same_ones_under_the_same_names():
    plain = nn.Sequential(_layer(8), nn.Sequential(_layer(8, nn.Identity)))
    before = dict(plain.named_parameters())
    names = list(plain.state_dict())
    after = dict(_accelerated(plain).named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert list(plain.state_dict()) == names


def test_a_number_that_is_not_finite_is_not_clamped_away():
    fused = _fused(_layer(4))
    x = torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)
    x[0, 1, 2, 2] = torch.nan
    assert fused(x)[:, 1].isnan().all()
    assert fused.norm.running_mean[1].isnan()
    with torch.no_grad():
        assert fused.eval()(x)[:, 1].isnan().all()


def test_the_same_numbers_twice():
    fused = _fused(_layer(33))
    x = torch.randn(8, 33, 7, 7).to(memory_format=torch.channels_last)
    first, second = (_gradients(copy.deepcopy(fused), x, torch.ones_like(x)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_single_pixel_is_refused_as_torch_refuses_it():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        _fused(_layer(4))(torch.randn(1, 4, 1, 1))


def test_other_memory_is_computed_by_torch():
    plain = _layer(6)
    x = torch.randn(2, 6, 5, 4)
    layer = _fused(plain)
    norm = layer.norm
    torch.testing.assert_close(norm(x), plain.norm(x).relu())


def test_several_threads_and_a_missing_numba_leave_torch_its_norm(monkeypatch):
    torch.set_num_threads(2)
    layer = _accelerated(_layer(4))
    assert type(layer.norm) is nn.BatchNorm2d
    torch.set_num_threads(1)
    monkeypatch.setattr(kernel_calls, "_kernels", lambda: (None, "no numba"))
    layer = _accelerated(_layer(4))
    assert type(layer.norm) is nn.BatchNorm2d
    assert type(layer.activation) is nn.ReLU
