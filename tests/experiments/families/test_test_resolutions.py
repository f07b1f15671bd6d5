"""Held-out images choose at which resolution a member is exported, and test images judge."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.data.images import DecodedImages
from experiments.families import test_resolutions as tested
from experiments.training.measure import Evaluation
from scaling.export import Trained
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.convert import PixelStatistics
from space.network import build

NETWORK = Architecture(
    Stem(8, stride=1), (Stage(Operator.CONV, 8),), Head(0), resolution=8, num_classes=2
)


def images(count: int) -> DecodedImages:
    pixels = np.zeros((count, 8, 8, 3), np.uint8)
    return DecodedImages(pixels, np.arange(count), np.arange(count) % 2)


def choose(monkeypatch, right, held_out=200, metric="top1"):
    """`right` holds the part of held-out and of test images that are answered right, by pixels."""

    def evaluate(network, _read, labels, *_):
        of_held_out, of_test = right[network.architecture.resolution]
        part = of_held_out if len(labels) == held_out else of_test
        wrong = torch.arange(len(labels)) >= part * len(labels)
        return Evaluation(0.0, torch.where(wrong, 1 - labels, labels))

    monkeypatch.setattr(tested, "evaluate", evaluate)
    test = tested.ResolutionTest(
        (1.0, 1.25, 1.5, 2.0),
        2,
        images(held_out) if held_out else None,
        images(100),
        metric,
        torch.device("cpu"),
        PixelStatistics((0.5,) * 3, (0.5,) * 3),
    )
    return test(build(NETWORK), Trained(right[8][1], 100, 1.0, (0.5, 0.5)))


RIGHT = {8: (0.5, 0.6), 10: (0.6, 0.9), 12: (0.9, 0.8), 16: (0.4, 0.95)}


@pytest.mark.parametrize("metric", ["top1", "balanced"])
def test_the_best_on_held_out_images_is_chosen_and_has_the_test_images_accuracy(
    monkeypatch, metric
):
    network, trained = choose(monkeypatch, RIGHT, metric=metric)
    assert network.architecture == replace(NETWORK, resolution=12)
    assert trained.accuracy == pytest.approx(0.8)
    assert trained.class_accuracies == pytest.approx((0.8, 0.8))
    curve = {each.resolution: each for each in trained.resolutions}
    assert list(curve) == [8, 10, 12, 16]
    for pixels, (held_out, accuracy) in RIGHT.items():
        assert curve[pixels].held_out_accuracy == pytest.approx(held_out)
        assert curve[pixels].accuracy == pytest.approx(accuracy)
        assert curve[pixels].chosen == (pixels == 12)
    assert curve[16].macs == pytest.approx(4 * curve[8].macs, rel=0.01)


def test_a_gain_that_the_images_do_not_show_changes_nothing(monkeypatch):
    right = {8: (0.5, 0.6), 10: (0.51, 0.9), 12: (0.52, 0.9), 16: (0.4, 0.9)}
    network, trained = choose(monkeypatch, right)
    assert network.architecture == NETWORK
    assert (trained.accuracy, trained.class_accuracies) == (0.6, (0.5, 0.5))


def test_images_that_members_were_trained_on_choose_nothing(monkeypatch):
    network, trained = choose(monkeypatch, RIGHT, held_out=0)
    assert network.architecture == NETWORK
    assert {each.held_out_accuracy for each in trained.resolutions} == {None}
