"""Files of weights: there and back, and what is not a file of weights."""

import argparse
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from space.architecture import Architecture
from space.network import build
from space.validation import InvalidInput
from space.weights import export_weights, import_weights, read_weights

NAME = "timm/mobilenetv3_small_100"


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_come_back_from_our_files_as_they_were(tmp_path, witness, calibrated, suffix):
    module = calibrated(witness(NAME, num_classes=5))
    given = tmp_path / f"given.{suffix}"
    if suffix == "pth":
        torch.save(module.state_dict(), given)
    else:
        save_file(module.state_dict(), given)

    import_weights(NAME, given, tmp_path / "ours")
    data = json.loads((tmp_path / "ours" / "architecture.json").read_text("utf-8"))
    network = build(Architecture.from_dict(data)).eval()
    network.load_state_dict(load_file(tmp_path / "ours" / "model.safetensors"))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image), module(image), rtol=1e-5, atol=1e-5)

    export_weights(NAME, tmp_path / "ours" / "model.safetensors", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert all(torch.equal(back[key], value) for key, value in module.state_dict().items())


class _Runs:
    def __reduce__(self):
        return print, ("run",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"weight": _Runs()}, tmp_path / "bad.pth")
    with pytest.raises(
        InvalidInput, match=r"bad\.pth: it holds a pickled .*print, which is not loaded"
    ):
        read_weights(tmp_path / "bad.pth")
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
def test_a_file_that_is_not_there_or_damaged_is_refused(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(InvalidInput, match="no weights can be read"):
        read_weights(path)
    for content in (b"", b"\xff" * 64, b"# name: value"):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match="no weights can be read") as refused:
            read_weights(path)
        assert "weights_only" not in str(refused.value)  # torch's advice: run the file


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InvalidInput, match="a state dict is needed"):
        read_weights(tmp_path / "other.pth")


def test_weights_are_found_where_training_scripts_keep_them(tmp_path):
    state = {"conv.weight": torch.ones(2, 1, 3, 3), "norm.num_batches_tracked": torch.tensor(3)}
    averaged = {name: tensor * 2 for name, tensor in state.items()}
    arguments = argparse.Namespace(model="efficientnet_b0", lr=0.1)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))
    swa = torch.optim.swa_utils.AveragedModel(network)
    convolution = {f"conv.{name}": tensor for name, tensor in network[0].state_dict().items()}
    swa_state = {name.replace("0.", "conv."): tensor for name, tensor in swa.state_dict().items()}
    for content, expected in {
        "plain": (state, state),
        "timm": ({"epoch": 3, "args": arguments, "state_dict": state, "optimizer": {}}, state),
        "timm_ema": ({"state_dict": state, "state_dict_ema": averaged}, averaged),
        "reference": ({"model": state, "model_ema": averaged, "args": None}, averaged),
        "tutorial": ({"epoch": 3, "model_state_dict": state, "loss": 0.1}, state),
        "nested": ({"net": {"state_dict": state}, "acc": 94.0}, state),
        "AveragedModel": ({"model": state, "model_ema": swa_state}, convolution),
        "parallel": ({f"module.{name}": tensor for name, tensor in state.items()}, state),
        "compiled": ({f"_orig_mod.module.{n}": t for n, t in state.items()}, state),
        "lightning": ({"state_dict": {f"model.{n}": t for n, t in state.items()}}, state),
        "thop": (state | {"total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)}, state),
        "half": ({n: t.half() if t.is_floating_point() else t for n, t in state.items()}, state),
    }.values():
        torch.save(content, tmp_path / "given.pth")
        found = read_weights(tmp_path / "given.pth")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert found["conv.weight"].dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_diverged_are_refused_by_name(tmp_path, value):
    state = {"conv.weight": torch.ones(2), "norm.weight": torch.tensor([1.0, value])}
    torch.save(state, tmp_path / "given.pth")
    with pytest.raises(InvalidInput, match=r"norm\.weight holds values that are infinite or not"):
        read_weights(tmp_path / "given.pth")


def test_a_pickled_module_is_refused_by_the_name_of_its_class(tmp_path):
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "whole.pth")
    with pytest.raises(InvalidInput) as refusal:
        read_weights(tmp_path / "whole.pth")
    assert "torch.nn.modules.conv.Conv2d, which is not loaded" in str(refusal.value)
    assert "torch.save(model.state_dict(), …)" in str(refusal.value)
    assert str(refusal.value).isprintable()
