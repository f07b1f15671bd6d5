import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.objective import Bounds, Objective
from space.cost import Cost

costs = st.builds(Cost, *[st.integers(1, 10**12)] * 3)


def test_reward_is_the_accuracy_at_the_target() -> None:
    assert Objective(target=100).reward(0.7, Cost(100, 1, 1)) == 0.7


def test_soft_reward_is_level_when_twice_the_cost_buys_five_percent_of_accuracy() -> None:
    # MnasNet, section 3.1: -0.07 follows from 5 % relative accuracy per doubling of latency.
    objective = Objective(target=100)
    once, twice = objective.reward(0.50, Cost(100, 1, 1)), objective.reward(0.525, Cost(200, 1, 1))
    assert once == pytest.approx(twice, rel=2e-3)


def test_hard_reward_ignores_cost_below_the_target_and_divides_by_it_above() -> None:
    objective = Objective(target=100, exponent_below=0.0, exponent_above=-1.0)
    assert objective.reward(0.6, Cost(10, 1, 1)) == 0.6
    assert objective.reward(0.6, Cost(300, 1, 1)) == pytest.approx(0.2)


@given(st.floats(0.01, 1), st.floats(0.01, 1), costs, costs, st.integers(1, 10**9))
def test_soft_target_changes_no_ranking(
    a: float, b: float, cost_a: Cost, cost_b: Cost, target: int
) -> None:
    one, other = Objective(target=1_000), Objective(target=target)
    difference = one.reward(a, cost_a) - one.reward(b, cost_b)
    other_difference = other.reward(a, cost_a) - other.reward(b, cost_b)
    if abs(difference) > 1e-9:
        assert (difference > 0) == (other_difference > 0)


def test_reward_uses_the_named_cost() -> None:
    objective = Objective(target=10, cost="params", exponent_below=-1, exponent_above=-1)
    assert objective.reward(0.5, Cost(macs=1, params=20, activations=1)) == 0.25


@given(costs)
def test_bounds_admit_exactly_what_breaks_none(cost: Cost) -> None:
    bounds = Bounds(macs=(1_000, 10**6), activations=(10, 10**9))
    inside = 1_000 <= cost.macs <= 10**6 and 10 <= cost.activations <= 10**9
    assert bounds.admits(cost) == inside
    assert (bounds.why_not(cost) is None) == inside


def test_bounds_include_both_ends() -> None:
    bounds = Bounds(macs=(10, 20))
    assert bounds.admits(Cost(10, 1, 1))
    assert bounds.admits(Cost(20, 1, 1))


def test_refusal_says_which_cost_lies_where() -> None:
    bounds = Bounds(macs=(1_000, 2_000), params=(1, 5))
    assert bounds.why_not(Cost(2_500, 3, 1)) == (
        "2,500 MACs (multiply–adds) are not within 1,000 to 2,000"
    )


@pytest.mark.parametrize("pair", [(0, 5), (5, 4)])
def test_bounds_in_the_wrong_order_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="`0 < least <= most` must hold for params"):
        Bounds(params=pair)


def test_objective_refuses_a_target_of_nothing() -> None:
    with pytest.raises(ValueError, match="target > 0"):
        Objective(target=0)
