import numpy as np
import pytest
from scipy.stats import multivariate_normal

from search.accuracy_model import (
    AccuracyModel,
    DesignMatrix,
    Features,
    Scales,
    fit,
    likeness,
    usual,
)
from space import moves
from space.choices import Space
from space.cost_table import tabulate

RNG = np.random.default_rng


@pytest.fixture
def features(space: Space) -> Features:
    return Features(tabulate(space))


def _truth(design: DesignMatrix) -> np.ndarray:
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
        AccuracyModel(features(rows[:n]), _truth(features(rows[:n])), scales=usual(new))
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
    half = np.array(0.5)
    assert noisy.noise(half) > 2 * clean.noise(half)
    assert 0.01 < noisy.noise(half) < 0.09
    assert noisy.noise(np.array(0.9)) == pytest.approx(noisy.noise(half) / 5)


def test_doubted_accuracies_move_the_model_less(space: Space, features: Features) -> None:
    design = features(_rows(space, 80, 0))
    wrong = _truth(design)
    wrong[0] -= 0.2
    doubt = np.zeros(80)
    doubt[0] = 0.2**2
    trusting = AccuracyModel(design, wrong, scales=usual(design)).expect(design)[0]
    doubting = AccuracyModel(design, wrong, scales=usual(design), doubt=doubt).expect(design)[0]
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
    design, others = features(_rows(space, 10, 0)), features(_rows(space, 10, 1))
    scales = usual(design)
    assert np.allclose(np.diag(likeness(design, design, scales)), 1, atol=1e-6)
    unlike = likeness(design, others, scales)
    assert (unlike < 1).all()
    assert (likeness(design, others, scales.stretched(0.5)) < unlike).all()


def test_likeness_falls_with_every_further_stage_that_differs(
    space: Space, features: Features
) -> None:
    table = tabulate(space)
    row, other = np.zeros(len(table.sizes), np.int64), table.sizes - 1
    steps = [row]
    for stage in table.stages:
        step = steps[-1].copy()
        step[stage.columns] = other[stage.columns]
        steps.append(step)
    design = features(np.array(steps))
    assert (np.diff(likeness(design, design, usual(design))[0]) < 0).all()


def test_fit_finds_which_stages_matter(space: Space, features: Features) -> None:
    """A stage in which accuracy bends is given a shorter length than one that makes no odds."""
    table = tabulate(space)
    rows = _rows(space, 300, 0)
    last = table.stages[-1]
    bent = np.sin(3.0 * (rows[:, last.columns] / np.maximum(last.sizes - 1, 1)).sum(axis=1))
    _, *lengths = fit(features(rows), (bent - bent.mean()) / bent.std()).lengths
    assert lengths[-1] == min(lengths) < 0.5 * lengths[0]


def test_fit_is_better_than_every_step_away_from_it(space: Space, features: Features) -> None:
    """The gradient that leads there is the right one."""
    design = features(_rows(space, 200, 0))
    truth = np.log(_truth(design)) + 0.02 * RNG(1).standard_normal(200)
    truth = (truth - truth.mean()) / truth.std()
    found = fit(design, truth)
    assert found != usual(design)
    best = _likelihood(design, truth, found)
    for place in range(len(found.lengths)):
        for factor in (0.25, 4.0):
            lengths = list(found.lengths)
            lengths[place] *= factor
            assert _likelihood(design, truth, Scales(tuple(lengths), found.noise)) < best
    for factor in (0.25, 4.0):
        assert _likelihood(design, truth, Scales(found.lengths, factor * found.noise)) < best


def _likelihood(design: DesignMatrix, standard: np.ndarray, scales: Scales) -> float:
    """The log posterior of `scales`, written down directly."""
    start, count = usual(design), len(standard)
    covariance = 25 * likeness(design, design, scales) + design.linear @ design.linear.T
    covariance += scales.noise * np.eye(count)
    variance = standard @ np.linalg.solve(covariance, standard) / count
    likelihood = multivariate_normal.logpdf(standard, cov=variance * covariance)
    away = np.log(scales.lengths) - np.log(start.lengths)
    return float(
        likelihood - (away**2).sum() - 0.05 * (np.log(scales.noise) - np.log(start.noise)) ** 2
    )
