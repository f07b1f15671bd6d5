"""What is left is told as an interval, and the interval holds what comes as often as it says."""

import random

import pytest

from experiments.progress.time_left import Done, left


def test_nothing_is_said_before_anything_is_done():
    assert left([], [1.0, 1.0]) is None


def test_equal_work_at_equal_pace_is_certain():
    found = left([Done(2.0, 10.0)] * 3, [2.0, 4.0])
    assert found == (30.0, 30.0, 30.0)
    assert str(found) == "30 s left"


def test_one_training_says_nothing_of_the_spread():
    assert str(left([Done(1.0, 60.0)], [1.0, 1.0])) == "roughly 2 min left"


def test_several_at_a_time_share_the_work_and_wait_for_the_longest():
    done = [Done(1.0, 10.0)] * 3
    assert left(done, [1.0] * 8, workers=4).seconds == pytest.approx(20)
    assert left(done, [0.5, 3.0], workers=4).seconds == pytest.approx(30)


@pytest.mark.parametrize(("done", "remaining"), [(3, 2), (8, 30)])
def test_four_of_five_intervals_hold_what_comes(done, remaining):
    draw = random.Random(4)
    held = 0
    for _ in range(2_000):
        pace = [Done(1.0, draw.gauss(10, 2)) for _ in range(done)]
        found = left(pace, [1.0] * remaining)
        held += found.low <= sum(draw.gauss(10, 2) for _ in range(remaining)) <= found.high
    assert held / 2_000 == pytest.approx(0.8, abs=0.04)
