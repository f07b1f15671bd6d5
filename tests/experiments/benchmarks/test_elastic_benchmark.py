"""The benchmark of elastic networks: each unit is measured once, against the right truth."""

import numpy as np
import pytest

from experiments.benchmarks import elastic, fidelity


def test_a_second_start_goes_on_after_the_last_unit(tmp_path):
    made = []

    def unit(number, place):
        assert place.is_dir()
        made.append(number)
        if number == 3:
            raise KeyboardInterrupt
        return {"accuracy": number / 10}

    result = tmp_path / "elastic.json"
    work = {f"unit {number}": (unit, number) for number in (1, 3, 2)}
    with pytest.raises(KeyboardInterrupt):
        elastic.measured(work, result)
    del work["unit 3"]
    assert elastic.measured(work, result) == {
        "unit 1": {"accuracy": 0.1},
        "unit 2": {"accuracy": 0.2},
    }
    assert made == [1, 3, 2]


def test_the_truth_is_of_the_networks_that_are_measured_as_parts():
    space = fidelity.networks().space
    truth = elastic.accuracies()
    assert len({space.decode(each["choices"]).key for each in elastic.known()}) == len(truth) == 24
    assert ((truth > 0.3) & (truth < 0.6)).all()


def test_an_interval_covers_the_agreement_and_shrinks_with_the_number_of_networks():
    rng = np.random.default_rng(1)
    widths = []
    for count in (12, 200):
        one = rng.normal(size=count)
        other = one + rng.normal(size=count)
        low, high = elastic.interval(one, other)
        assert low < elastic.tau(one, other) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("between", [0.0, 0.5, 2.0])
def test_an_interval_covers_how_far_winners_are_ahead(between):
    """`between`: the deviation of elastic seeds' winners over that of a training run."""
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(400):
        chosen = rng.normal(0.01, 0.01 * between, size=(10, 1))
        winners = chosen + rng.normal(0, 0.01, size=(10, 5))
        mean, half = elastic.ahead(winners, rng.normal(0, 0.01, size=5))
        covered.append(abs(mean - 1.0) <= half)
    assert np.mean(covered) >= 0.93
