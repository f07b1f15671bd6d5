"""Which images a training sees, and in which batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.training.batches import (
    divide,
    in_order,
    open_batches,
    open_reader,
    stratified_part,
)

CPU = torch.device("cpu")


def numbered(count: int, resolution: int = 8) -> DecodedImages:
    """Images whose every pixel is their index, as is their label."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    pixels = np.broadcast_to(pixels, (count, resolution, resolution, 3)).copy()
    return DecodedImages(pixels, np.arange(count), np.arange(count))


@settings(deadline=None)
@given(images=st.integers(1, 3000), batch_size=st.integers(2, 512))
def test_steps_are_equal_not_too_large_and_leave_out_less_than_one_image_each(
    images: int, batch_size: int
) -> None:
    steps, size = divide(images, batch_size)
    assert 1 <= size <= batch_size
    assert images - steps < steps * size <= images
    assert images <= steps * batch_size < images + batch_size


@settings(deadline=None)
@given(images=st.integers(4, 3000), batch_size=st.integers(3, 512))
def test_no_batch_has_a_single_image(images: int, batch_size: int) -> None:
    assert divide(images, batch_size).batch_size >= 2


def test_an_epoch_shows_every_image_once_with_its_label() -> None:
    config = TrainConfig(batch_size=4, crop="pad")
    batches = open_batches(numbered(12), config, 8, CPU)
    seen = list(batches.epoch(torch.Generator().manual_seed(0)))
    labels = torch.cat([labels for _, labels in seen])
    assert sorted(labels.tolist()) == list(range(12))
    assert labels.tolist() != list(range(12))
    # A brighter image has a higher label, whatever was shifted and flipped.
    brightness = torch.cat([images.mean((1, 2, 3)) for images, _ in seen])
    assert brightness.argsort().equal(labels.argsort())


@pytest.mark.parametrize("crop", ["none", "pad", "resized"])
@pytest.mark.parametrize("resolution", [5, 8, 11])
def test_batches_have_the_networks_resolution(crop: str, resolution: int) -> None:
    config = TrainConfig.model_validate({"batch_size": 4, "crop": crop})
    batches = open_batches(numbered(8), config, resolution, CPU)
    images, _ = next(batches.epoch(torch.Generator().manual_seed(0)))
    assert images.shape == (4, 3, resolution, resolution)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_same_generator_gives_the_same_epoch() -> None:
    batches = open_batches(numbered(12), TrainConfig(batch_size=4, crop="resized"), 6, CPU)
    first, again, other = (
        torch.cat([images for images, _ in batches.epoch(torch.Generator().manual_seed(seed))])
        for seed in (1, 1, 2)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_a_reader_resizes_and_gives_what_is_asked() -> None:
    read = open_reader(numbered(20), CPU, 4)
    pixels = read(torch.tensor([3, 17, 3]))
    assert pixels.shape == (3, 4, 4, 3)
    assert pixels[:, 0, 0, 0].tolist() == [3, 17, 3]


def test_what_is_kept_is_what_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (10, 9, 9, 1), np.uint8)
    images = DecodedImages(pixels, np.arange(10), np.zeros(10, np.int64))
    kept = open_reader(images, CPU, 6)
    monkeypatch.setattr("experiments.training.batches._CPU_ROOM", 0)
    indices = torch.tensor([9, 0, 4])
    assert open_reader(images, CPU, 6)(indices).equal(kept(indices))


@settings(deadline=None)
@given(count=st.integers(1, 50), batch_size=st.integers(1, 20))
def test_batches_in_order_hold_every_index_once(count: int, batch_size: int) -> None:
    assert torch.cat(list(in_order(count, batch_size))).tolist() == list(range(count))


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
