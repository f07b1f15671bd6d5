"""Random changes of colour and shape, drawn for each image and made for a batch at once.

Images are float N × C × H × W from 0 to 255. Strengths are those of RandAugment (Cubuk et al.
2019, table 6) at magnitude 10, in proportion to the magnitude.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Red, green and blue in a grey of the same brightness (ITU-R BT.601).
_GREY = (0.299, 0.587, 0.114)

_MOST_GAIN = 0.9
_MOST_DEGREES = 30.0
_MOST_SHEAR = 0.3
_MOST_SHIFT = 0.45
_MOST_LOST_BITS = 4

#: What may be changed; of each list one thing in every image, or nothing (assumed: RandAugment
#: draws any two of 14, with more of tone). The places of the first three are those in `gains`.
_TONES = ("brightness", "contrast", "saturation", "solarise", "posterise", "nothing")
_SHAPES = ("rotate", "shear x", "shear y", "shift x", "shift y", "nothing")


def draw_tones(
    count: int, *, colour: float, magnitude: float, generator: torch.Generator
) -> Tensor:
    """Changes of colour, count × 5: gains of brightness, contrast and saturation, the level from
    which light is turned to dark (solarise), and the distance of two levels (posterise).

    `colour` is the most by which every gain differs from 1; `magnitude` (0 to 10) is of one change.
    """
    tones = torch.tensor([1.0, 1.0, 1.0, 256.0, 1.0]).repeat(count, 1)
    tones[:, :3] += colour * _uniform((count, 3), generator)
    which = torch.randint(len(_TONES), (count, 1), generator=generator)
    gain = 1 + _MOST_GAIN * magnitude / 10 * _uniform((count, 1), generator)
    tones[:, :3] *= torch.where(which == torch.arange(3), gain, 1.0)
    strength = magnitude / 10 * torch.rand((count, 1), generator=generator)
    tones[:, 3:4] -= torch.where(which == 3, 256 * strength, 0.0)
    tones[:, 4:] *= torch.where(which == 4, 2 ** (_MOST_LOST_BITS * strength).round(), 1.0)
    return tones


def recolour(x: Tensor, tones: Tensor) -> Tensor:
    """`x` with the changes `tones` (N × 5), again 0 to 255."""
    brightness, contrast, saturation, solarise, posterise = tones.view(len(x), 5, 1, 1, 1).unbind(1)
    x = x * brightness
    grey = _grey(x)
    mean = grey.mean((1, 2, 3), keepdim=True)
    x = mean + (grey + (x - grey) * saturation - mean) * contrast
    x = x.clamp(0, 255)
    x = torch.where(x < solarise, x, 255 - x)
    return (x / posterise).floor() * posterise


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] != len(_GREY):
        return x.mean(1, keepdim=True)
    red, green, blue = x.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).unsqueeze(1)


def draw_warps(count: int, *, magnitude: float, generator: torch.Generator) -> Tensor:
    """Changes of shape, count × 2 × 3: what `torch.nn.functional.affine_grid` takes."""
    which = torch.randint(len(_SHAPES), (count,), generator=generator)
    strength = magnitude / 10 * _uniform((count,), generator)

    def if_drawn(shape: str, values: Tensor) -> Tensor:
        return torch.where(which == _SHAPES.index(shape), values, 0.0)

    angle = if_drawn("rotate", math.radians(_MOST_DEGREES) * strength)
    shear, shift = _MOST_SHEAR * strength, 2 * _MOST_SHIFT * strength  # a grid's side is 2
    rows = (
        *(angle.cos(), -angle.sin() + if_drawn("shear x", shear), if_drawn("shift x", shift)),
        *(angle.sin() + if_drawn("shear y", shear), angle.cos(), if_drawn("shift y", shift)),
    )
    return torch.stack(rows, dim=1).view(count, 2, 3)


def warp(x: Tensor, warps: Tensor) -> Tensor:
    """`x` in other shape; beyond its edges an image continues mirrored."""
    grid = F.affine_grid(warps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """From −1 to 1."""
    return 2 * torch.rand(shape, generator=generator) - 1
