"""Views of images, against torch's own operations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from experiments.training import augment

WHOLE, FLIPPED = [0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, -1.0]


def pixels(count: int = 2, size: int = 12, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, size, size, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def views(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


def drawn(crop: str, flip: bool, count: int = 500, resolution: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return augment.draw_views(count, resolution, crop=crop, flip=flip, generator=generator)


@settings(deadline=None)
@given(size=st.integers(2, 40), out=st.integers(1, 40), channels=st.sampled_from([1, 3]))
def test_looking_at_a_whole_image_is_torchs_antialiased_resize(
    size: int, out: int, channels: int
) -> None:
    images = pixels(1, size, channels)
    x = images.permute(0, 3, 1, 2).float()
    expected = F.interpolate(x, (out, out), mode="bilinear", antialias=True)
    torch.testing.assert_close(augment.look(images, views(WHOLE), out), expected, atol=1e-3, rtol=0)


def test_looking_at_a_part_is_cropping_and_resizing() -> None:
    images = pixels(1, 16)
    seen = augment.look(images, views([0.25, 0.5, 0.125, 0.75]), 4)
    part = images[:, 4:12, 2:14].permute(0, 3, 1, 2).float()
    expected = F.interpolate(part, (4, 4), mode="bilinear", antialias=True)
    # At its edges a crop of an image sees the pixels beyond them, and a cut-out image does not.
    torch.testing.assert_close(seen[..., 1:3, 1:3], expected[..., 1:3, 1:3], atol=1e-3, rtol=0)


def test_every_image_has_its_own_view() -> None:
    images = pixels(3)
    together = augment.look(images, views(WHOLE, FLIPPED, [0.2, 0.5, 0.9, -0.4]), 7)
    for i, view in enumerate((WHOLE, FLIPPED, [0.2, 0.5, 0.9, -0.4])):
        alone = augment.look(images[i : i + 1], views(view), 7)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_a_flipped_view_mirrors_left_and_right() -> None:
    images = pixels()
    mirrored = images.flip(2)
    assert augment.shift(images, views(FLIPPED, FLIPPED)).equal(mirrored)
    torch.testing.assert_close(
        augment.look(images, views(FLIPPED, FLIPPED), 5),
        augment.look(mirrored, views(WHOLE, WHOLE), 5),
    )


@pytest.mark.parametrize("size", [5, 12, 33])
def test_shifting_is_padding_with_mirrored_edges_and_cropping(size: int) -> None:
    images = pixels(1, size)
    padded = np.pad(images[0].numpy(), ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    for dy in (-2, 0, 1):
        for dx in (-1, 0, 2):
            seen = augment.shift(images, views([dy / size, 1.0, dx / size, 1.0]))
            expected = padded[2 + dy : 2 + dy + size, 2 + dx : 2 + dx + size]
            assert np.array_equal(seen[0].numpy(), expected)


def test_shift_shows_what_look_shows() -> None:
    images, some = pixels(50, 16), drawn("pad", True, count=50, resolution=16)
    seen = augment.shift(images, some).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(augment.look(images, some, 16), seen, atol=0.02, rtol=0)


def test_no_crop_and_no_flip_show_the_whole_image() -> None:
    images = pixels()
    assert augment.shift(images, drawn("none", False, count=2)).equal(images)


def test_padding_shifts_by_whole_pixels_up_to_an_eighth() -> None:
    shifts = drawn("pad", False)[:, 0::2] * 32
    assert sorted(shifts.unique().tolist()) == list(range(-4, 5))


def test_about_half_of_the_images_are_flipped() -> None:
    flipped = (drawn("pad", True)[:, 3] < 0).float().mean()
    assert 0.4 < flipped < 0.6


def test_resized_crops_lie_inside_the_image_and_in_the_published_range() -> None:
    top, height, left, width = drawn("resized", False).unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 1 + 1e-6).all()
    assert (left + width <= 1 + 1e-6).all()
    area, ratio = height * width, width / height
    assert area.min() >= 0.08 - 1e-6
    assert area.min() < 0.12
    assert area.max() > 0.9
    assert ratio.min() >= 3 / 4 - 1e-6
    assert ratio.max() <= 4 / 3 + 1e-6


def test_flipping_a_crop_keeps_its_place() -> None:
    plain, flipped = drawn("resized", False), drawn("resized", True)
    mirrored = flipped[:, 3] < 0
    right = flipped[:, 2] + flipped[:, 3]
    torch.testing.assert_close(torch.where(mirrored, right, flipped[:, 2]), plain[:, 2])


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_pillows(channels: int) -> None:
    images = pixels(1, 24, channels)
    resized = augment.resize(images, 9)[0].numpy()
    plane = images[0, :, :, 0].numpy()
    expected = np.asarray(Image.fromarray(plane).resize((9, 9), Image.Resampling.BILINEAR))
    assert np.abs(resized[:, :, 0].astype(int) - expected.astype(int)).max() <= 1


def test_resizing_to_the_same_size_changes_nothing() -> None:
    images = pixels()
    assert augment.resize(images, 12) is images


@pytest.mark.parametrize(("channels", "mean", "std"), [(3, 0.485, 0.229), (1, 0.449, 0.226)])
def test_normalised_images_have_the_published_scale(channels: int, mean: float, std: float) -> None:
    images = pixels(2, 8, channels).permute(0, 3, 1, 2)
    normalised = augment.normalise(images)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        normalised[:, 0], (images[:, 0] / 255 - mean) / std, atol=1e-5, rtol=0
    )


def test_normalising_never_changes_its_input() -> None:
    x = torch.rand(2, 3, 4, 4).mul_(255).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    augment.normalise(x)
    assert x.equal(before)
