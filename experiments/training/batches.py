"""Batches of a training run: which images, in which order, augmented how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.config import TrainConfig
from experiments.data.images import Images, Indices
from experiments.training import augment
from experiments.training.distributed import ALONE, Replica
from experiments.training.failures import TrainingFailed
from experiments.training.readers import Kept, open_reader
from space.convert import IMAGENET, PixelStatistics

#: A step's images as stored (`pixels`: uint8 N × H × W × C), `labels` (N), and what was drawn for
#: them, all on their device. All of one run and resolution have the same names and shapes.
Batch = dict[str, Tensor]


class StepPlan(NamedTuple):
    """An epoch's steps, all of `batch_size` images; fewer than `steps` images are left out."""

    steps: int
    batch_size: int


def plan_steps(images: int, batch_size: int, replicas: int = 1) -> StepPlan:
    """The fewest equal steps of at most `batch_size` images, which divide evenly among `replicas`.

    So no epoch ends with a batch too small for batch norm, and hardly an image is left out.
    Raises `TrainingFailed` if a replica would get no image.
    """
    steps = -(-images // batch_size)
    size = images // steps // replicas * replicas
    if not size:
        raise TrainingFailed(f"{images} images are too few to train on in {replicas} processes")
    return StepPlan(steps, size)


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


def balanced_weights(labels: Indices, num_classes: int) -> Tensor:
    """A weight for each class (num_classes) with which all classes that have images count equally.

    They are inversely proportional to the number of images; their mean over the images is 1.
    """
    counts = torch.bincount(torch.from_numpy(labels), minlength=num_classes)
    return len(labels) / (counts.clamp(min=1) * counts.count_nonzero())


class Batches:
    """`images` in batches for a network of `resolution` pixels on `device`.

    `shape` is N × C × H × W of a step's inputs in this process, `plan` the steps of an epoch.
    """

    def __init__(
        self,
        images: Images,
        num_classes: int,
        config: TrainConfig,
        resolution: int,
        device: torch.device,
        kept: Kept,
        replica: Replica = ALONE,
        normalisation: PixelStatistics = IMAGENET,
    ) -> None:
        self.plan = plan_steps(len(images), config.batch_size, replica.size)
        self._own = replica.of(self.plan.batch_size)
        self.shape = (self._own.stop - self._own.start, images.channels, resolution, resolution)
        self._config, self._num_classes = config, num_classes
        # A random resized crop is taken from the images as stored; else they are resized first.
        self._stored = images.resolution if config.crop == "resized" else resolution
        self._read = open_reader(images, device, self._stored, kept)
        self._labels = torch.from_numpy(images.labels).to(device)
        self._normalisation = normalisation

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of an epoch, one for each step; `generator`, on the CPU, draws it."""
        (steps, size), device, own = self.plan, self._labels.device, self._own
        order = torch.randperm(len(self._labels), generator=generator)[: steps * size]
        of_images = {"labels": self._labels[order.to(device)]} | {
            name: drawn[: steps * size].to(device) for name, drawn in self._draw(generator).items()
        }
        columns = {
            name: [step[own] for step in torch.split(values, size)]
            for name, values in of_images.items()
        }
        mixup, cutmix = self._config.mixup, self._config.cutmix
        if mixup or cutmix:
            mixes = augment.draw_mixes(steps, mixup=mixup, cutmix=cutmix, generator=generator)
            columns["mix"] = list(mixes.to(device))
        read = self._read(step[own] for step in torch.split(order, size))
        for pixels, *drawn in zip(read, *columns.values(), strict=True):
            yield {"pixels": pixels, **dict(zip(columns, drawn, strict=True))}

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """What is drawn for every image of an epoch: count × … each."""
        config, count, magnitude = self._config, len(self._labels), self._config.randaugment
        drawn = {
            "views": augment.draw_views(
                count, self._stored, crop=config.crop, flip=config.flip, generator=generator
            )
        }
        if magnitude:
            drawn["warps"] = augment.draw_warps(count, magnitude=magnitude, generator=generator)
        if magnitude or config.colour:
            drawn["tones"] = augment.draw_tones(
                count, colour=config.colour, magnitude=magnitude, generator=generator
            )
        return drawn

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The network's inputs (N × C × H × W, normalised) and targets: classes (N), or their
        probabilities (N × classes) if images are mixed.

        Draws nothing and never waits for the device, so a CUDA graph can capture it.
        """
        pixels, views, labels = batch["pixels"], batch["views"], batch["labels"]
        if self._config.crop == "resized":
            x = augment.look(pixels, views, self.shape[-1])
        else:
            x = augment.shift(pixels, views).permute(0, 3, 1, 2)
        if "warps" in batch:
            x = augment.warp(x.float(), batch["warps"])
        if "tones" in batch:
            x = augment.recolour(x.float(), batch["tones"])
        if "mix" in batch:
            x, labels = augment.mix(x.float(), labels, batch["mix"], self._num_classes)
        return augment.normalise(x, self._normalisation), labels
