"""The training loop: it learns, repeats itself, continues where it stopped, and survives."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.train import TrainingResult, TrainingTask, initial_weights, train
from experiments.training import measure
from experiments.training.learner import Learner, warm_decay
from experiments.training.measure import accuracy, class_accuracies
from space import evaluation
from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.evaluation import Budget, Epoch, Measurement, Status
from space.network import build

CPU = torch.device("cpu")
BUDGET = Budget(epochs=3, resolution=8)
CONFIG = TrainConfig(batch_size=16, checkpoint_seconds=0)

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def coloured(count: int, *, channels: int = 3, resolution: int = 8, seed: int = 0) -> DecodedImages:
    """Noise in which the upper half is brighter in class 0, and the lower half in class 1."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 2)
    pixels = generator.integers(0, 128, (count, resolution, resolution, channels), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        half = slice(0, resolution // 2) if label == 0 else slice(resolution // 2, None)
        image[half] += 100
    return DecodedImages(pixels, np.arange(count), labels)


def architecture(channels: int = 3, resolution: int = 8) -> Architecture:
    return Architecture(
        Stem(8, stride=1),
        (
            Stage(Operator.SEPARABLE, 8),
            Stage(Operator.INVERTED, 8, repeats=2, stride=2, expansion=2, se=SqueezeExcite()),
        ),
        Head(16),
        resolution=resolution,
        num_classes=2,
        in_channels=channels,
        dropout=0.2,
        stochastic_depth=0.2,
    )


def built(seed: int = 0, **facts: Any) -> nn.Module:
    with initial_weights(seed):
        return build(architecture(**facts))


def task(train_images: int = 64, **facts: Any) -> TrainingTask:
    return TrainingTask(
        coloured(train_images, **facts), coloured(30, **facts, seed=1), num_classes=2
    )


def run(
    network: nn.Module | None = None,
    *,
    on: TrainingTask | None = None,
    config: TrainConfig = CONFIG,
    budget: Budget = BUDGET,
    report: Callable[[Epoch], bool] = lambda _: False,
    **more: Any,
) -> TrainingResult:
    network = built(budget.seed) if network is None else network
    more = {"device": CPU} | more
    return train(network, on or task(), config, budget, report=report, **more)


def outcome(trained: TrainingResult) -> tuple[Measurement, list[Tensor]]:
    """What a training found, without what depends on the clock."""
    measurement = trained.measurement
    epochs = tuple(replace(epoch, seconds=0) for epoch in measurement.epochs)
    timeless = {"train_seconds": 0, "validation_seconds": 0, "peak_memory": None}
    state = list(trained.network.state_dict().values())
    return replace(measurement, epochs=epochs, **timeless), state


def assert_same(one: TrainingResult, other: TrainingResult) -> None:
    (measured, weights), (also_measured, also_weights) = outcome(one), outcome(other)
    assert measured == also_measured
    assert all(a.equal(b) for a, b in zip(weights, also_weights, strict=True))
    assert one.predictions is not None
    assert other.predictions is not None
    assert one.predictions.equal(other.predictions)


class Interrupted(BaseException):
    """As a signal would be."""


def interrupt_after(epoch: int) -> Callable[[Epoch], bool]:
    def report(told: Epoch) -> bool:
        if told.epoch == epoch:
            raise Interrupted
        return False

    return report


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf", "adamw"])
def test_every_optimiser_learns_what_can_be_learned(optimizer: str) -> None:
    rate = 0.2 if optimizer == "sgd" else 0.05
    settings = {"optimizer": optimizer, "learning_rate": rate, "batch_size": 16, "crop": "none"}
    config = TrainConfig.model_validate(settings)
    trained = run(config=config, budget=Budget(epochs=12, resolution=8))
    assert trained.measurement.accuracy == 1.0
    assert trained.measurement.loss is not None
    assert trained.measurement.loss < 0.5


def test_a_measurement_tells_all_epochs_times_and_memory() -> None:
    measured = run().measurement
    assert measured.status is Status.COMPLETE
    assert [epoch.epoch for epoch in measured.epochs] == [1, 2, 3]
    assert measured.accuracy == measured.epochs[-1].accuracy
    assert measured.loss == measured.epochs[-1].loss
    assert measured.images == 30
    total = sum(epoch.seconds for epoch in measured.epochs)
    assert total == pytest.approx(measured.train_seconds + measured.validation_seconds)
    assert measured.peak_memory is not None
    assert measured.peak_memory > 50e6


def test_test_images_are_measured_once_after_the_last_epoch(monkeypatch) -> None:
    measured_on = []

    def evaluate(network, read, labels, *more):
        measured_on.append(len(labels))
        return measure.evaluate(network, read, labels, *more)

    monkeypatch.setattr("experiments.train.evaluate", evaluate)
    test = coloured(20, seed=2)
    trained = run(on=replace(task(), held_out=None, test=test))
    assert measured_on == [20]
    measured = trained.measurement
    assert [(each.accuracy, each.loss) for each in measured.epochs] == [(None, None)] * 3
    assert trained.predictions is not None
    right = trained.predictions == torch.from_numpy(test.labels)
    assert (measured.images, measured.accuracy) == (20, right.double().mean().item())

    with_held_out = run(on=replace(task(), test=test)).measurement
    assert measured_on[1:] == [30, 30, 30, 20]
    assert None not in [each.accuracy for each in with_held_out.epochs]
    assert with_held_out.accuracy == measured.accuracy


def test_a_patient_training_run_ends_at_the_weights_of_its_best_epoch(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(2, size=30)
    on = replace(task(), held_out=replace(coloured(30, seed=1), labels=labels))
    budget = replace(BUDGET, epochs=12, patience=2)
    trained = run(on=on, budget=budget)
    measured = trained.measurement
    accuracies = [each.accuracy for each in measured.epochs]
    best = accuracies.index(max(accuracies))
    assert len(accuracies) == best + 1 + 2 < 12
    assert measured.status is Status.COMPLETE
    assert (measured.accuracy, measured.loss) == (accuracies[best], measured.epochs[best].loss)

    checkpoint = tmp_path / "checkpoint"
    for epoch in range(1, len(accuracies) + 1):
        with pytest.raises(Interrupted):
            run(on=on, budget=budget, checkpoint=checkpoint, report=interrupt_after(epoch))
    assert_same(run(on=on, budget=budget, checkpoint=checkpoint), trained)


def test_accuracy_and_loss_are_those_of_the_returned_network() -> None:
    on = task()
    trained = run(on=on)
    pixels = torch.from_numpy(on.held_out.read(np.arange(30))).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    labels = torch.from_numpy(on.held_out.labels)
    with torch.no_grad():
        logits = trained.network.eval()((pixels - mean[:, None, None]) / std[:, None, None])
    measured = trained.measurement
    assert measured.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert measured.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), 1e-4)
    assert trained.predictions is not None
    assert trained.predictions.equal(logits.argmax(1))


def test_the_same_seed_gives_the_same_training_and_another_seed_another() -> None:
    one, same = run(), run()
    other = run(budget=replace(BUDGET, seed=1))
    assert_same(one, same)
    assert outcome(one)[0] != outcome(other)[0]


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run()
    assert torch.rand(3).equal(expected)


def test_a_training_run_interrupted_after_its_last_epoch_still_gives_predictions(
    tmp_path: Path,
) -> None:
    def report(told: Epoch) -> bool:
        if told.epoch == BUDGET.epochs:
            raise evaluation.Interrupted
        return False

    path = tmp_path / "training.pt"
    with pytest.raises(evaluation.Interrupted):
        run(report=report, checkpoint=path)
    assert_same(run(built(seed=7), checkpoint=path), run())


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "rmsprop_tf", "adamw"])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    optimizer: str, tmp_path: Path
) -> None:
    settings = {"optimizer": optimizer, "batch_size": 16, "checkpoint_seconds": 0}
    config = TrainConfig.model_validate(settings | {"crop": "resized", "learning_rate": 0.02})
    common: dict[str, Any] = {"config": config, "checkpoint": tmp_path / "training.pt"}
    whole = run(config=config)
    for epoch in (2, 3):
        with pytest.raises(Interrupted):
            run(report=interrupt_after(epoch), **common)
    told: list[int] = []
    continued = run(built(seed=7), report=lambda epoch: told.append(epoch.epoch) or False, **common)
    assert_same(whole, continued)
    assert told == [1, 2, 3]


