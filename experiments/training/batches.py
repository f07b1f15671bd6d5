"""Batches of a training: which images, in which order, seen how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.config import TrainConfig
from experiments.data.images import Images, Indices
from experiments.training import augment

#: Gives the images at some indices (N, on the CPU), on the device: uint8 N × H × W × C.
Reader = Callable[[Tensor], Tensor]

#: Bytes of decoded or resized images that a training keeps on a CPU, and the part of a GPU's free
#: memory that images may take; what exceeds it is read batch by batch (assumed).
_CPU_ROOM = 2**30
_GPU_ROOM = 0.5
_READ_AT_ONCE = 1024


class Division(NamedTuple):
    """An epoch's steps, all of `batch_size` images; fewer than `steps` images are left out."""

    steps: int
    batch_size: int


def divide(images: int, batch_size: int) -> Division:
    """The fewest equal steps of at most `batch_size` images.

    No small batch ends an epoch, which batch norm could not use, and hardly an image is left out.
    """
    steps = -(-images // batch_size)
    return Division(steps, images // steps)


def stratified_part(labels: Indices, fraction: float, seed: int) -> Indices:
    """The sorted indices of a random `fraction` of every class, of at least one image each."""
    if fraction == 1:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    parts = [
        shuffled[labels[shuffled] == label][: max(1, round(fraction * count))]
        for label, count in zip(classes, counts, strict=True)
    ]
    return np.sort(np.concatenate(parts))


def open_reader(images: Images, device: torch.device, resolution: int) -> Reader:
    """Reads `images` onto `device`, resized to `resolution` pixels.

    They are kept there as bytes, decoded and resized, where they fit; a CPU keeps none that the
    memory map already holds like that.
    """

    def fetch(indices: Tensor) -> Tensor:
        pixels = torch.from_numpy(images.read(indices.numpy())).to(device)
        return augment.resize(pixels, resolution)

    shape = (len(images), resolution, resolution, images.channels)
    mapped = images.pixels is not None and resolution == images.resolution
    if np.prod(shape, dtype=np.int64) > _room(device) or (mapped and device.type == "cpu"):
        return fetch

    kept = torch.empty(shape, dtype=torch.uint8, device=device)
    for indices in in_order(len(images), _READ_AT_ONCE):
        kept[indices[0] : indices[-1] + 1] = fetch(indices)
    return lambda indices: kept[indices.to(device)]


def in_order(count: int, batch_size: int) -> Iterator[Tensor]:
    """The indices 0 … count − 1 in batches, the last of which may be smaller."""
    for start in range(0, count, batch_size):
        yield torch.arange(start, min(start + batch_size, count))


def _room(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * _GPU_ROOM
    return _CPU_ROOM


@dataclass(frozen=True)
class Batches:
    """The training images of a budget, cut into batches: `labels` (N) is on their device.

    `stored` is the resolution at which `read` gives them, `resolution` that of the network.
    """

    read: Reader
    labels: Tensor
    stored: int
    resolution: int
    config: TrainConfig
    division: Division

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """The network inputs and labels of each step of an epoch that `generator` draws."""
        count, config = len(self.labels), self.config
        order = torch.randperm(count, generator=generator)
        views = augment.draw_views(
            count, self.stored, crop=config.crop, flip=config.flip, generator=generator
        )
        for step in range(self.division.steps):
            part = slice(step * self.division.batch_size, (step + 1) * self.division.batch_size)
            labels = self.labels[order[part].to(self.labels.device)]
            yield self._look(self.read(order[part]), views[part]), labels

    def _look(self, pixels: Tensor, views: Tensor) -> Tensor:
        views = views.to(pixels.device)
        if self.config.crop == "resized":
            seen = augment.look(pixels, views, self.resolution)
        else:
            seen = augment.shift(pixels, views).permute(0, 3, 1, 2)
        return augment.normalise(seen)


def open_batches(
    images: Images, config: TrainConfig, resolution: int, device: torch.device
) -> Batches:
    """The batches of `images` for a network of `resolution` pixels on `device`.

    A random resized crop is taken from the images as stored; else they are resized first.
    """
    stored = images.resolution if config.crop == "resized" else resolution
    return Batches(
        read=open_reader(images, device, stored),
        labels=torch.from_numpy(images.labels).to(device),
        stored=stored,
        resolution=resolution,
        config=config,
        division=divide(len(images), config.batch_size),
    )
