"""A captured step: the same step, whatever captures it, and none where that is impossible."""

import logging
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.training import cuda_context
from experiments.training.batches import Batch, Batches
from experiments.training.cuda_graphs import CapturedStep, CudaGraph
from experiments.training.learner import Learner
from experiments.training.readers import Kept
from space import presets
from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.network import build

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.fixture(autouse=True)
def _clean_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no capture had failed in this process."""
    monkeypatch.setattr(cuda_context, "_capture_failed", threading.Event())


class Tape:
    """What a GPU's graph is to the step, on a CPU: capturing does nothing, replaying does all, with
    the memory that was captured and whatever it holds then."""

    def __init__(self) -> None:
        self.recorded: Callable[[], Tensor] | None = None
        self.replays = 0

    def capture(self, step: Callable[[], Tensor]) -> Tensor:
        self.recorded, self.loss = step, torch.zeros(())
        return self.loss

    def replay(self) -> None:
        assert self.recorded is not None
        self.replays += 1
        self.loss.copy_(self.recorded())


class Broken(Tape):
    def capture(self, step: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


#: Steps that rounding hardly moves: three eager ones and the first three replays.
CLOSE = {"steps": 6, "images": 64, "rate": 1e-4}
TOLERANCE = 0.01

#: A network that draws random numbers in every step; of few layers, which amplify little.
DROPPING = Architecture(
    Stem(16),
    (
        Stage(Operator.SEPARABLE, 16),
        Stage(Operator.INVERTED, 24, repeats=2, expansion=3, se=SqueezeExcite()),
    ),
    Head(32),
    resolution=16,
    num_classes=10,
    dropout=0.3,
    stochastic_depth=0.3,
)


def batches(count: int, images: int, device: str = "cpu") -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "images": torch.randn(images, 3, 16, 16, generator=generator).to(device),
            "labels": torch.randint(0, 10, (images,), generator=generator).to(device),
        }
        for _ in range(count)
    ]


def rounding(_: Learner, step: Callable[[Batch], Tensor]) -> Callable[[Batch], Tensor]:
    """Rounds what the network sees to bfloat16, as a GPU rounds all that it multiplies."""
    return lambda batch: step(batch | {"images": batch["images"].bfloat16().float()})


def losses(
    device: str,
    config: TrainConfig,
    wrap: Callable[[Learner, Callable], Callable],
    *,
    steps: int = 10,
    images: int = 8,
    rate: float = 0.01,
) -> tuple[list[float], dict[str, Tensor]]:
    """Of steps at changing rates, of a network that drops; and its weights after them."""
    torch.manual_seed(0)
    learner = Learner(build(DROPPING).train(), config, torch.device(device))
    learner.generator.manual_seed(1)
    step = wrap(learner, lambda batch: learner.step(batch["images"], batch["labels"]))
    found = []
    for number, batch in enumerate(batches(steps, images, device)):
        learner.turn_to(rate * (number + 1))
        found.append(step(batch).item())
    return found, learner.averaged.state_dict()


def capturing(tape: Tape) -> Callable[[Learner, Callable], Callable]:
    return lambda learner, step: CapturedStep(step, tape, learner.renew_generator)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf", "adamw"])
def test_a_captured_step_is_the_step(optimizer: str) -> None:
    config = TrainConfig.model_validate({"optimizer": optimizer, "clip_norm": 1.0})
    tape = Tape()
    told, weights = losses("cpu", config, lambda _, step: step)
    replayed, same = losses("cpu", config, capturing(tape))
    assert replayed == told
    assert all(value.equal(same[name]) for name, value in weights.items())
    assert tape.replays == 7  # the first three are told


def test_what_cannot_be_captured_goes_on_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    config = TrainConfig()
    told, _ = losses("cpu", config, lambda _, step: step)
    fallen_back, _ = losses("cpu", config, capturing(Broken()))
    assert fallen_back == told
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "training steps cannot be captured as a CUDA graph (operation not permitted when stream is "
        "capturing); they are launched one kernel at a time, which is slower"
    ]


def test_no_capture_follows_a_failed_one_in_the_same_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    losses("cpu", TrainConfig(), capturing(Broken()))
    tape = Tape()
    losses("cpu", TrainConfig(), capturing(tape))
    assert tape.replays == 0
    assert len(caplog.records) == 1  # said once


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": "pad"},
        {"crop": "resized", "clip_norm": 1.0},
        {"colour": 0.2, "randaugment": 5.0, "mixup": 0.2},
    ],
)
def test_a_step_copies_nothing_from_python_and_asks_for_no_value(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph can hold neither: numbers are filled in on the device."""
    config = TrainConfig.model_validate({"batch_size": 8} | settings)
    images = DecodedImages(np.zeros((8, 16, 16, 3), np.uint8), np.arange(8), np.arange(8))
    opened = Batches(images, 10, config, 16, torch.device("cpu"), Kept())
    network = build(presets.load("mnasnet_small", num_classes=10)).train()
    learner = Learner(network, config, torch.device("cpu"))
    learner.turn_to(0.1)
    (batch,) = opened.epoch(torch.Generator())
    opened.inputs(batch)  # as the eager steps before a capture, which make constants

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the step waits for the device, or copies to it")

    for name in ("item", "tolist", "__bool__", "__float__", "cpu"):
        monkeypatch.setattr(Tensor, name, refuse)
    monkeypatch.setattr(torch, "tensor", refuse)
    # torch's CPU kernels read the rate and the labels; those of a GPU do not.
    monkeypatch.setattr(learner.optimizer, "step", lambda: None)
    learner.step(*opened.inputs(batch))


@cuda
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf", "adamw"])
def test_on_a_gpu_the_first_replays_give_the_losses_and_weights_of_eager_steps(
    optimizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At a low rate and over 64 images, so that rounding in bfloat16 does not decide the test."""

    def captured(learner: Learner, step: Callable[[Batch], Tensor]) -> CapturedStep:
        graph = CudaGraph(torch.device("cuda"), learner.generator)
        return CapturedStep(step, graph, learner.renew_generator)

    config = TrainConfig.model_validate({"optimizer": optimizer})
    with torch.cuda.stream(torch.cuda.Stream()):
        eager, weights = losses("cuda", config, lambda _, step: step, **CLOSE)
        replayed, same = losses("cuda", config, captured, **CLOSE)
    assert not caplog.records  # it was captured
    assert replayed == pytest.approx(eager, rel=TOLERANCE)
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf", "adamw"])
def test_rounding_to_bfloat16_does_not_exceed_the_tolerance_of_the_gpu_test(
    optimizer: str,
) -> None:
    """Emulated on a CPU: the same steps with images that are rounded."""
    config = TrainConfig.model_validate({"optimizer": optimizer})
    exact, _ = losses("cpu", config, lambda _, step: step, **CLOSE)
    rounded, _ = losses("cpu", config, rounding, **CLOSE)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=TOLERANCE)


@cuda
def test_on_a_gpu_dropout_draws_anew_at_every_replay() -> None:
    device = torch.device("cuda")
    generator = torch.Generator(device).manual_seed(0)
    module = nn.Identity()

    def step(batch: Batch) -> Tensor:
        x = module(batch["x"])
        return x.new_empty(x.shape).bernoulli_(0.5, generator=generator).sum()

    with torch.cuda.stream(torch.cuda.Stream()):
        captured = CapturedStep(step, CudaGraph(device, generator), lambda: None)
        found = [captured({"x": torch.zeros(1000, device=device)}).item() for _ in range(10)]
    assert len(set(found)) > 5
