"""Stored images to network inputs, in batches on whatever device they are on.

A view says which part of an image is seen, and in which direction: crop, shift and flip are one
operation, and so is resizing with them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Mean and standard deviation of ImageNet's pixels in [0, 1], per channel (RGB), which published
#: networks are fed with; a grey image gets the means over the channels.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

#: Random resized crops. Source: Inception (Szegedy et al. 2015), as in most ImageNet training.
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)


def normalisation(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, per channel, by which pixels in [0, 1] are normalised."""
    if channels == len(MEAN):
        return MEAN, STD
    return (sum(MEAN) / len(MEAN),) * channels, (sum(STD) / len(STD),) * channels


class Line(NamedTuple):
    """What normalises pixels from 0 to 255: `scale` · pixel + `shift`, per channel (C × 1 × 1)."""

    scale: Tensor
    shift: Tensor


def normalising_line(channels: int, device: torch.device) -> Line:
    """The line of `normalisation`, on `device`: made once, for many batches."""
    mean, std = (torch.tensor(values)[:, None, None] for values in normalisation(channels))
    return Line((1 / (255 * std)).to(device), (-mean / std).to(device))


def normalise(x: Tensor, line: Line | None = None) -> Tensor:
    """`x` (N × C × H × W, 0 to 255) normalised, in float32 and channels last in memory.

    A captured step must be given the `line`, since it can hold no copy from the host.
    """
    scale, shift = line or normalising_line(x.shape[1], x.device)
    x = x.to(torch.float32, memory_format=torch.channels_last, copy=True)
    return x.mul_(scale).add_(shift)


def resize(pixels: Tensor, resolution: int) -> Tensor:
    """`pixels` (N × H × W × C, uint8) at `resolution`: bilinear, antialiased where it shrinks."""
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
    """Random views (count × 4) of square images of `resolution` pixels a side.

    A view is (top, height, left, width) in parts of the image; a negative width starts at the right
    edge and runs to the left, which flips. `pad` shifts by whole pixels, up to an eighth of the
    image; `resized` takes 8 to 100 % of its area at an aspect ratio of 3/4 to 4/3, where a side
    that would exceed the image is cut to it (assumed: published code draws again).
    """
    views = torch.tensor([0.0, 1.0, 0.0, 1.0]).repeat(count, 1)
    if crop == "pad":
        most = max(1, round(resolution / 8))
        shifts = torch.randint(-most, most + 1, (count, 2), generator=generator)
        views[:, 0::2] = shifts / resolution
    elif crop == "resized":
        low, high = CROP_AREA
        area = low + (high - low) * torch.rand(count, generator=generator)
        low, high = (math.log(ratio) for ratio in CROP_RATIO)
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
    """What `views` (N × 4) show of `pixels` (N × H × W × C, uint8), the same size and type.

    For views that move or flip by whole pixels and do not resize: a pixel is looked up.
    """
    count, height, width, channels = pixels.shape
    top, tall, left, wide = views.unbind(1)
    rows = _centres(top, tall, height, height).long()
    columns = _centres(left, wide, width, width).long()
    images = torch.arange(count, device=pixels.device)[:, None, None] * (height * width)
    index = images + rows[:, :, None] * width + columns[:, None, :]
    return pixels.reshape(-1, channels).index_select(0, index.view(-1)).view(pixels.shape)


def look(pixels: Tensor, views: Tensor, resolution: int) -> Tensor:
    """What `views` (N × 4) show of `pixels` (N × H × W × C, uint8), resized to `resolution`.

    Gives float32 (N × C × resolution × resolution), 0 to 255. Resizing is a matrix product along
    each axis, with `sampling_weights` that differ from image to image.
    """
    count, height, width, channels = pixels.shape
    top, tall, left, wide = views.unbind(1)
    rows = sampling_weights(top, tall, height, resolution)
    columns = sampling_weights(left, wide, width, resolution)
    x = rows @ pixels.reshape(count, height, width * channels).float()
    x = x.view(count, resolution, width, channels).transpose(2, 3)
    x = x.reshape(count, resolution * channels, width) @ columns.mT
    return x.view(count, resolution, channels, resolution).transpose(1, 2)


def sampling_weights(start: Tensor, length: Tensor, size: int, out: int) -> Tensor:
    """What each of `size` pixels weighs in each of `out`: N × out × size, rows sum to 1.

    `start` and `length` (N) are a view's along one axis. The filter is a triangle as wide as an
    output pixel and at least as wide as a pixel: bilinear, antialiased where it shrinks, as
    Pillow's and torch's.
    """
    centre = _centres(start, length, size, out)
    width = (length.abs() * (size / out)).clamp(min=1)
    pixel = torch.arange(size, device=start.device) + 0.5
    distance = (pixel - centre[..., None]).abs_().div_(width[:, None, None])
    weights = distance.neg_().add_(1).clamp_(min=0)
    return weights.div_(weights.sum(-1, keepdim=True))


def _centres(start: Tensor, length: Tensor, size: int, out: int) -> Tensor:
    """Where the centres of `out` pixels lie along an axis of `size` pixels: N × out.

    Beyond its edges an image continues mirrored.
    """
    position = (torch.arange(out, device=start.device) + 0.5) * (size / out)
    centre = start[:, None] * size + length[:, None] * position
    return size - (size - centre.abs()).abs()
