"""What the stages work with: networks, images of noise, learners, profiles."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.evaluators.training import TrainingEvaluator
from experiments.training.batches import Batch, Batches
from experiments.training.learner import Learner
from experiments.training.readers import Kept
from space import choices
from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.network import build

CLASSES = 10
SPACE = "mnasnet_small"

#: Small enough for a dry run; it draws random numbers in every step.
TINY = Architecture(
    Stem(8),
    (Stage(Operator.INVERTED, 16, repeats=2, expansion=2, se=SqueezeExcite()),),
    Head(16),
    resolution=16,
    num_classes=CLASSES,
    dropout=0.2,
    stochastic_depth=0.2,
)


def candidate(device: str, resolution: int = 32) -> Architecture:
    """A network as a search trains them; a tiny one on a CPU."""
    if device == "cpu":
        return TINY
    space = choices.load(SPACE).adapted(num_classes=CLASSES, resolution=resolution)
    return replace(space.base, dropout=0.2)


def noise(count: int, side: int) -> DecodedImages:
    """Images of noise, and their classes."""
    pixels = np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)
    return DecodedImages(pixels, np.arange(count), np.arange(count) % CLASSES)


def evaluator(folder: Path, device: str, config: TrainConfig, images: int) -> TrainingEvaluator:
    """Trains on so many images of noise."""
    side = candidate(device).resolution
    held_out = noise(max(16, images // 8), side)
    return TrainingEvaluator(noise(images, side), held_out, config, folder, device=device)


class Training(NamedTuple):
    """A learner on a device, its batches, and the step that they take."""

    learner: Learner
    batches: Batches
    step: Callable[[Batch], Tensor]


def training(
    architecture: Architecture, config: TrainConfig, device: torch.device, pieces: int = 1
) -> Training:
    """Four steps' images of noise, and a learner that begins alike each time."""
    torch.manual_seed(0)
    learner = Learner(build(architecture).train(), config, device, pieces=pieces)
    learner.generator.manual_seed(1)
    images = noise(4 * config.batch_size, architecture.resolution)
    batches = Batches(images, CLASSES, config, architecture.resolution, device, Kept())
    return Training(learner, batches, lambda batch: learner.step(*batches.inputs(batch)))


class Profile(NamedTuple):
    """Kernels of a step (operations, on a CPU), and the seconds of those that take longest."""

    kernels: int
    longest: dict[str, float]


def profiled(step: Callable[[], object], device: torch.device, most: int = 10) -> Profile:
    """What `step` runs on the device."""
    on_gpu = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as recorded:
        step()
        synchronize(device)
    seconds: Counter[str] = Counter()
    count = 0
    for event in recorded.events() or ():
        if on_gpu == (event.device_type == DeviceType.CUDA):
            count += 1
            duration = event.device_time_total if on_gpu else event.self_cpu_time_total
            seconds[event.name] += duration / 1e6
    return Profile(count, dict(seconds.most_common(most)))


def synchronize(device: torch.device) -> None:
    """Waits for all work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Seconds of a call, the mean of `times` after a warm-up of three."""
    for _ in range(3):
        work()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / times
