"""From stored images to the inputs of a network: resize, augment at random, normalise.

Everything is done to a batch at once, on whatever device it is on. `draw_…` functions draw what
happens to each image (or step) of an epoch; the others apply it. A view says which part of an image
is seen and in which direction, so crop, shift, flip and resize are one operation. Strengths of
colour and shape changes are those of RandAugment (Cubuk et al. 2019, table 6) at magnitude 10, in
proportion to the magnitude.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from space.convert import IMAGENET, PixelStatistics

#: Random resized crops. Source: Inception (Szegedy et al. 2015), as in most ImageNet training.
_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)

#: Weights of red, green and blue in a grey of the same brightness (ITU-R BT.601).
_GREY = (0.299, 0.587, 0.114)

_MAX_GAIN = 0.9
_MAX_DEGREES = 30.0
_MAX_SHEAR = 0.3
_MAX_SHIFT = 0.45
_MAX_LOST_BITS = 4

#: RandAugment applies one entry of each list to every image (assumed: the paper draws any two of
#: 14, most of which change colour).
_TONES = ("brightness", "contrast", "saturation", "solarise", "posterise", "nothing")
_SHAPES = ("rotate", "shear x", "shear y", "shift x", "shift y", "nothing")


@cache  # a captured step may copy nothing from the host
@torch.inference_mode(mode=False)
def _normalising_line(given: PixelStatistics, device: torch.device) -> tuple[Tensor, Tensor]:
    """Slope and offset that normalise pixels from 0 to 255, both C × 1 × 1."""
    mean, std = (torch.tensor(values)[:, None, None] for values in given)
    return (1 / (255 * std)).to(device), (-mean / std).to(device)


def normalise(x: Tensor, given: PixelStatistics = IMAGENET) -> Tensor:
    """Returns `x` (N × C × H × W, 0 to 255) normalised, in float32 and channels last in memory."""
    slope, offset = _normalising_line(given.of(x.shape[1]), x.device)
    x = x.to(torch.float32, memory_format=torch.channels_last, copy=True)
    return x.mul_(slope).add_(offset)


def resize(pixels: Tensor, resolution: int) -> Tensor:
    """Resizes `pixels` (N × H × W × C, uint8): bilinear, antialiased when it shrinks."""
    if pixels.shape[1] == pixels.shape[2] == resolution:
        return pixels
    x = pixels.permute(0, 3, 1, 2)
    if x.device.type != "cpu":  # only the CPU resizes bytes as they are
        x = x.float()
    x = F.interpolate(x, (resolution, resolution), mode="bilinear", antialias=True)
    if x.dtype is not torch.uint8:
        x = x.round_().clamp_(0, 255).to(torch.uint8)
    return x.permute(0, 2, 3, 1)


def draw_views(
    count: int, resolution: int, *, crop: str, flip: bool, generator: torch.Generator
) -> Tensor:
    """Random views (count × 4) of square images with `resolution` pixels per side.

    A view is (top, height, left, width) in fractions of the image; a negative width starts at the
    right edge and runs to the left, which flips. `pad` shifts by whole pixels, up to an eighth of
    the image; `resized` takes 8 to 100 % of its area at an aspect ratio of 3/4 to 4/3, where a side
    that would exceed the image is cut to it (assumed: published code draws again).
    """
    views = torch.tensor([0.0, 1.0, 0.0, 1.0]).repeat(count, 1)
    if crop == "pad":
        most = max(1, round(resolution / 8))
        shifts = torch.randint(-most, most + 1, (count, 2), generator=generator)
        views[:, 0::2] = shifts / resolution
    elif crop == "resized":
        low, high = _CROP_AREA
        area = low + (high - low) * torch.rand(count, generator=generator)
        low, high = (math.log(ratio) for ratio in _CROP_RATIO)
        root = (low + (high - low) * torch.rand(count, generator=generator)).div(2).exp()
        sides = torch.stack([area.sqrt() / root, area.sqrt() * root], dim=1).clamp(max=1)
        views[:, 0::2] = (1 - sides) * torch.rand(count, 2, generator=generator)
        views[:, 1::2] = sides
    if flip:
        flipped = torch.rand(count, generator=generator) < 0.5
        views[:, 2] += torch.where(flipped, views[:, 3], 0.0)
        views[:, 3] *= torch.where(flipped, -1.0, 1.0)
    return views


def shift(pixels: Tensor, views: Tensor) -> Tensor:
    """Shows `pixels` (N × H × W × C, uint8) through `views` (N × 4), with the same shape and type.

    For views that move by whole pixels or flip, and do not resize: pixels are looked up.
    """
    count, height, width, channels = pixels.shape
    top, tall, left, wide = views.unbind(1)
    rows = _centres(top, tall, height, height).long()
    columns = _centres(left, wide, width, width).long()
    images = torch.arange(count, device=pixels.device)[:, None, None] * (height * width)
    index = images + rows[:, :, None] * width + columns[:, None, :]
    return pixels.reshape(-1, channels).index_select(0, index.view(-1)).view(pixels.shape)


def look(pixels: Tensor, views: Tensor, resolution: int) -> Tensor:
    """Shows `pixels` (N × H × W × C, uint8) through `views` (N × 4), resized to `resolution`.

    Returns float32 (N × C × resolution × resolution), 0 to 255. Resizing is a matrix product along
    each axis, with weights that differ from image to image.
    """
    count, height, width, channels = pixels.shape
    top, tall, left, wide = views.unbind(1)
    rows = _sampling_weights(top, tall, height, resolution)
    columns = _sampling_weights(left, wide, width, resolution)
    x = rows @ pixels.reshape(count, height, width * channels).float()
    x = x.view(count, resolution, width, channels).transpose(2, 3)
    x = x.reshape(count, resolution * channels, width) @ columns.mT
    return x.view(count, resolution, channels, resolution).transpose(1, 2)


def _sampling_weights(start: Tensor, length: Tensor, size: int, out: int) -> Tensor:
    """Weight of each of `size` pixels in each of `out` pixels: N × out × size; rows sum to 1.

    `start` and `length` (N) are a view's along one axis. The filter is a triangle, as wide as an
    output pixel but no narrower than an input pixel, as in Pillow and torch: bilinear, antialiased.
    """
    centre = _centres(start, length, size, out)
    width = (length.abs() * (size / out)).clamp(min=1)
    pixel = torch.arange(size, device=start.device) + 0.5
    distance = (pixel - centre[..., None]).abs_().div_(width[:, None, None])
    weights = distance.neg_().add_(1).clamp_(min=0)
    return weights.div_(weights.sum(-1, keepdim=True))


def _centres(start: Tensor, length: Tensor, size: int, out: int) -> Tensor:
    """Positions of the centres of `out` pixels along an axis of `size` pixels: N × out.

    Images continue mirrored beyond their edges.
    """
    position = (torch.arange(out, device=start.device) + 0.5) * (size / out)
    centre = start[:, None] * size + length[:, None] * position
    return size - (size - centre.abs()).abs()


def draw_tones(
    count: int, *, colour: float, magnitude: float, generator: torch.Generator
) -> Tensor:
    """Random colour changes, count × 5: factors of brightness, contrast and saturation, the level
    from which pixels are inverted (solarise), and the distance between two levels (posterise).

    All three factors differ from 1 by up to `colour`. One change is of RandAugment's `magnitude`.
    """
    tones = torch.tensor([1.0, 1.0, 1.0, 256.0, 1.0]).repeat(count, 1)
    tones[:, :3] += colour * _uniform((count, 3), generator)
    which = torch.randint(len(_TONES), (count, 1), generator=generator)
    gain = 1 + _MAX_GAIN * magnitude / 10 * _uniform((count, 1), generator)
    tones[:, :3] *= torch.where(which == torch.arange(3), gain, 1.0)
    strength = magnitude / 10 * torch.rand((count, 1), generator=generator)
    tones[:, 3:4] -= torch.where(which == 3, 256 * strength, 0.0)
    tones[:, 4:] *= torch.where(which == 4, 2 ** (_MAX_LOST_BITS * strength).round(), 1.0)
    return tones


def recolour(x: Tensor, tones: Tensor) -> Tensor:
    """Applies `tones` (N × 5) to `x` (N × C × H × W, 0 to 255); the range stays."""
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
    """Random changes of shape: matrices for `torch.nn.functional.affine_grid`, count × 2 × 3."""
    which = torch.randint(len(_SHAPES), (count,), generator=generator)
    strength = magnitude / 10 * _uniform((count,), generator)

    def if_drawn(shape: str, values: Tensor) -> Tensor:
        return torch.where(which == _SHAPES.index(shape), values, 0.0)

    angle = if_drawn("rotate", math.radians(_MAX_DEGREES) * strength)
    shear, shift = _MAX_SHEAR * strength, 2 * _MAX_SHIFT * strength  # a grid's side is 2
    rows = (
        *(angle.cos(), -angle.sin() + if_drawn("shear x", shear), if_drawn("shift x", shift)),
        *(angle.sin() + if_drawn("shear y", shear), angle.cos(), if_drawn("shift y", shift)),
    )
    return torch.stack(rows, dim=1).view(count, 2, 3)


def warp(x: Tensor, warps: Tensor) -> Tensor:
    """Applies `warps` (N × 2 × 3) to `x` (N × C × H × W), mirrored beyond its edges."""
    grid = F.affine_grid(warps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random numbers from −1 to 1."""
    return 2 * torch.rand(shape, generator=generator) - 1