def test_a_continued_training_trains_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "training.pt"
    with pytest.raises(Interrupted):
        run(report=interrupt_after(3), checkpoint=path)
    steps = []
    step = Learner.step
    monkeypatch.setattr(Learner, "step", lambda *arguments: steps.append(1) or step(*arguments))
    run(checkpoint=path)
    assert len(steps) == 4  # of 64 images in batches of 16: the third epoch


def test_a_checkpoint_is_written_only_when_the_last_is_old(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    run(config=CONFIG.model_copy(update={"checkpoint_seconds": 1e6}), checkpoint=path)
    assert not path.exists()
    run(checkpoint=path)
    assert path.exists()


def test_an_unreadable_checkpoint_is_reported_and_the_training_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "training.pt"
    run(checkpoint=path)
    expected, whole = run(), path.read_bytes()
    for content in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(content)
        caplog.clear()
        assert_same(run(checkpoint=path), expected)
        assert "training.pt: cannot read the checkpoint, so training starts from" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"budget": replace(BUDGET, seed=1)},
        {"budget": replace(BUDGET, epochs=4)},
        {"config": CONFIG.model_copy(update={"learning_rate": 0.3})},
        {"on": task(48)},
    ],
    ids=["seed", "epochs", "rate", "images"],
)
def test_a_checkpoint_of_another_training_is_not_continued(
    change: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "training.pt"
    run(checkpoint=path)
    assert_same(run(checkpoint=path, **change), run(**change))
    assert "is from another training run" in caplog.text


def test_how_often_checkpoints_are_written_does_not_make_another_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "training.pt"
    run(checkpoint=path)
    run(checkpoint=path, config=CONFIG.model_copy(update={"checkpoint_seconds": 30}))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "settings",
    [
        {"randaugment": 9.0, "colour": 0.4},
        {"mixup": 0.2, "cutmix": 1.0},
        {"resolutions": (0.5, 1.0), "crop": "resized"},
        {"mixup": 0.5, "randaugment": 5.0, "crop": "resized", "resolutions": (0.5, 0.5)},
    ],
)
def test_an_augmented_training_repeats_itself_and_continues(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    config = TrainConfig.model_validate(CONFIG.model_dump() | settings)
    path = tmp_path / "training.pt"
    with pytest.raises(Interrupted):
        run(config=config, report=interrupt_after(3), checkpoint=path)
    whole = run(config=config)
    assert whole.measurement.status is Status.COMPLETE
    assert_same(run(built(seed=7), config=config, checkpoint=path), whole)


@pytest.mark.parametrize(
    ("resolution", "first", "expected"),
    [
        (18, 0.5, [10, 14, 18]),
        (24, 0.5, [12, 16, 24]),  # as even or odd on the way as at the end
        (17, 16 / 17, [17, 17, 17]),  # 16 pixels pad otherwise: no network may learn for them
    ],
)
def test_a_training_grows_to_the_networks_resolution(
    monkeypatch: pytest.MonkeyPatch, resolution: int, first: float, expected: list[int]
) -> None:
    seen = []
    step = Learner.step
    monkeypatch.setattr(
        Learner, "step", lambda self, x, y: seen.append(x.shape[2]) or step(self, x, y)
    )
    config = CONFIG.model_copy(update={"resolutions": (first, 1.0), "batch_size": 64})
    on, budget = task(resolution=resolution), Budget(epochs=3, resolution=resolution)
    measured = run(on=on, config=config, budget=budget).measurement
    assert seen == expected
    assert measured.status is Status.COMPLETE


def test_a_report_prunes_at_once() -> None:
    trained = run(report=lambda epoch: epoch.epoch == 2)
    measured = trained.measurement
    assert measured.status is Status.PRUNED
    assert [epoch.epoch for epoch in measured.epochs] == [1, 2]
    assert measured.accuracy == measured.epochs[1].accuracy


def test_nothing_is_left_to_prune_after_the_last_epoch() -> None:
    assert run(report=lambda epoch: epoch.epoch == 3).measurement.status is Status.COMPLETE


def test_a_loss_that_is_not_finite_fails_the_training_and_says_so() -> None:
    network = built()
    nn.init.constant_(network.classifier.bias, float("nan"))
    measured = run(network).measurement
    assert measured.status is Status.FAILED
    assert measured.reason == (
        "training in epoch 1 diverged: the loss is nan; try a lower learning rate"
    )
    assert measured.accuracy is None


def test_divergence_keeps_the_epochs_before_it() -> None:
    network = built()

    def spoil(epoch: Epoch) -> bool:
        if epoch.epoch == 2:
            nn.init.constant_(network.classifier.bias, float("inf"))
        return False

    measured = run(network, report=spoil).measurement
    assert measured.status is Status.FAILED
    assert measured.reason is not None
    assert "epoch 3" in measured.reason
    assert [epoch.epoch for epoch in measured.epochs] == [1, 2]


class Broken(nn.Module):
    """Raises `error` in training or in evaluation mode."""

    def __init__(self, error: Exception, *, training: bool) -> None:
        super().__init__()
        self.linear, self.error, self.when = nn.Linear(3, 2), error, training

    def forward(self, x: Tensor) -> Tensor:
        if self.training is self.when:
            raise self.error
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("too few pixels\nmore"), "raised ValueError: too few pixels"),
        (ArithmeticError(), "raised ArithmeticError: no message"),
        (torch.OutOfMemoryError("CUDA out of memory."), "ran out of memory"),
        (MemoryError(), "ran out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't"), "ran out of memory"),
    ],
)
def test_what_a_network_raises_fails_the_training_and_is_told(
    error: Exception, reason: str
) -> None:
    training = run(Broken(error, training=True)).measurement
    assert training.status is Status.FAILED
    assert training.reason == f"training with batches of (16, 3, 8, 8) {reason}"
    validation = run(Broken(error, training=False)).measurement
    assert validation.status is Status.FAILED
    assert validation.reason == f"validation {reason}"


