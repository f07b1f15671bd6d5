"""Triton's kernels are torch's layers: interpreted on a CPU, compiled where there is a GPU."""

from __future__ import annotations

import copy
import itertools
import logging
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from experiments.training.acceleration import accelerate, norms, triton_calls, triton_layers
from experiments.training.half_weights import HalfWeights
from space.architecture import Numerics
from space.blocks import ConvNorm

_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton", reason="Triton is not installed (Linux on x86-64 only)")

_ACTIVATIONS = (nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish)
_FLOAT, _HALF = torch.float32, torch.bfloat16


_seconds = triton_calls.seconds


@pytest.fixture(autouse=True)
def _kernels_are_faster(monkeypatch):
    monkeypatch.setattr(triton_calls, "_DEVICES", (_DEVICE.type,))
    monkeypatch.setattr(triton_calls, "_better", {})
    times = itertools.cycle([1.0, 2.0])
    monkeypatch.setattr(triton_calls, "seconds", lambda *_: next(times))


@pytest.fixture
def untried(monkeypatch):
    """The kernels are used without a trial, which takes its time where they are interpreted."""
    monkeypatch.setattr(triton_calls, "are_better", lambda *_: True)


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that are launched."""
    names = []
    launch = triton_calls.launch

    def noted(name, *arguments, **constants):
        names.append(name)
        launch(name, *arguments, **constants)

    monkeypatch.setattr(triton_calls, "launch", noted)
    return names


def _map(shape, dtype=_FLOAT, seed=0, mean=0.0):
    x = mean + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.to(_DEVICE, dtype).contiguous(memory_format=torch.channels_last)


def _layer(channels, activation=nn.ReLU):
    torch.manual_seed(0)
    layer = ConvNorm(Numerics(), channels, channels, groups=channels, activation=activation)
    nn.init.ones_(layer.conv.weight)
    nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
    nn.init.normal_(layer.norm.bias)
    return layer.to(_DEVICE, memory_format=torch.channels_last)


def _joined(layer):
    made = copy.deepcopy(layer)
    norms.stop_counting(made)
    assert triton_layers.join_norms(made) == 1
    return made


def _gradients(layer: nn.Module, x: Tensor, of_output: Tensor) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    out.backward(of_output.to(out.dtype))
    parameters = [each.grad for each in layer.parameters() if each.grad is not None]
    return [each.detach().double() for each in (out, x.grad, *parameters)]


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("dtype", [_FLOAT, _HALF])
@pytest.mark.parametrize("activation", _ACTIVATIONS)
@pytest.mark.parametrize(
    ("shape", "mean"), [((3, 19, 7, 5), 0.0), ((2, 1, 1, 3), 3.0), ((5, 40, 9, 8), -200.0)]
)
def test_norms_are_those_of_torch_also_on_a_gpu_with_gradients_and_statistics(
    shape, mean, activation, dtype, launched
):
    plain = _layer(shape[1], activation)
    joined = _joined(plain)
    mean = mean if dtype is _FLOAT else mean / 100
    x, of_output = _map(shape, dtype, mean=mean), _map(shape, dtype, seed=1)
    exact = copy.deepcopy(plain).double()
    normed = exact.norm(x.double()).detach()
    exact.norm.reset_running_stats()
    for kink in (-3, 0, 3, 6):  # where the last digit decides
        of_output[(normed - kink).abs() < 1e-3] = 0

    exact.conv, joined.conv = nn.Identity(), nn.Identity()
    wanted = _gradients(exact, x.double(), of_output)
    found = _gradients(joined, x, of_output)

    assert launched == ["normalise", "differentiate_norm"]
    scale = 1 + abs(mean) / 20  # float32 holds seven digits of the input
    tolerance = 1e-4 * scale if dtype is _FLOAT else 2e-2
    assert len(found) == len(wanted) == 4
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=2 * tolerance)
    for name in ("running_mean", "running_var"):
        one, other = (each.norm.get_buffer(name).double() for each in (joined, exact))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("dtype", [_FLOAT, _HALF])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "shape"),
    [
        (3, 1, 1, (2, 19, 7, 5)),
        (3, 2, 1, (3, 40, 8, 9)),
        (3, 2, 0, (2, 33, 7, 8)),
        (5, 1, 2, (2, 33, 6, 3)),
        (5, 2, 2, (2, 2, 1, 1)),
    ],
)
def test_depthwise_convolutions_are_those_of_torch_also_on_a_gpu_with_gradients(
    kernel, stride, padding, shape, dtype, launched
):
    torch.manual_seed(0)
    channels = shape[1]
    plain = nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False)
    plain.to(_DEVICE, dtype)
    fast = nn.Sequential(copy.deepcopy(plain))
    assert triton_layers.accelerate(fast) == 1
    x = _map(shape, dtype)
    of_output = _map(plain(x).shape, dtype, seed=1)

    found = _gradients(fast, x, of_output)
    wanted = _gradients(plain.double(), x.double(), of_output)

    assert launched == ["convolve", "convolve", "differentiate_weight"]
    tolerance = 1e-5 if dtype is _FLOAT else 1e-2
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * other.abs().max())


@pytest.mark.usefixtures("untried")
def test_gradients_of_weights_may_be_summed_in_parts(monkeypatch):
    monkeypatch.setattr(triton_layers, "_PARTS", 2)
    monkeypatch.setattr(triton_layers, "_PART_PIXELS", 64)
    plain = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False).to(_DEVICE)
    fast = nn.Sequential(copy.deepcopy(plain))
    triton_layers.accelerate(fast)
    x = _map((2, 2, 9, 8))  # more pixels than two tiles
    for one, other in zip(_gradients(fast, x, x), _gradients(plain, x, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_a_number_that_is_not_finite_is_not_clamped_away():
    layer = _joined(_layer(4, nn.ReLU6))
    x = _map((2, 4, 3, 3))
    x[0, 1, 2, 2] = torch.nan
    assert layer(x)[:, 1].isnan().all()
    assert layer.norm.running_mean[1].isnan()


@pytest.mark.parametrize("weights", ["cast by autocast", "in bfloat16"])
def test_layers_are_as_close_to_double_precision_as_torchs_in_mixed_precision(weights, launched):
    torch.manual_seed(0)
    sizes = ((3, 8, nn.ReLU6, 3, 2, 1), (8, 8, nn.SiLU, 5, 1, 8), (8, 4))
    plain = nn.Sequential(*(ConvNorm(Numerics(), *size) for size in sizes)).to(_DEVICE)
    plain.to(memory_format=torch.channels_last)
    fast, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    assert accelerate(fast, torch.device("cuda"))[-2:] == (
        "Triton's batch norm and activation, if better (3 layers)",
        "Triton's depthwise convolution, if better (1 layers)",
    )
    images, found = _map((4, 3, 12, 10)), []
    for network in (exact, plain, fast):
        half = None if weights == "cast by autocast" or network is exact else HalfWeights(network)
        if half:
            half.renew()
        with torch.autocast(_DEVICE.type, torch.bfloat16, enabled=network is not exact):
            out = (half or network)(images.to(network[0].norm.weight.dtype))
        out.backward(_map(out.shape, seed=1).to(out.dtype))
        if half:
            half.collect()
        gradients = [each.grad for each in network.parameters()]
        found.append([out, *gradients, *(each for each in network.buffers() if each.ndim)])
    assert launched.count("convolve") == 4  # two for the trial
    assert list(fast.state_dict()) == list(plain.state_dict())
    for wanted, torchs, own in zip(*found, strict=True):
        assert own.dtype == torchs.dtype
        distances = [(each - wanted).abs().max().item() for each in (torchs, own)]
        assert distances[1] <= 2 * distances[0] + 1e-2 * wanted.abs().max().item()


def _trained(layer):
    x = _map((2, 4, 3, 3))
    return _gradients(layer, x, torch.ones_like(x))


def test_a_slower_kernel_is_not_used(monkeypatch, launched):
    monkeypatch.setattr(triton_calls, "seconds", lambda *_: 1.0)
    layer = _joined(_layer(4))
    _trained(layer)
    assert launched == ["normalise", "differentiate_norm"]  # by the trial
    _trained(layer)
    assert len(launched) == 2
    assert triton_calls.chosen() == (0, 1)


def test_a_kernel_that_differs_from_torch_is_not_used_and_a_warning_says_so(monkeypatch, caplog):
    by_torch = triton_layers._PASSES["gradient of the weights"][1]
    monkeypatch.setitem(
        triton_layers._PASSES,
        "gradient of the weights",
        (lambda *arguments: 1.1 * by_torch(*arguments), by_torch),
    )
    plain = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False).to(_DEVICE)
    fast = nn.Sequential(copy.deepcopy(plain))
    triton_layers.accelerate(fast)
    with caplog.at_level(logging.WARNING):
        found = _trained(fast)
    assert "for a map of 2 × 4 × 3 × 3 (torch.float32), so torch's own layer is used" in caplog.text
    for one, other in zip(found, _trained(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_kernels_that_fail_leave_torch_its_layers_and_a_warning_says_so_once(monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("no C compiler found")

    monkeypatch.setattr(triton_calls, "launch", fail)
    triton_calls._warn_of.cache_clear()
    with caplog.at_level(logging.WARNING):
        for activation in (nn.ReLU, nn.SiLU):
            plain = _layer(4, activation)
            for one, other in zip(_trained(_joined(plain)), _trained(plain), strict=True):
                assert torch.equal(one, other)
    assert caplog.text.count("no C compiler found") == 1


def test_nothing_is_measured_while_a_graph_is_captured(monkeypatch):
    x = _map((2, 4, 3, 3))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)

    class OnGpu:
        is_cuda, shape, dtype, device = True, x.shape, x.dtype, x.device

    def trial():
        raise AssertionError("measured")

    assert not triton_calls.are_better("layer", OnGpu(), trial)
    assert not triton_calls._better


@pytest.mark.skipif(_DEVICE.type == "cpu", reason="torch sees no GPU")
def test_times_on_a_gpu_grow_with_the_work():
    x = _map((64, 64, 64, 64))
    small, large = (partial(torch.sin, each) for each in (x[:1, :, :2], x))
    assert 0 < _seconds(small, _DEVICE) < _seconds(large, _DEVICE)


def test_layers_compute_by_torch_outside_training(launched):
    layer = _joined(_layer(4)).eval()
    fast = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)).to(_DEVICE).eval()
    triton_layers.accelerate(fast)
    fast(layer(_map((2, 4, 3, 3))))
    assert not launched


def test_other_memory_and_single_pixels_are_left_to_torch(launched):
    layer = _joined(_layer(6))
    layer(_map((2, 6, 5, 4)).contiguous())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(_map((1, 6, 1, 1)))
    assert not launched


def test_networks_say_why_there_are_no_kernels(monkeypatch):
    monkeypatch.setattr(triton_calls, "_kernels", lambda: (None, "Triton cannot be imported: no"))
    changes = accelerate(nn.Sequential(_layer(4)), torch.device("cuda"))
    assert "no Triton kernels: Triton cannot be imported: no" in changes


def test_networks_that_may_not_measure_have_torchs_layers():
    network = nn.Sequential(_layer(4))
    accelerate(network, torch.device("cuda"), may_measure=False)
    assert type(network[0]) is ConvNorm
    assert type(network[0].conv) is nn.Conv2d
