"""model.py is exactly the network, readable, typed, formatted, with torch alone."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.formats import Portable, preprocess
from scaling.formats.standalone import source
from space import choices, presets
from space.architecture import (
    Activation,
    Architecture,
    Gate,
    Head,
    Numerics,
    Operator,
    Padding,
    Skip,
    SqueezeBase,
    SqueezeExcite,
    Stage,
    Stem,
)

REPOSITORY = Path(__file__).resolve().parents[3]

#: One of each kind that is shipped; of the others only the text is checked.
RUN = [
    *("efficientnet_b0", "efficientnet_b3", "efficientnet_lite0", "efficientnet_v2_b0"),
    *("efficientnet_v2_s", "mnasnet_a1", "mnasnet_b1_050", "mnasnet_small", "mobilenet_v1"),
    *("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet18", "resnet50"),
]

#: Everything in which blocks can differ, differs: no shipped network needs all of it at once.
MOTLEY = Architecture(
    Stem(8, kernel=5, stride=1, pool=True),
    (
        Stage(Operator.CONV, 16, skip=Skip.POOL, stride=2),
        Stage(Operator.SEPARABLE, 16, 2, linear=False, activation=Activation.RELU),
        Stage(Operator.INVERTED, 24, 3, 5, 2, 4.0, SqueezeExcite(), Skip.PROJECTION),
        Stage(Operator.FUSED, 24, 2, 3, 1, 2.0, SqueezeExcite(gate=Gate.HARD_SIGMOID)),
        Stage(Operator.FUSED, 8, 1, 3, 1, 2.0, SqueezeExcite(activation=Activation.RELU6)),
        Stage(Operator.BASIC, 16, 2, 3, 2, skip=Skip.PROJECTION),
        Stage(Operator.BOTTLENECK, 32, 2, 3, 2, 0.25, skip=Skip.PROJECTION),
        Stage(Operator.INVERTED, 32, 2, 3, 1, 2.0, skip=Skip.NONE),
    ),
    Head(0, hidden=24),
    resolution=40,
    num_classes=10,
    in_channels=1,
    numerics=Numerics(padding=Padding.SAME, activation=Activation.HARD_SWISH),
    dropout=0.3,
    stochastic_depth=0.4,
)


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_the_same(
    portable: Portable,
    trained: Callable[..., Any],
    folder: Path,
    pixels: int = 65,
    spread: float = 0.05,
) -> None:
    shape = (3, portable.architecture.in_channels, pixels, pixels)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    network = trained(portable.architecture, images)
    (folder / "model.py").write_text(source(portable))
    standalone = loaded(folder / "model.py").Model()
    standalone.load_state_dict(network.state_dict())
    for training in (False, True):  # in training with the same draws, and the same statistics
        outputs = []
        for module in (network, standalone):
            torch.manual_seed(0)
            outputs.append(module.train(training)(images).detach())
        assert outputs[0].std() > spread
        assert (outputs[0] - outputs[1]).abs().max() <= 1e-5 * outputs[0].abs().max()


@pytest.mark.parametrize("name", RUN)
def test_a_presets_model_computes_what_it_does(name, portable, trained, tmp_path):
    assert_the_same(portable(presets.load(name, num_classes=10)), trained, tmp_path)


@pytest.mark.parametrize("name", choices.names())
def test_random_models_of_a_space_compute_what_they_do(name, portable, trained, sampled, tmp_path):
    for index, architecture in enumerate(sampled(name, 2)):
        drops = replace(architecture, stochastic_depth=0.2 * index, dropout=0.1 * index)
        assert_the_same(portable(drops), trained, tmp_path)


def test_a_model_in_which_everything_differs_computes_what_it_does(portable, trained, tmp_path):
    assert_the_same(portable(MOTLEY), trained, tmp_path, pixels=40)
    alike = replace(MOTLEY, stages=tuple(replace(s, linear=True) for s in MOTLEY.stages))
    assert_the_same(portable(alike), trained, tmp_path, pixels=39)


stages = st.builds(
    Stage,
    operator=st.sampled_from(Operator),
    channels=st.sampled_from([6, 8, 16]),
    repeats=st.integers(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    expansion=st.sampled_from([0.25, 1.0, 1.1, 2.5, 3.0, 11 / 3]),
    se=st.none()
    | st.builds(
        SqueezeExcite,
        ratio=st.sampled_from([0.25, 0.3]),
        base=st.sampled_from(SqueezeBase),
        divisor=st.sampled_from([1, 8]),
        gate=st.sampled_from(Gate),
        activation=st.none() | st.sampled_from(Activation),
    ),
    skip=st.sampled_from(Skip),
    activation=st.none() | st.sampled_from(Activation),
    linear=st.booleans(),
)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    stages=st.lists(stages, min_size=1, max_size=4),
    padding=st.sampled_from(Padding),
    stem=st.builds(Stem, st.just(8), stride=st.integers(1, 2), pool=st.booleans()),
    drop=st.sampled_from([0.0, 0.4]),
)
def test_any_architectures_model_computes_what_it_does(
    stages, padding, stem, drop, portable, trained, tmp_path
):
    network = Architecture(
        stem,
        tuple(stages),
        Head(8),
        resolution=33,
        num_classes=4,
        numerics=Numerics(padding=padding),
        stochastic_depth=drop,
    )
    assert_the_same(portable(network), trained, tmp_path, pixels=33, spread=1e-3)


def test_every_model_is_formatted_typed_and_clean(portable, sampled, tmp_path):
    architectures = {name: presets.load(name, 10) for name in presets.names()} | {"motley": MOTLEY}
    for space in choices.names():
        architectures |= {f"{space}_{i}": each for i, each in enumerate(sampled(space, 4))}
    names = tuple(f'a "{index}" \\ \u202e' for index in range(40))
    for name, architecture in architectures.items():
        text = source(portable(architecture, stored=None if "lite" in name else 53))
        (tmp_path / f"{name}.py").write_text(text)
    many = replace(portable(presets.load("resnet18", 40)), classes=names)
    (tmp_path / "preprocess.py").write_text(preprocess.source(many))
    assert list(names) == loaded(tmp_path / "preprocess.py").CLASSES
    bin_ = Path(sys.executable).parent
    lines = ["--isolated", "--line-length", "100"]
    typed = ("efficientnet_b0", "mobilenet_v1", "motley", "resnet50")
    for command in (
        [bin_ / "ruff", "format", *lines, "--check", "--diff", tmp_path],
        [bin_ / "ruff", "check", *lines, "--select", "E,F,W,I,B,UP,SIM,PT,RET,ARG", tmp_path],
        # With the cache of `make lint`: torch alone takes twenty seconds.
        [sys.executable, "-m", "mypy", "--strict", "--config-file", REPOSITORY / "pyproject.toml"]
        + ["--cache-dir", REPOSITORY / ".mypy_cache"]
        + [tmp_path / f"{name}.py" for name in typed],
    ):
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_b0_is_short_and_written_by_stages(portable):
    text = source(portable(presets.load("efficientnet_b0", num_classes=10)))
    assert len(text.splitlines()) <= 160
    stage = 'Block(3, 2, 16, 96, 24, 4, "none"), Block(3, 1, 24, 144, 24, 6, "identity")'
    assert f"    [{stage}],\n" in text
    b7 = source(portable(presets.load("efficientnet_b7", num_classes=10)))
    assert len(b7.splitlines()) - len(text.splitlines()) < 10


def test_only_what_is_needed_is_written(portable):
    plain = source(portable(presets.load("mobilenet_v1", num_classes=10)))
    for word in ("SqueezeExcitation", "Residual", "functional", "Dropout", "PadSame", "shortcut"):
        assert word not in plain
    assert "nn.Identity()" not in plain


def test_it_needs_nothing_but_torch(portable):
    text = source(portable(MOTLEY))
    imports = {
        line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    assert {name.split(".")[0] for name in imports} == {
        *("json", "math", "pathlib", "sys", "torch", "typing")
    }