def test_what_the_data_raise_is_not_the_networks_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(DecodedImages, "read", read)
    with pytest.raises(OSError, match="the disk is gone"):
        run()


@pytest.mark.parametrize(("channels", "resolution"), [(1, 8), (3, 9), (1, 13), (3, 5)])
def test_grey_images_and_odd_resolutions_train(channels: int, resolution: int) -> None:
    measured = run(
        built(channels=channels, resolution=resolution),
        on=task(channels=channels),
        budget=Budget(epochs=1, resolution=resolution),
    ).measurement
    assert measured.status is Status.COMPLETE


@pytest.mark.parametrize("images", [2, 17, 33])
def test_no_number_of_images_leaves_a_batch_that_batch_norm_cannot_use(images: int) -> None:
    trained = run(on=task(images), budget=Budget(epochs=1, resolution=8))
    assert trained.measurement.status is Status.COMPLETE


def test_a_data_fraction_takes_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    step = Learner.step
    monkeypatch.setattr(
        Learner, "step", lambda self, x, y: sizes.append(len(x)) or step(self, x, y)
    )
    run(budget=Budget(epochs=1, data_fraction=0.5, resolution=8))
    assert sizes == [16, 16]


def test_the_moving_average_is_tensorflows_with_warm_up() -> None:
    assert [warm_decay(step, 0.9) for step in (1, 2, 8)] == [2 / 11, 3 / 12, 9 / 18]
    assert warm_decay(10**6, 0.9) == 0.9


