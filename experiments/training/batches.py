"""Batches of a training run: which images, in which order, seen how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.config import TrainConfig
from experiments.data.images import Images, Indices
from experiments.training import augment, distort, mixing
from experiments.training.distributed import ALONE, Replica
from experiments.training.failures import TrainingFailed
from experiments.training.readers import Kept, Reader, open_reader

#: A step's images as stored (`pixels`: uint8 N × H × W × C), `labels` (N), and what was drawn for
#: them, all on their device. All of one run and resolution have the same names and shapes.
Batch = dict[str, Tensor]


class StepPlan(NamedTuple):
    """An epoch's steps, all of `batch_size` images; fewer than `steps` images are left out."""

    steps: int
    batch_size: int


def plan_steps(images: int, batch_size: int, replicas: int = 1) -> StepPlan:
    """The fewest equal steps of at most `batch_size` images, which divide evenly among `replicas`.

    No small batch ends an epoch, which batch norm could not use, and hardly an image is left out.
    Raises `TrainingFailed` where a replica would get none.
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


@dataclass(frozen=True)
class Batches:
    """The training images of a budget, cut into batches: `labels` (N) is on their device.

    `stored` is the resolution at which `read` gives them, `resolution` that of the network.
    """

    read: Reader
    labels: Tensor
    num_classes: int
    stored: int
    resolution: int
    line: augment.Line
    config: TrainConfig
    plan: StepPlan
    replica: Replica = ALONE

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """This process's part of the batch of each step of an epoch that `generator`, on the CPU,
        draws."""
        steps, size = self.plan
        own = self.replica.of(size)
        device = self.labels.device
        order = torch.randperm(len(self.labels), generator=generator)[: steps * size]
        of_images = {"labels": self.labels[order.to(device)]} | {
            name: drawn[: steps * size].to(device) for name, drawn in self._draw(generator).items()
        }
        mixes = self._draw_mixes(generator)
        for step, pixels in enumerate(self.read(each[own] for each in torch.split(order, size))):
            part = slice(step * size + own.start, step * size + own.stop)
            batch = {name: drawn[part] for name, drawn in of_images.items()} | {"pixels": pixels}
            yield batch if mixes is None else batch | {"mix": mixes[step]}

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        config, count = self.config, len(self.labels)
        views = augment.draw_views(
            count, self.stored, crop=config.crop, flip=config.flip, generator=generator
        )
        drawn = {"views": views}
        if config.randaugment:
            drawn["warps"] = distort.draw_warps(
                count, magnitude=config.randaugment, generator=generator
            )
        if config.randaugment or config.colour:
            drawn["tones"] = distort.draw_tones(
                count, colour=config.colour, magnitude=config.randaugment, generator=generator
            )
        return drawn

    def _draw_mixes(self, generator: torch.Generator) -> Tensor | None:
        mixup, cutmix = self.config.mixup, self.config.cutmix
        if not (mixup or cutmix):
            return None
        steps = self.plan.steps
        mixes = mixing.draw_mixes(steps, mixup=mixup, cutmix=cutmix, generator=generator)
        return mixes.to(self.labels.device)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The network's inputs (N × C × H × W, normalised), and what it should say of them: the
        classes (N), or their probabilities (N × classes) where images are mixed.

        Waits for nothing and draws nothing, so that a graph can hold it.
        """
        x, labels = self._look(batch["pixels"], batch["views"]), batch["labels"]
        if "warps" in batch:
            x = distort.warp(x.float(), batch["warps"])
        if "tones" in batch:
            x = distort.recolour(x.float(), batch["tones"])
        if "mix" in batch:
            x, labels = mixing.mix(x.float(), labels, batch["mix"], self.num_classes)
        return augment.normalise(x, self.line), labels

    def _look(self, pixels: Tensor, views: Tensor) -> Tensor:
        if self.config.crop == "resized":
            return augment.look(pixels, views, self.resolution)
        return augment.shift(pixels, views).permute(0, 3, 1, 2)


def open_batches(
    images: Images,
    num_classes: int,
    config: TrainConfig,
    resolution: int,
    device: torch.device,
    kept: Kept,
    replica: Replica = ALONE,
) -> Batches:
    """The batches of `images` for a network of `resolution` pixels on `device`.

    A random resized crop is taken from the images as stored; else they are resized first.
    """
    stored = images.resolution if config.crop == "resized" else resolution
    return Batches(
        read=open_reader(images, device, stored, kept),
        labels=torch.from_numpy(images.labels).to(device),
        num_classes=num_classes,
        stored=stored,
        resolution=resolution,
        line=augment.normalising_line(images.channels, device),
        config=config,
        plan=plan_steps(len(images), config.batch_size, replica.size),
        replica=replica,
    )
