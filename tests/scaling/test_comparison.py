"""Paired comparisons: what is tied, how often the best is kept, and how wide intervals are."""

import math

import numpy as np
import pytest
from scipy import stats

from scaling.comparison import compare, half_widths, paired_difference


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_gap_of_two_candidates_is_that_of_a_paired_t_test(seeds: int, level: float) -> None:
    """With the part of the error that is held back for unequal variances."""
    table = np.random.default_rng(seeds).normal(0, 0.01, (2, seeds))
    difference = table[0] - table[1]
    quantile = stats.t.ppf(1 - 0.8 * (1 - level), seeds - 1)
    expected = quantile * difference.std(ddof=1) / math.sqrt(seeds)
    assert compare(table, level).gaps == pytest.approx([expected] * 2, rel=0.07)


def test_the_gap_of_many_is_a_little_above_dunnetts() -> None:
    """One-sided table: with 3 rivals and 20 degrees of freedom, 95 %: 2.19 for equal variances."""
    table = np.random.default_rng(0).normal(0, 0.01, (4, 8))
    found = compare(table)
    gaps = [gap for index, gap in enumerate(found.gaps) if index != found.best]
    assert 2.19 <= np.mean(gaps) / (found.deviation * math.sqrt(2 / 8)) <= 2.6


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_the_truly_best_is_kept_as_often_as_the_level_says(spread: float) -> None:
    """In the worst case, where all are equally good and each of them is the best."""
    generator = np.random.default_rng(0)
    deviations = 0.01 * spread ** generator.uniform(-1, 1, (600, 5, 1))
    tables = generator.normal(0, 0.05, (600, 1, 3)) + generator.normal(0, deviations, (600, 5, 3))
    kept = sum(0 in compare(table).tied for table in tables)
    assert kept / 600 >= 0.95


def test_what_a_seed_does_to_all_candidates_cancels() -> None:
    table = np.array([[0.70, 0.71, 0.69], [0.74, 0.76, 0.73], [0.69, 0.70, 0.68]])
    plain = compare(table)
    shifted = compare(table + np.array([0.1, -0.1, 0.05]))
    assert shifted.deviation == pytest.approx(plain.deviation)
    assert shifted.gaps == pytest.approx(plain.gaps)
    assert shifted.tied == plain.tied == (1,)


def test_the_deviation_is_that_of_the_noise_and_each_candidates_is_between_its_own_and_that() -> (
    None
):
    generator = np.random.default_rng(0)
    found = compare(generator.normal(0, 0.02, (200, 50)))
    assert found.deviation == pytest.approx(0.02, rel=0.03)
    unequal = compare(generator.normal(0, np.array([[0.01], [0.01], [0.04]]), (3, 20)))
    quiet, _, loud = unequal.deviations
    assert quiet < unequal.deviation < loud < 0.05


def test_more_certainty_tells_fewer_apart() -> None:
    table = np.random.default_rng(0).normal(0, 0.01, (10, 3)) + np.linspace(0, 0.05, 10)[:, None]
    kept = [len(compare(table, level).tied) for level in (0.5, 0.9, 0.99, 0.9999)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


def test_a_lone_candidate_is_told_apart_from_nobody_and_one_seed_tells_nothing() -> None:
    assert compare([[0.5, 0.6]]).tied == (0,)
    assert compare([[0.5]]).tied == (0,)
    assert compare([[0.5], [0.9]]).tied == (0, 1)
    assert compare([[0.5], [0.9]]).gaps == (math.inf, math.inf)


def test_a_paired_difference_alone_is_students() -> None:
    first, second = [0.71, 0.74, 0.73, 0.70], [0.70, 0.72, 0.72, 0.70]
    found = paired_difference(first, second)
    test = stats.ttest_rel(first, second)
    low, high = test.confidence_interval()
    assert found.difference == pytest.approx(0.01)
    assert found.half_width == pytest.approx((high - low) / 2)
    assert found.told_apart == (test.pvalue < 0.05)
    assert paired_difference([0.9], [0.1]) == (pytest.approx(0.8), math.inf, False)


def test_what_is_known_of_the_noise_narrows_a_difference_of_few_seeds() -> None:
    generator = np.random.default_rng(1)
    known = compare(generator.normal(0, 0.01, (4, 3)))
    first, second = generator.normal(0, 0.01, (2, 3))
    alone, helped = paired_difference(first, second), paired_difference(first, second, known)
    assert helped.difference == alone.difference
    assert helped.half_width < 2.8 * 0.01 * math.sqrt(2 / 3) * 2


def test_half_widths_pool_the_deviation_of_all_rows() -> None:
    rows = [[0.5, 0.6], [0.7, 0.72, 0.74], [0.4]]
    widths = half_widths(rows)
    assert widths[2] == pytest.approx(widths[1] * math.sqrt(3))
    assert half_widths([[0.5], [0.6]]) == (math.inf, math.inf)
