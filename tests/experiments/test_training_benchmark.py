"""The benchmark of training: the loops that it compares with learn, and its sums are right."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.benchmarks import loops, profile, training
from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from space.architecture import Architecture, Head, Operator, Stage, Stem

NETWORK = Architecture(
    Stem(8), (Stage(Operator.SEPARABLE, 8),), Head(16), resolution=32, num_classes=2
)


def halves(count: int) -> DecodedImages:
    """The left half is brighter in class 0, the upper one in class 1; a flip changes neither."""
    labels = np.arange(count) % 2
    pixels = np.full((count, 32, 32, 3), 60, np.uint8)
    pixels[labels == 0, 8:24, 8:24] = 250
    pixels[labels == 1, :8] = 250
    return DecodedImages(pixels, np.arange(count), labels)


@pytest.mark.parametrize("advised", [True, False])
def test_a_loop_learns_what_can_be_learned(
    advised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "WORKERS", 0)
    torch.manual_seed(0)
    train, held_out = halves(128), halves(32)
    sets = loops.decoded(train, held_out)
    if not advised:
        sets = loops.files(train, held_out, tmp_path)
    loop = loops.Loop(False, torch.device("cpu"), mixed_precision=False)
    config = TrainConfig(batch_size=16)
    outcome = loops.run(loops.plain(NETWORK), *sets, loop, config, epochs=3)
    assert outcome.accuracy > 0.9
    assert outcome.seconds > 0


def test_a_decoded_image_and_its_file_are_the_same_input(tmp_path: Path) -> None:
    train, held_out = halves(4), halves(4)
    (_, decoded), (_, files) = (
        loops.decoded(train, held_out),
        loops.files(train, held_out, tmp_path),
    )
    for (x, label), (also_x, also_label) in zip(
        map(decoded.__getitem__, range(4)), map(files.__getitem__, range(4)), strict=True
    ):
        assert label == also_label
        torch.testing.assert_close(x, also_x, atol=0.2, rtol=0)  # a JPEG's loss


def trained(*accuracies: float) -> dict[str, dict[str, float]]:
    return {str(i): {"accuracy": value, "seconds": 1.0} for i, value in enumerate(accuracies)}


def test_a_gain_is_over_the_networks_that_both_trained() -> None:
    found = training._difference(trained(0.5, 0.6, 0.9), trained(0.4, 0.4))
    assert found["networks"] == 2
    assert found["mean"] == pytest.approx(0.15)
    # Student's t: 12.71 · √(0.005 / 2)
    assert found["half_width"] == pytest.approx(12.71 * math.sqrt(0.005 / 2))


def test_a_profiles_parts_are_all_of_it() -> None:
    parts = profile._parts(lambda: sum(range(1000)))
    assert set(parts) == {"data", "forward", "backward", "optimiser", "validation", "rest"}
    assert parts["rest"] == pytest.approx(sum(parts.values()))
