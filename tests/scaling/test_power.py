"""What a design can show before anything is trained."""

import math

import numpy as np
import pytest

from scaling.comparison import compare
from scaling.power import PowerAnalysis, resolvable, seeds_for


@pytest.mark.parametrize(("count", "seeds"), [(2, 5), (4, 3), (8, 4)])
def test_a_resolvable_difference_is_found_as_often_as_it_says(count: int, seeds: int) -> None:
    difference = resolvable(0.01, count, seeds)
    generator, found = np.random.default_rng(0), 0
    for _ in range(600):
        table = generator.normal(0, 0.01, (count, seeds))
        table[0] += difference
        found += 1 not in compare(table).tied
    assert found / 600 == pytest.approx(0.8, abs=0.05)


def test_more_seeds_and_less_noise_resolve_more() -> None:
    differences = [resolvable(0.013, 4, seeds) for seeds in (2, 3, 5, 10)]
    assert differences == sorted(differences, reverse=True)
    assert resolvable(0.026, 4, 3) == pytest.approx(2 * resolvable(0.013, 4, 3))
    assert resolvable(0.01, 4, 1) == resolvable(0.01, 1, 5) == math.inf


def test_half_a_point_at_the_noise_of_a_small_data_set_takes_about_ninety_seeds() -> None:
    assert 80 <= seeds_for(0.005, 0.013) <= 90
    assert seeds_for(0.5, 0.001) == 2


def test_a_design_says_it_in_a_sentence_and_in_json() -> None:
    design = PowerAnalysis(12, 4, 3, 0.013, "the binomial error of 155 held-out images")
    found = design.to_dict()
    assert found["resolves"] == resolvable(0.013, 4, 3)
    assert found["sentence"] == design.sentence
    assert design.sentence.startswith(
        "12 candidates; with noise of 1.3 points per training run (the binomial error of 155 "
        "held-out images), 4 finalists with 3 paired seeds show a difference of "
    )
    assert f"half a point would take {seeds_for(0.005, 0.013)} seeds" in design.sentence
    alone = PowerAnalysis(1, 1, 3, 0.013, "x")
    assert alone.to_dict()["resolves"] is None
