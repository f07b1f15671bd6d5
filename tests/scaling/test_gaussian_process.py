"""The Gaussian process over shares: what it smooths, what it leaves, and what cost explains."""

import numpy as np
import pytest

from scaling.gaussian_process import posterior
from scaling.response_surface import SurfacePoint

PLACES = [(d / 4, w / 4) for d in range(5) for w in range(5 - d)]  # 15 of them


def points(values, *, seeds=1, doublings=None, levels=(0.0,) * 9) -> list[SurfacePoint]:
    costs = doublings if doublings is not None else np.ones(len(PLACES))
    return [
        SurfacePoint(*place, costs[number], number, seed, values[number] + levels[seed])
        for seed in range(seeds)
        for number, place in enumerate(PLACES)
    ]


SMOOTH = np.array([0.05 * (1 - (d - 0.25) ** 2 - (w - 0.5) ** 2) for d, w in PLACES])


def test_means_are_relative_to_the_candidates_mean() -> None:
    found = posterior(points(SMOOTH))
    assert sum(found.means) == pytest.approx(0, abs=1e-12)
    assert found.means == pytest.approx(SMOOTH - SMOOTH.mean(), abs=0.003)


def test_what_a_block_adds_to_all_changes_nothing() -> None:
    plain, shifted = (posterior(points(SMOOTH, seeds=2, levels=each)) for each in ((0, 0), (0, 9)))
    assert shifted.means == pytest.approx(plain.means, abs=1e-6)
    assert shifted.covariance == pytest.approx(plain.covariance, abs=1e-6)


def test_a_lucky_run_is_pulled_towards_its_neighbours() -> None:
    lucky = SMOOTH + np.random.default_rng(0).normal(0, 0.004, len(PLACES))
    lucky[-1] += 0.03
    found = posterior(points(lucky))
    assert found.means[-1] < 0.7 * (lucky[-1] - lucky.mean())


def test_a_candidate_that_stays_better_with_more_seeds_keeps_its_lead() -> None:
    odd = np.zeros(len(PLACES))
    odd[5] = 0.03
    generator = np.random.default_rng(0)
    few, many = (
        posterior(
            [
                each._replace(accuracy=each.accuracy + generator.normal(0, 0.01))
                for each in points(odd, seeds=seeds)
            ]
        )
        for seeds in (1, 8)
    )
    assert many.means[5] > 0.02
    assert many.deviation(5) < few.deviation(5)
    assert many.deviation(5, 4) < few.deviation(5, 4)
    assert many.deviation(5, 5) == 0


def test_accuracy_that_cost_explains_is_not_taken_for_better_growth() -> None:
    generator = np.random.default_rng(0)
    doublings = generator.uniform(0.8, 1.2, len(PLACES))
    found = posterior(points(0.1 * doublings, seeds=3, doublings=doublings))
    assert np.ptp(found.means) < 0.3 * np.ptp(0.1 * doublings)


def test_too_few_runs_say_nothing() -> None:
    assert posterior([]) is None
    assert posterior(points(SMOOTH)[:2]) is None
    assert posterior(points(SMOOTH)[:3]) is not None
