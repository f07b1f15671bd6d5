"""Mixup and CutMix: pixels and classes are mixed in the same parts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from experiments.training import augment


def drawn(mixup: float, cutmix: float, steps: int = 300) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return augment.draw_mixes(steps, mixup=mixup, cutmix=cutmix, generator=generator)


def of_labels(labels: Tensor, size: int = 10) -> Tensor:
    """Images whose every pixel is their class."""
    return labels[:, None, None, None].float().expand(-1, 3, size, size)


@given(mixup=st.sampled_from([0.0, 0.2, 1.0]), cutmix=st.sampled_from([0.0, 1.0]))
def test_a_class_is_expected_by_its_part_of_the_pixels(mixup: float, cutmix: float) -> None:
    labels = torch.tensor([0, 1, 0, 1])
    for mixes in drawn(mixup, cutmix, steps=20):
        x, targets = augment.mix(of_labels(labels), labels, mixes, 3)
        torch.testing.assert_close(x.mean((1, 2, 3)), targets[:, 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(targets.sum(1), torch.ones(4))
        assert targets[:, 2].eq(0).all()


def test_cutmix_takes_one_box_of_the_other_image_whole() -> None:
    labels = torch.tensor([0, 1])
    x, _ = augment.mix(of_labels(labels), labels, torch.tensor([1.0, 0.2, 0.5, 0.0, 0.3]), 2)
    expected = torch.zeros(10, 10)
    expected[2:5, 0:3] = 1
    assert x[0, 0].equal(expected)
    assert x[1, 0].equal(1 - expected)


def test_mixup_blends_all_pixels_alike() -> None:
    labels = torch.tensor([0, 1])
    x, targets = augment.mix(of_labels(labels), labels, torch.tensor([0.7, 0.0, 0.0, 0.0, 0.0]), 2)
    torch.testing.assert_close(x[0], torch.full((3, 10, 10), 0.3))
    torch.testing.assert_close(targets, torch.tensor([[0.7, 0.3], [0.3, 0.7]]))


def test_where_both_are_wanted_each_step_draws_one() -> None:
    both = drawn(0.5, 1.0)
    cut = both[:, 1:].ne(0).any(1)
    assert 0.4 < cut.float().mean() < 0.6
    assert both[cut, 0].eq(1).all()
    assert both[~cut, 0].lt(1).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_what_is_kept_has_the_distributions_mean(alpha: float) -> None:
    assert drawn(alpha, 0.0, steps=4000)[:, 0].mean() == pytest.approx(0.5, abs=0.03)