def test_averaged_weights_and_statistics_follow_the_formula() -> None:
    network = built()
    learner = Learner(network, CONFIG, CPU)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    for step in range(1, 4):
        learner.turn_to(0.1)
        learner.step(torch.randn(8, 3, 8, 8), torch.arange(8) % 2)
        decay = (1 + step) / (10 + step)
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:  # batch norm's count of batches
                expected[name] = torch.tensor(step)
    torch.testing.assert_close(dict(learner.averaged.state_dict()), expected)
    assert any("running_mean" in name for name in expected)


def test_without_averaging_the_network_itself_is_measured() -> None:
    network = built()
    trained = run(network, config=CONFIG.model_copy(update={"ema_decay": 0.0}))
    assert trained.network is network
    assert trained.measurement.status is Status.COMPLETE


def test_early_statistics_of_batch_norm_are_those_of_the_images() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.01), nn.Flatten(), nn.Linear(48, 2))
    learner = Learner(network, CONFIG, CPU)
    for _ in range(30):
        learner.turn_to(0.0)
        learner.step(5 + torch.randn(32, 3, 4, 4), torch.arange(32) % 2)
    found = network[0].running_mean
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, torch.full((3,), 5.0), atol=0.1, rtol=0)


def test_a_gradient_norm_is_clipped() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    before = network[1].weight.detach().clone()
    settings = {"clip_norm": 0.5, "momentum": 0.0, "weight_decay": 0.0}
    learner = Learner(network, CONFIG.model_copy(update=settings), CPU)
    learner.turn_to(1.0)
    learner.step(100 * torch.ones(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64))
    step = (network[1].weight.detach() - before).norm()
    assert step.item() == pytest.approx(0.5, rel=1e-4)