def draw_mixes(steps: int, *, mixup: float, cutmix: float, generator: torch.Generator) -> Tensor:
    """How `mix` blends the images of each step, steps × 5: an image's own weight, and the box (top,
    bottom, left, right, in fractions of the image) in which its weight is 0.

    `mixup` (Zhang et al. 2018) and `cutmix` (Yun et al. 2019) are parameters of the symmetric Beta
    distribution of the fraction that is kept. If both are set, each step uses one of them.
    """
    seed = torch.randint(2**62, (), generator=generator).item()
    random = np.random.default_rng(int(seed))
    cuts = random.random(steps) < (0.5 if mixup and cutmix else float(cutmix > 0))
    mixes = np.zeros((steps, 5))
    mixes[:, 0] = 1.0
    if mixup:
        mixes[~cuts, 0] = random.beta(mixup, mixup, steps)[~cuts]
    if cutmix:
        side = np.sqrt(1 - random.beta(cutmix, cutmix, (steps, 1)))
        edges = random.random((steps, 2)).repeat(2, axis=1) + side / 2 * [-1, 1, -1, 1]
        mixes[cuts, 1:] = edges[cuts]
    return torch.from_numpy(mixes).float()


def mix(x: Tensor, labels: Tensor, mixes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Blends each image of `x` (N × C × H × W) with the one before it as `mixes` (5) says.

    Also returns the class probabilities (N × num_classes): classes weigh as much as their pixels.
    """
    weight, top, bottom, left, right = mixes.unbind()
    rows, columns = (
        (torch.arange(side, device=x.device) + 0.5) / side for side in (x.shape[2], x.shape[3])
    )
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    weights = weight * ~(in_rows[:, None] & in_columns)
    classes = F.one_hot(labels, num_classes).float()
    return (
        x.roll(1, 0).lerp(x, weights),
        classes.roll(1, 0).lerp(classes, weights.mean()),
    )
