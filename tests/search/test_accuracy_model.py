import numpy as np
import pytest

from search.accuracy_model import USUAL, AccuracyModel, Design, Features, likeness
from space import moves
from space.choices import Space
from space.cost_table import tabulate

RNG = np.random.default_rng


@pytest.fixture
def features(space: Space) -> Features:
    return Features(tabulate(space))


def _truth(design: Design) -> np.ndarray:
    """A smooth accuracy between 0.3 and 0.9 that choices add up to, with a bend."""
    total = design.linear[:, :20].sum(axis=1) + np.tanh(design.costs[:, 0])
    return np.asarray(0.6 + 0.3 * np.tanh(total / 2))


def _rows(space: Space, count: int, seed: int) -> np.ndarray:
    sizes = np.array([len(values) for values in space.choices.values()])
    return moves.uniform(sizes, count, RNG(seed))


def test_model_predicts_networks_that_it_has_not_seen(space: Space, features: Features) -> None:
    known, new = features(_rows(space, 150, 0)), features(_rows(space, 300, 1))
    model = AccuracyModel(known, _truth(known))
    error = model.expect(new) - _truth(new)
    assert np.sqrt((error**2).mean()) < 0.25 * _truth(new).std()


def test_both_expectations_agree(space: Space, features: Features) -> None:
    known, new = features(_rows(space, 60, 0)), features(_rows(space, 40, 1))
    model = AccuracyModel(known, _truth(known))
    assert np.allclose(model(new)[0], model.expect(new))


def test_certainty_grows_with_measurements(space: Space, features: Features) -> None:
    rows, new = _rows(space, 200, 0), features(_rows(space, 100, 1))
    few, many = (
        AccuracyModel(features(rows[:n]), _truth(features(rows[:n])), scales=USUAL)
        for n in (20, 200)
    )
    assert many(new)[1].mean() < few(new)[1].mean()


def test_deviation_is_of_the_size_of_the_error(space: Space, features: Features) -> None:
    known, new = features(_rows(space, 120, 0)), features(_rows(space, 400, 1))
    expected, deviation = AccuracyModel(known, _truth(known))(new)
    ratio = np.abs(expected - _truth(new)) / deviation
    assert 0.1 < np.sqrt((ratio**2).mean()) < 3


def test_noise_is_found_in_noisy_accuracies(space: Space, features: Features) -> None:
    design = features(_rows(space, 300, 0))
    truth = _truth(design)
    clean = AccuracyModel(design, truth)
    noisy = AccuracyModel(design, truth + 0.03 * RNG(1).standard_normal(300))
    assert noisy.noise > 2 * clean.noise
    assert 0.01 < noisy.noise < 0.09


def test_doubted_accuracies_move_the_model_less(space: Space, features: Features) -> None:
    design = features(_rows(space, 80, 0))
    wrong = _truth(design)
    wrong[0] -= 0.2
    doubt = np.zeros(80)
    doubt[0] = 0.2**2
    trusting = AccuracyModel(design, wrong, scales=USUAL).expect(design)[0]
    doubting = AccuracyModel(design, wrong, scales=USUAL, doubt=doubt).expect(design)[0]
    truth = _truth(design)[0]
    assert abs(doubting - truth) < abs(trusting - truth)


def test_believing_changes_certainty_and_not_expectation(space: Space, features: Features) -> None:
    known, pending = features(_rows(space, 60, 0)), features(_rows(space, 5, 1))
    model = AccuracyModel(known, _truth(known))
    believing = model.believing(pending)
    assert np.allclose(believing.expect(pending), model.expect(pending), atol=5e-3)
    assert (believing(pending)[1] < model(pending)[1]).all()


def test_prior_of_related_accuracies_helps_where_data_are_few(space: Space) -> None:
    plain = Features(tabulate(space))
    earlier, few, new = (plain(_rows(space, n, seed)) for n, seed in ((400, 0), (8, 1), (300, 2)))
    prior = AccuracyModel(earlier, 0.5 * _truth(earlier) + 0.1)  # another level and spread
    informed = Features(tabulate(space), prior)
    alone = AccuracyModel(few, _truth(few))
    helped = AccuracyModel(informed(_rows(space, 8, 1)), _truth(few))
    error_alone = alone.expect(new) - _truth(new)
    error_helped = helped.expect(informed(_rows(space, 300, 2))) - _truth(new)
    assert np.abs(error_helped).mean() < 0.7 * np.abs(error_alone).mean()


def test_likeness_is_one_to_itself_and_falls_with_changes(space: Space, features: Features) -> None:
    rows = _rows(space, 10, 0)
    itself = np.diag(likeness(features(rows), features(rows), USUAL))
    assert np.allclose(itself, 1, atol=1e-6)
    others = likeness(features(rows), features(_rows(space, 10, 1)), USUAL)
    assert (others < 1).all()
