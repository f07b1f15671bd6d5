"""Loss, predictions and accuracy of a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.training import augment
from experiments.training.failures import network_errors
from experiments.training.learner import mixed_precision
from experiments.training.readers import Reader
from space.convert import IMAGENET, PixelStatistics

Metric = Literal["top1", "balanced"]


class Evaluation(NamedTuple):
    """Mean cross-entropy, and the predicted class of each image (N, on the device)."""

    loss: float
    predictions: Tensor


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    read: Reader,
    labels: Tensor,
    batch_size: int,
    normalisation: PixelStatistics = IMAGENET,
) -> Evaluation:
    """Evaluates `network` on all images of `read`, whose `labels` (N) are on its device.

    Raises `TrainingFailed` if the network raises.
    """
    network.eval()
    total = torch.zeros((), device=labels.device)
    predictions = []
    rows = torch.split(torch.arange(len(labels)), batch_size)
    for pixels, expected in zip(read(rows), torch.split(labels, batch_size), strict=True):
        images = augment.normalise(pixels.permute(0, 3, 1, 2), normalisation)
        with network_errors("validation"), mixed_precision(labels.device):
            logits = network(images).float()
        total += F.cross_entropy(logits, expected, reduction="sum")
        predictions.append(logits.argmax(1))
    return Evaluation(total.item() / len(labels), torch.cat(predictions))


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets the statistics of batch norms to their means over `batches` (N × C × H × W each)."""
    network.eval()
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    momenta = [norm.train().momentum for norm in norms]
    for number, images in enumerate(batches, 1):
        for norm in norms:
            norm.momentum = 1 / number
        with mixed_precision(images.device):
            network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def class_accuracies(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Accuracy on the images of each class (num_classes); NaN for a class without images."""
    right = torch.bincount(labels[predictions == labels], minlength=num_classes)
    return right / torch.bincount(labels, minlength=num_classes)


def accuracy(predictions: Tensor, labels: Tensor, num_classes: int, metric: Metric) -> float:
    """A fraction in [0, 1]: of all images (top1), or the mean over the classes that have images
    (balanced)."""
    if metric == "top1":
        return (predictions == labels).double().mean().item()
    return class_accuracies(predictions, labels, num_classes).double().nanmean().item()
