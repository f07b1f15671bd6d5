"""Random changes of colour and shape, against what they are called."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from experiments.training import augment

UNCHANGED = torch.tensor([[1.0, 1.0, 1.0, 256.0, 1.0]])


def image(channels: int = 3, size: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, channels, size, size), generator=generator).float()


def tones(**changes: float) -> Tensor:
    names = ("brightness", "contrast", "saturation", "solarise", "posterise")
    values = dict(zip(names, UNCHANGED[0].tolist(), strict=True)) | changes
    return torch.tensor([[values[name] for name in names]])


def with_pillow(x: Tensor, change) -> Tensor:
    pixels = Image.fromarray(x[0].permute(1, 2, 0).to(torch.uint8).numpy())
    return torch.from_numpy(np.array(change(pixels))).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize(
    ("changes", "pillows"),
    [
        ({"brightness": 0.6}, lambda x: ImageEnhance.Brightness(x).enhance(0.6)),
        ({"contrast": 0.5}, lambda x: ImageEnhance.Contrast(x).enhance(0.5)),
        ({"saturation": 0.3}, lambda x: ImageEnhance.Color(x).enhance(0.3)),
        ({"solarise": 100.0}, lambda x: ImageOps.solarize(x, 100)),
        ({"posterise": 16.0}, lambda x: ImageOps.posterize(x, 4)),
    ],
)
def test_a_change_of_tone_is_pillows(changes, pillows) -> None:
    x = image()
    found = augment.recolour(x, tones(**changes))
    # Pillow rounds to whole levels at every step.
    torch.testing.assert_close(found, with_pillow(x, pillows), atol=1.5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_without_a_change_an_image_stays_as_it_is(channels: int) -> None:
    x = image(channels)
    torch.testing.assert_close(augment.recolour(x, UNCHANGED), x, atol=1e-3, rtol=0)
    identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    torch.testing.assert_close(augment.warp(x, identity), x, atol=1e-3, rtol=0)


def test_recoloured_images_keep_their_range() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = augment.draw_tones(200, colour=0.8, magnitude=10, generator=generator)
    found = augment.recolour(image().expand(200, -1, -1, -1), drawn)
    assert found.min() >= 0
    assert found.max() <= 255


def test_at_magnitude_nothing_nothing_is_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = augment.draw_tones(50, colour=0, magnitude=0, generator=generator)
    assert drawn.equal(UNCHANGED.expand(50, 5))
    warps = augment.draw_warps(50, magnitude=0, generator=generator)
    assert warps.equal(torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(50, 2, 3))


def test_every_image_has_at_most_one_change_of_tone_and_one_of_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = augment.draw_tones(600, colour=0, magnitude=10, generator=generator)
    changed = drawn != UNCHANGED
    assert changed.sum(1).max() == 1
    assert changed.any(0).all()
    warps = augment.draw_warps(600, magnitude=10, generator=generator)
    assert warps[..., 2].abs().max() <= 0.9  # 0.45 of a side, which is 2 long
    assert (warps[..., 2] != 0).any(1).logical_and(warps[:, 0, 1] != 0).sum() == 0


def test_a_rotated_image_is_rotated() -> None:
    x = image(size=8)
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]])
    torch.testing.assert_close(augment.warp(x, quarter), x.rot90(1, (2, 3)), atol=1e-3, rtol=0)


def test_every_image_is_changed_in_its_own_way() -> None:
    x = image().repeat(2, 1, 1, 1)
    both = augment.recolour(x, torch.cat([tones(brightness=0.5), tones(contrast=0.5)]))
    torch.testing.assert_close(both[:1], augment.recolour(x[:1], tones(brightness=0.5)))
    torch.testing.assert_close(both[1:], augment.recolour(x[:1], tones(contrast=0.5)))
