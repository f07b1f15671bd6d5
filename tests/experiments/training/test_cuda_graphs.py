"""A recorded step: the same step, whatever records it, and none where it cannot be recorded."""

import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.training.batches import Batch, open_batches
from experiments.training.cuda_graphs import CapturedStep, CudaGraph
from experiments.training.learner import Learner
from experiments.training.readers import Kept
from space import presets
from space.network import build

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


class Tape:
    """What a GPU's graph is to the step, on a CPU: recording does nothing, replaying does all, with
    the memory that was recorded and whatever it holds then."""

    def __init__(self) -> None:
        self.recorded: Callable[[], Tensor] | None = None
        self.replays = 0

    def record(self, step: Callable[[], Tensor]) -> Tensor:
        self.recorded, self.loss = step, torch.zeros(())
        return self.loss

    def replay(self) -> None:
        assert self.recorded is not None
        self.replays += 1
        self.loss.copy_(self.recorded())


class Broken(Tape):
    def record(self, step: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def batches(count: int, device: str = "cpu", seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "images": torch.randn(8, 3, 16, 16, generator=generator).to(device),
            "labels": torch.randint(0, 10, (8,), generator=generator).to(device),
        }
        for _ in range(count)
    ]


def losses(device: str, config: TrainConfig, wrap: Callable[[Learner, Callable], Callable]):
    """Of ten steps at changing rates, of a network that drops; and its weights after them."""
    torch.manual_seed(0)
    architecture = presets.load("efficientnet_b0", num_classes=10)
    learner = Learner(build(architecture).train(), config, torch.device(device))
    learner.generator.manual_seed(1)
    step = wrap(learner, lambda batch: learner.step(batch["images"], batch["labels"]))
    found = []
    for number, batch in enumerate(batches(10, device)):
        learner.turn_to(0.01 * (number + 1))
        found.append(step(batch).item())
    return found, learner.averaged.state_dict()


def recording(tape: Tape) -> Callable[[Learner, Callable], Callable]:
    return lambda learner, step: CapturedStep(step, tape, learner.renew_generator)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf", "adamw"])
def test_a_recorded_step_is_the_step(optimizer: str) -> None:
    config = TrainConfig.model_validate({"optimizer": optimizer, "clip_norm": 1.0})
    tape = Tape()
    told, weights = losses("cpu", config, lambda _, step: step)
    replayed, same = losses("cpu", config, recording(tape))
    assert replayed == told
    assert all(value.equal(same[name]) for name, value in weights.items())
    assert tape.replays == 7  # the first three are told


def test_what_cannot_be_recorded_goes_on_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    config = TrainConfig()
    told, _ = losses("cpu", config, lambda _, step: step)
    fallen_back, _ = losses("cpu", config, recording(Broken()))
    assert fallen_back == told
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    # Of ten steps three are told before the recording.
    assert warnings == [
        "steps are not recorded as a CUDA graph, which is slower: "
        "operation not permitted when stream is capturing"
    ]


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
    opened = open_batches(images, 10, config, 16, torch.device("cpu"), Kept())
    network = build(presets.load("mnasnet_small", num_classes=10)).train()
    learner = Learner(network, config, torch.device("cpu"))
    learner.turn_to(0.1)
    (batch,) = opened.epoch(torch.Generator())

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
def test_on_a_gpu_captured_and_eager_steps_give_the_same_losses(
    optimizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    def captured(learner: Learner, step: Callable[[Batch], Tensor]) -> CapturedStep:
        graph = CudaGraph(torch.device("cuda"), learner.generator)
        return CapturedStep(step, graph, learner.renew_generator)

    config = TrainConfig.model_validate({"optimizer": optimizer})
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        told, _ = losses("cuda", config, lambda _, step: step)
        replayed, _ = losses("cuda", config, captured)
    assert not caplog.records  # it was captured
    # bfloat16 keeps 8 bits, and sums run in another order (tolerance: 1 %).
    assert replayed == pytest.approx(told, rel=0.01)


@cuda
def test_on_a_gpu_dropout_draws_anew_at_every_replay() -> None:
    device = torch.device("cuda")
    generator = torch.Generator(device).manual_seed(0)
    module = nn.Identity()

    def step(batch: Batch) -> Tensor:
        x = module(batch["x"])
        return x.new_empty(x.shape).bernoulli_(0.5, generator=generator).sum()

    with torch.cuda.stream(torch.cuda.Stream()):
        recorded = CapturedStep(step, CudaGraph(device, generator), lambda: None)
        found = [recorded({"x": torch.zeros(1000, device=device)}).item() for _ in range(10)]
    assert len(set(found)) > 5