def test_balanced_accuracy_weighs_classes_alike() -> None:
    labels = torch.tensor([0] * 8 + [1] * 2)
    predictions = torch.tensor([0] * 8 + [0, 1])
    assert accuracy(predictions, labels, 3, "top1") == pytest.approx(0.9)
    # Class 2 has no image, and does not count.
    assert accuracy(predictions, labels, 3, "balanced") == pytest.approx(0.75)
    assert class_accuracies(predictions, labels, 3)[:2].tolist() == [1.0, 0.5]


def test_the_metric_of_the_task_is_reported() -> None:
    on = replace(task(), metric="balanced")
    trained = run(on=on)
    labels = torch.from_numpy(on.held_out.labels)
    assert trained.predictions is not None
    right = (trained.predictions == labels).float()
    mean = (right[labels == 0].mean() + right[labels == 1].mean()) / 2
    assert trained.measurement.accuracy == pytest.approx(mean.item())


@cuda
def test_a_gpu_learns_what_a_cpu_learns() -> None:
    budget = Budget(epochs=12, resolution=8)
    on_cpu = run(budget=budget).measurement
    on_gpu = run(budget=budget, device=torch.device("cuda")).measurement
    assert on_gpu.accuracy == pytest.approx(on_cpu.accuracy, abs=0.1)
    assert on_gpu.peak_memory is not None
    assert on_gpu.peak_memory > 0


@cuda
def test_a_gpu_training_continues_from_a_cpus_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    with pytest.raises(Interrupted):
        run(report=interrupt_after(2), checkpoint=path)
    measured = run(device=torch.device("cuda"), checkpoint=path).measurement
    assert measured.status is Status.COMPLETE
    assert len(measured.epochs) == 3


@cuda
def test_a_gpu_reads_images_that_do_not_fit_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda")
    kept = run(device=device).measurement
    monkeypatch.setattr("experiments.training.readers._GPU_ROOM", 0.0)
    assert run(device=device).measurement.accuracy == pytest.approx(kept.accuracy, abs=0.1)


def test_pieces_of_a_batch_add_up_to_its_step() -> None:
    """Where no batch norm looks at the others, they are the same step."""
    images, labels = torch.randn(12, 3, 8, 8), torch.randint(0, 4, (12,))
    stepped = []
    for pieces in (1, 5):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
        learner = Learner(network, CONFIG, CPU, pieces=pieces)
        learner.turn_to(0.1)
        stepped.append((learner.step(images, labels), network[1].weight.detach()))
    for one, other in zip(*stepped, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_pieces_leave_batch_norm_the_mean_of_their_statistics() -> None:
    images, labels = torch.randn(12, 3, 8, 8), torch.randint(0, 3, (12,))
    network = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    learner = Learner(network, CONFIG, CPU, pieces=3)
    learner.turn_to(0.1)
    learner.step(images, labels)
    decay = warm_decay(1, 0.9)
    means = torch.stack([piece.mean((0, 2, 3)) for piece in images.chunk(3)]).mean(0)
    assert torch.allclose(network[0].running_mean, (1 - decay) * means, atol=1e-6)
