"""One training in two processes is the one in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.evaluators.data_parallel import DataParallelEvaluator
from experiments.evaluators.training import TrainingEvaluator
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.evaluation import Budget, Epoch, Interrupted, Job, Measurement, Status

ARCHITECTURE = Architecture(
    stem=Stem(channels=8, stride=1),
    stages=(Stage(Operator.INVERTED, channels=8, repeats=2, stride=2, expansion=3),),
    head=Head(channels=16),
    resolution=12,
    num_classes=4,
)
BUDGET = Budget(epochs=3, seed=1)
TWO = [{"OMP_NUM_THREADS": "1"}] * 2


def images(path: Path, count: int, seed: int) -> DecodedImages:
    """Images on disk whose class is where they are bright."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    pixels = draw.integers(0, 120, (count, 12, 12, 3), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[3 * label : 3 * label + 3] += 100
    np.save(path, pixels)
    return DecodedImages(np.load(path, mmap_mode="r"), np.arange(count), labels)


@pytest.fixture
def evaluator(tmp_path: Path) -> TrainingEvaluator:
    return TrainingEvaluator(
        train=images(tmp_path / "train.npy", 200, 1),
        held_out=images(tmp_path / "held_out.npy", 51, 2),  # parts of 25 and 26
        config=TrainConfig(batch_size=40, checkpoint_seconds=0),
        checkpoints=tmp_path / "checkpoints",
        device="cpu",
        threads=1,
        weights=tmp_path / "weights",
    )


def told(epochs: tuple[Epoch, ...]) -> list[tuple[float, float, float]]:
    return [(epoch.train_loss, epoch.loss, epoch.accuracy) for epoch in epochs]


def test_two_processes_give_what_one_does(evaluator: TrainingEvaluator) -> None:
    reported: list[Epoch] = []
    alone = evaluator(ARCHITECTURE, BUDGET, lambda _: False)
    path = evaluator.weights_path(ARCHITECTURE, BUDGET)
    weights = load_file(path)
    path.unlink()
    evaluator.forget(ARCHITECTURE, BUDGET)

    both = DataParallelEvaluator(evaluator, TWO)(
        ARCHITECTURE, BUDGET, lambda epoch: bool(reported.append(epoch))
    )
    assert both.status is Status.COMPLETE, both.reason
    assert tuple(reported) == both.epochs
    assert both.images == alone.images
    np.testing.assert_allclose(told(both.epochs), told(alone.epochs), rtol=1e-4)
    shared = load_file(path)
    assert shared.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=1e-4)


def test_two_processes_repeat_together_what_they_start_from(evaluator: TrainingEvaluator) -> None:
    budget = replace(BUDGET, epochs=1)
    start = evaluator.trained(Job("smaller", ARCHITECTURE, budget))
    growing = replace(evaluator, starts=(start,))
    larger = replace(ARCHITECTURE, head=Head(channels=24))
    budget = replace(budget, start=start.name)
    both = DataParallelEvaluator(growing, TWO)(larger, budget, lambda _: False)
    assert both.status is Status.COMPLETE, both.reason
    assert start.path.is_file()


def test_an_interrupted_shared_training_goes_on_in_one_process(
    evaluator: TrainingEvaluator,
) -> None:
    def interrupt(epoch: Epoch) -> bool:
        if epoch.epoch == 2:
            raise Interrupted
        return False

    with pytest.raises(Interrupted):
        DataParallelEvaluator(evaluator, TWO)(ARCHITECTURE, BUDGET, interrupt)
    resumed = evaluator(ARCHITECTURE, BUDGET, lambda _: False)
    evaluator.forget(ARCHITECTURE, BUDGET)
    whole = evaluator(ARCHITECTURE, BUDGET, lambda _: False)
    np.testing.assert_allclose(told(resumed.epochs), told(whole.epochs), rtol=1e-4)


def test_a_stopped_shared_training_is_pruned(evaluator: TrainingEvaluator) -> None:
    run: Callable[..., Measurement] = DataParallelEvaluator(evaluator, TWO)
    pruned = run(ARCHITECTURE, BUDGET, lambda epoch: epoch.epoch == 1)
    assert pruned.status is Status.PRUNED
    assert len(pruned.epochs) == 1


def test_a_network_that_diverges_fails_its_shared_training(evaluator: TrainingEvaluator) -> None:
    wild = replace(evaluator, config=TrainConfig(batch_size=40, learning_rate=1e9, ema_decay=0))
    failed = DataParallelEvaluator(wild, TWO)(ARCHITECTURE, BUDGET, lambda _: False)
    assert failed.status is Status.FAILED
    assert "diverged" in str(failed.reason)
