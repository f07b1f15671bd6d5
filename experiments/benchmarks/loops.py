"""The training loops that `experiments.benchmarks.training` compares with, as people write them."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from experiments.config import TrainConfig
from experiments.data.images import Images
from experiments.latency.timing import time_calls
from experiments.training.optimizers import REFERENCE_BATCH
from search.executors.processes import cores
from space.architecture import Architecture
from space.convert import IMAGENET
from space.network import build

#: One image and its class.
Labelled = Dataset[tuple[Tensor, int]]

#: Processes that decode and transform images.
WORKERS = cores()
_JPEG_QUALITY = 95
_PADDING = 4


@dataclass(frozen=True)
class Loop:
    """One way to train; `advised` is with the usual advice, else as tutorials do."""

    advised: bool
    device: torch.device
    mixed_precision: bool


class Files(Labelled):
    """JPEG files, decoded and transformed one by one, as torchvision's ImageFolder does."""

    def __init__(self, folder: Path, labels: NDArray[np.int64], *, augment: bool) -> None:
        self._folder, self._labels = folder, labels
        self._transform = _Transform(augment=augment)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self._folder / f"{index}.jpg") as image:
            return self._transform(image.convert("RGB")), int(self._labels[index])


class Decoded(Labelled):
    """Images that were decoded once, transformed one by one."""

    def __init__(self, images: Images, *, augment: bool) -> None:
        self._pixels = images.read(np.arange(len(images)))
        self._labels = images.labels
        self._transform = _Transform(augment=augment)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[index])), int(self._labels[index])


class _Transform:
    """Image by image, with Pillow: random crop and flip where it augments, to tensor, normalise."""

    def __init__(self, *, augment: bool) -> None:
        self._augment = augment
        self._mean, self._std = (torch.tensor(values)[:, None, None] for values in IMAGENET)

    def __call__(self, image: Image.Image) -> Tensor:
        if self._augment:
            side = image.width
            top, left = torch.randint(0, 2 * _PADDING + 1, (2,)).tolist()
            image = ImageOps.expand(image, _PADDING).crop((left, top, left + side, top + side))
            if torch.rand(()) < 0.5:
                image = ImageOps.mirror(image)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return pixels.float().div(255).sub(self._mean).div(self._std)


@dataclass(frozen=True)
class LoopResult:
    """Seconds of a whole training, DataLoaders included, and its accuracy after the last epoch."""

    seconds: float
    accuracy: float


def run(
    network: nn.Module,
    train: Labelled,
    held_out: Labelled,
    loop: Loop,
    config: TrainConfig,
    epochs: int,
) -> LoopResult:
    """Trains `network` and measures it after every epoch."""
    start = time.perf_counter()
    device, size = loop.device, config.batch_size
    network.to(device)
    if loop.advised:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings: dict[str, Any] = {
        "num_workers": WORKERS,
        "persistent_workers": loop.advised,
        "pin_memory": loop.advised and device.type == "cuda",
    }
    batches = DataLoader(train, size, shuffle=True, drop_last=True, **settings)
    held_out_batches = DataLoader(held_out, 4 * size, **settings)
    optimizer, schedule = _optimizer(network, config, len(batches), epochs)
    accuracy = 0.0
    for _ in range(epochs):
        network.train()
        for images, labels in batches:
            loss = _loss(network, images, labels, loop, config)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        accuracy = _accuracy(network, held_out_batches, loop)
    return LoopResult(time.perf_counter() - start, accuracy)


def _loss(
    network: nn.Module, images: Tensor, labels: Tensor, loop: Loop, config: TrainConfig
) -> Tensor:
    labels = labels.to(loop.device, non_blocking=True)
    with torch.autocast(loop.device.type, torch.bfloat16, enabled=loop.mixed_precision):
        logits = network(_to_device(images, loop))
        return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)


def _to_device(images: Tensor, loop: Loop) -> Tensor:
    layout = torch.channels_last if loop.advised else torch.contiguous_format
    return images.to(loop.device, non_blocking=True, memory_format=layout)


def _optimizer(
    network: nn.Module, config: TrainConfig, steps: int, epochs: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Warm-up, then a cosine to zero, over all steps."""
    rate = config.learning_rate * config.batch_size / REFERENCE_BATCH
    optimizer = torch.optim.SGD(
        network.parameters(),
        rate,
        momentum=config.momentum,
        nesterov=True,
        weight_decay=config.weight_decay,
    )
    warm_up = round(min(config.warmup_epochs, epochs / 4) * steps)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm_up, total_iters=warm_up),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps - warm_up),
        ],
        milestones=[warm_up],
    )
    return optimizer, schedule


@torch.inference_mode()
def _accuracy(network: nn.Module, batches: DataLoader[Any], loop: Loop) -> float:
    network.eval()
    right = seen = 0
    for images, labels in batches:
        with torch.autocast(loop.device.type, torch.bfloat16, enabled=loop.mixed_precision):
            logits = network(_to_device(images, loop))
        right += int((logits.argmax(1).cpu() == labels).sum())
        seen += len(labels)
    return right / seen


def step_seconds(network: nn.Module, loop: Loop, batch_size: int) -> float:
    """Seconds of a step on noise: what decides on mixed precision."""
    network.to(loop.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(batch_size, 3, 32, 32)

    def step() -> None:
        with torch.autocast(loop.device.type, torch.bfloat16, enabled=loop.mixed_precision):
            logits = network(_to_device(images, loop))
        logits.float().square().mean().backward()

    return min(time_calls(step, loop.device))


def plain(architecture: Architecture) -> nn.Module:
    """The network with torch's own momentum of batch norm."""
    return build(replace(architecture, numerics=replace(architecture.numerics, bn_momentum=0.1)))


def decoded(train: Images, held_out: Images) -> tuple[Labelled, Labelled]:
    """Both parts in memory."""
    return Decoded(train, augment=True), Decoded(held_out, augment=False)


def files(train: Images, held_out: Images, folder: Path) -> tuple[Labelled, Labelled]:
    """Both parts as JPEG files in `folder`."""
    for name, images in (("train", train), ("held_out", held_out)):
        _write_files(images, folder / name)
    return (
        Files(folder / "train", train.labels, augment=True),
        Files(folder / "held_out", held_out.labels, augment=False),
    )


def _write_files(images: Images, folder: Path) -> None:
    folder.mkdir()
    for index, pixels in enumerate(images.read(np.arange(len(images)))):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        (folder / f"{index}.jpg").write_bytes(buffer.getvalue())
