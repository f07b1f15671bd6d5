"""The accuracy of a trained network after quantisation to 8 bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.data.images import Images
from experiments.families.preprocess import prepare
from experiments.training.measure import Metric, accuracy
from scaling.formats import Portable, Preprocessing, onnx, program
from space.convert import PixelStatistics
from space.network import Network

#: Images that set the ranges of tensors, and images quantised or classified at a time (assumed).
CALIBRATING, _BATCH = 256, 64


def calibrating(images: Images) -> Images:
    """Up to `CALIBRATING` images, evenly spread, so that all classes are among them."""
    step = max(1, len(images) // CALIBRATING)
    return images.subset(np.arange(0, len(images), step)[:CALIBRATING])


def int8_accuracy(
    network: Network,
    calibration: Images,
    images: Images,
    normalisation: PixelStatistics,
    metric: Metric,
) -> float:
    """The accuracy on `images` of the network as `phiscale export --to onnx --int8` writes it.

    The ranges of tensors are those on `calibration`.
    """
    architecture = network.architecture
    classes = tuple(map(str, range(architecture.num_classes)))
    given = Preprocessing(*normalisation.of(architecture.in_channels), stored=images.resolution)
    portable = Portable("network", architecture, classes, given)
    whole = onnx.content(portable, program.trace(portable, network))
    ranges = np.concatenate(list(_inputs(calibrating(calibration), portable)))
    predict = onnx.open_(onnx.quantised(whole, ranges), "the network in 8 bits")
    predicted = [predict(batch).argmax(1) for batch in _inputs(images, portable)]
    labels = torch.from_numpy(images.labels)
    return accuracy(torch.from_numpy(np.concatenate(predicted)), labels, len(classes), metric)


def _inputs(images: Images, portable: Portable) -> Iterator[NDArray[np.float32]]:
    for rows in np.split(np.arange(len(images)), range(_BATCH, len(images), _BATCH)):
        yield np.stack([prepare(each, portable) for each in images.read(rows)])
