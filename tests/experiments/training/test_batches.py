"""Which images a training sees, and in which batches."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.training.batches import (
    Batches,
    balanced_weights,
    plan_steps,
    stratified_part,
)
from experiments.training.readers import Kept, open_reader

CPU = torch.device("cpu")


def numbered(count: int, resolution: int = 8) -> DecodedImages:
    """Images whose every pixel is their index, as is their label."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    pixels = np.broadcast_to(pixels, (count, resolution, resolution, 3)).copy()
    return DecodedImages(pixels, np.arange(count), np.arange(count))


def opened(count: int, resolution: int, **settings: object) -> Batches:
    config = TrainConfig.model_validate({"batch_size": 4} | settings)
    return Batches(numbered(count), count, config, resolution, CPU, Kept())


def shown(batches: Batches, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """The inputs and targets of an epoch."""
    return [batches.inputs(each) for each in batches.epoch(torch.Generator().manual_seed(seed))]


@settings(deadline=None)
@given(images=st.integers(1, 3000), batch_size=st.integers(2, 512))
def test_steps_are_equal_not_too_large_and_leave_out_less_than_one_image_each(
    images: int, batch_size: int
) -> None:
    steps, size = plan_steps(images, batch_size)
    assert 1 <= size <= batch_size
    assert images - steps < steps * size <= images
    assert images <= steps * batch_size < images + batch_size


@settings(deadline=None)
@given(images=st.integers(4, 3000), batch_size=st.integers(3, 512))
def test_no_batch_has_a_single_image(images: int, batch_size: int) -> None:
    assert plan_steps(images, batch_size).batch_size >= 2


def test_an_epoch_shows_every_image_once_with_its_label() -> None:
    seen = shown(opened(12, 8, crop="pad"))
    labels = torch.cat([labels for _, labels in seen])
    assert sorted(labels.tolist()) == list(range(12))
    assert labels.tolist() != list(range(12))
    # A brighter image has a higher label, whatever was shifted and flipped.
    brightness = torch.cat([images.mean((1, 2, 3)) for images, _ in seen])
    assert brightness.argsort().equal(labels.argsort())


@pytest.mark.parametrize("crop", ["none", "pad", "resized"])
@pytest.mark.parametrize("resolution", [5, 8, 11])
def test_batches_have_the_networks_resolution(crop: str, resolution: int) -> None:
    images, _ = shown(opened(8, resolution, crop=crop))[0]
    assert images.shape == (4, 3, resolution, resolution)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_same_generator_gives_the_same_epoch() -> None:
    batches = opened(12, 6, crop="resized")
    first, again, other = (
        torch.cat([images for images, _ in shown(batches, seed)]) for seed in (1, 1, 2)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_a_reader_resizes_and_gives_what_is_asked() -> None:
    (pixels,) = open_reader(numbered(20), CPU, 4, Kept())([torch.tensor([3, 17, 3])])
    assert pixels.shape == (3, 4, 4, 3)
    assert pixels[:, 0, 0, 0].tolist() == [3, 17, 3]


@pytest.mark.parametrize("crop", ["pad", "resized"])
def test_images_that_stream_are_those_that_are_kept(
    crop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (30, 9, 9, 1), np.uint8)
    images = DecodedImages(pixels, np.arange(30), np.zeros(30, np.int64))
    config = TrainConfig.model_validate({"batch_size": 4, "crop": crop})

    def epoch() -> list[tuple[Tensor, Tensor]]:
        return shown(Batches(images, 10, config, 6, CPU, Kept()))

    kept = epoch()
    assert len(kept) == 8
    monkeypatch.setattr("experiments.training.readers._CPU_ROOM", 0)
    for (x, labels), (also_x, also_labels) in zip(kept, epoch(), strict=True):
        assert x.equal(also_x)
        assert labels.equal(also_labels)


def test_an_error_of_reading_ahead_is_raised_where_the_batch_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(DecodedImages, "read", read)
    monkeypatch.setattr("experiments.training.readers._CPU_ROOM", 0)
    with pytest.raises(OSError, match="the disk is gone"):
        list(open_reader(numbered(8), CPU, 4, Kept())([torch.arange(4)]))


def test_training_runs_share_what_is_kept_and_the_oldest_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, images = Kept(), numbered(10)
    first = kept.get(images, CPU, 4)
    assert kept.get(images.subset(np.arange(10)), CPU, 4) is first
    assert kept.get(images.subset(np.arange(9)), CPU, 4) is not first
    monkeypatch.setattr("experiments.training.readers._CPU_ROOM", 1000)
    assert kept.get(images, CPU, 5) is not None  # 750 bytes: there is room for nothing else
    assert kept.get(images, CPU, 4) is not first
    assert kept.get(images, CPU, 6) is None
    assert pickle.loads(pickle.dumps(kept)).get(images, CPU, 6) is None


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_a_part_has_its_share_of_every_class(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    part = stratified_part(labels, fraction, seed)
    assert len(set(part.tolist())) == len(part)
    found = np.bincount(labels[part], minlength=len(counts)).tolist()
    assert found == [max(1, round(fraction * count)) for count in counts]


def test_a_part_follows_from_the_seed() -> None:
    labels = np.repeat(np.arange(3), 50)
    assert np.array_equal(stratified_part(labels, 0.5, 1), stratified_part(labels, 0.5, 1))
    assert not np.array_equal(stratified_part(labels, 0.5, 1), stratified_part(labels, 0.5, 2))
    assert np.array_equal(stratified_part(labels, 1.0, 1), np.arange(150))


def test_balanced_weights_let_every_class_with_images_count_equally() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [3] * 10)
    weights = balanced_weights(labels, 5).double()
    assert torch.isfinite(weights).all()
    sums = torch.bincount(torch.from_numpy(labels), weights[labels], 5)
    assert sums.tolist() == pytest.approx([100 / 3, 100 / 3, 0, 100 / 3, 0])
