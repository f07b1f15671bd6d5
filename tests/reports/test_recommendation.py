import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from experiments.benchmarks.decision import family, simulate
from reports.recommendation import compare_members, recommend
from reports.schema import rows
from reports.statistics import paired_difference, unpaired_difference


def _answers(gained, lost, both, neither):
    """What two networks are right about, from how often each case occurs."""
    first = np.repeat([False, True, True, False], [gained, lost, both, neither])
    second = np.repeat([True, False, True, False], [gained, lost, both, neither])
    return first, second


@given(*[st.integers(0, 40)] * 2, st.integers(1, 300), st.integers(0, 30))
def test_the_paired_test_is_mcnemars_exact_one(gained, lost, both, neither):
    found = paired_difference(*_answers(gained, lost, both, neither))
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.p_value == pytest.approx(expected)
    assert found.difference == pytest.approx((gained - lost) / (gained + lost + both + neither))
    assert found.low <= found.difference <= found.high
    assert found.told_apart == (not found.low <= 0 <= found.high)


def test_overlapping_intervals_can_be_told_apart_on_the_same_images():
    first, second = _answers(gained=12, lost=0, both=480, neither=24)
    assert paired_difference(first, second).told_apart
    unpaired = unpaired_difference((first.mean(), len(first)), (second.mean(), len(second)))
    assert not unpaired.told_apart


def test_two_independent_accuracies_have_newcombes_interval():
    found = unpaired_difference((48 / 80, 80), (56 / 70, 70))  # his example, the order reversed
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-4)


def test_of_balanced_accuracy_the_mean_over_classes_differs():
    classes = np.repeat([0, 1], [300, 100])
    first = np.ones(400, dtype=bool)
    second = np.concatenate([np.ones(300, dtype=bool), np.repeat([True, False], [60, 40])])
    found = paired_difference(first, second, classes=classes)
    assert found.difference == pytest.approx(-0.20)
    assert found.told_apart
    assert paired_difference(first, first, classes=classes).p_value == 1.0


def _advice(truth, images, seed=1):
    members, answers = family(truth, images, seed)
    return recommend(members, compare_members(members, answers))


def test_a_tie_is_a_decision_for_the_cheapest():
    advice = _advice((0.97, 0.97, 0.97), 2_000)
    assert advice.member == "b0"
    assert advice.tied == ("b1", "b2")
    assert advice.headline.startswith("B0 suffices (9")
    assert ": 4 times the MACs brought nothing that 2,000 test images can show." in advice.headline
    assert "do not tell B0 from B1, B2" in advice.undecided[0]


def test_a_tie_that_hides_a_large_gain_is_not_called_sufficient():
    advice = _advice((0.90, 0.90), 100)
    assert advice.headline.startswith("Start with B0 (")
    assert "2 times the MACs brought nothing that 100 test images can show" in advice.headline
    assert "are not excluded" in advice.headline


def test_a_falling_curve_is_said_in_the_headline():
    advice = _advice((0.9, 0.8, 0.7), 1_000)
    assert advice.member == "b0"
    assert advice.headline.endswith("B2, 4 times the MACs, is 18.3 points less accurate.")
    assert advice.undecided[0].startswith("Intervals")


def test_what_more_and_fewer_macs_change_has_intervals():
    advice = _advice((0.6, 0.8, 0.8), 1_000)
    assert advice.member == "b1"
    more, fewer = advice.alternatives
    assert more.startswith("More MACs would buy: ")
    assert " with B2, 2 times the MACs" in more
    assert fewer.startswith("Fewer MACs would cost: −")
    assert _advice((0.6, 0.7, 0.8), 1_000).headline.endswith("than every cheaper member.")


def test_a_family_of_one_has_nothing_to_decide():
    advice = _advice((0.9,), 1_000)
    assert advice.headline.startswith("B0 reaches ")
    assert advice.alternatives == advice.undecided == ()


def test_members_without_answers_are_compared_by_their_accuracies():
    members, answers = family((0.6, 0.9), 1_000, 1)
    (pair,) = rows(compare_members(members, answers[:0]))
    assert pair["told_apart"]
    assert pair["p_value"] is None
    (unknown,) = [compare_members(members.assign(images=None), answers[:0])]
    assert unknown.empty
    assert recommend(members, unknown).member == "b0"


@pytest.mark.parametrize("truth", [(0.97, 0.97, 0.97), (0.95, 0.93, 0.93)])
def test_statements_are_true_of_nineteen_families_in_twenty(truth):
    """100 simulated families of known truth; two standard errors of 5 % are 4.4 points."""
    families = 100
    found = simulate(truth, 500, families)
    allowed = 0.05 + 2 * math.sqrt(0.05 * 0.95 / families)
    assert found["false_statements"] <= allowed
    assert found["missed_intervals"] <= allowed
    assert found["recommended"]["b0"] >= 1 - allowed
