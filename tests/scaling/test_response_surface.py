"""The quadratic surface: its optimum, when there is one, and when it does not fit."""

import math

import numpy as np
import pytest

from scaling.response_surface import SurfacePoint, fit_surface

PLACES = [(d / 5, w / 5) for d in range(6) for w in range(6 - d)]  # 21 of them


def points(truth, noise: float, seeds: int = 2, places=PLACES) -> list[SurfacePoint]:
    generator = np.random.default_rng(0)
    return [
        SurfacePoint(
            depth=depth,
            width=width,
            doublings=(doublings := 1 + 0.1 * math.sin(7 * number)),
            candidate=number,
            block=seed,
            accuracy=truth(depth, width) + 0.05 * doublings + generator.normal(0, noise),
        )
        for seed in range(seeds)
        for number, (depth, width) in enumerate(places)
    ]


def quadratic(depth: float, width: float) -> float:
    return 0.8 - 0.05 * ((depth - 0.3) ** 2 + (width - 0.5) ** 2)


def test_the_surface_finds_the_top_between_candidates_at_equal_cost() -> None:
    found = fit_surface(points(quadratic, 0.0005))
    assert found is not None
    assert found.shares == pytest.approx((0.3, 0.5, 0.2), abs=0.04)
    for share, (low, high) in zip((0.3, 0.5, 0.2), found.intervals, strict=True):
        assert low - 0.02 <= share <= high + 0.02
    assert found.deviation == pytest.approx(0.0005, rel=0.3)
    assert found.fits


def test_fewer_than_fifteen_candidates_have_no_surface() -> None:
    assert fit_surface(points(quadratic, 0.001, places=PLACES[:14])) is None
    assert fit_surface(points(quadratic, 0.001, places=PLACES[:15])) is not None
    assert fit_surface([]) is None


def test_a_truth_that_is_no_quadratic_is_found_not_to_fit_and_has_no_intervals() -> None:
    found = fit_surface(points(lambda d, w: 0.8 + 0.02 * math.sin(9 * d + 5 * w), 0.002))
    assert found is not None
    assert found.lack_of_fit < 0.05
    assert not found.fits
    assert found.intervals == ()


def test_without_replicates_nothing_is_known_of_the_fit() -> None:
    found = fit_surface(points(quadratic, 0.001, seeds=1))
    assert found is not None
    assert found.lack_of_fit is None
    assert found.fits


def test_the_lack_of_fit_is_that_of_an_analysis_of_variance() -> None:
    """Where the truth is a quadratic its probability is uniform: a twentieth is below 5 %."""
    probabilities = []
    for study in range(200):
        generator = np.random.default_rng(study)
        drawn = [
            each._replace(accuracy=quadratic(each.depth, each.width) + generator.normal(0, 0.01))
            for each in points(quadratic, 0.0)
        ]
        probabilities.append(fit_surface(drawn).lack_of_fit)
    assert 0.01 <= np.mean(np.array(probabilities) < 0.05) <= 0.1
    assert 0.4 <= np.mean(probabilities) <= 0.6
