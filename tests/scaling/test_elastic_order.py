"""What elastic networks of several seeds say of the candidates for α, β, γ."""

import json
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau

from scaling.elastic_order import ElasticOrder, seed_agreement
from scaling.grid import realised
from space import choices

CANDIDATES = realised(choices.load("mnasnet_small").base, 0.1, 0.3, 2.0)[:4]


def order(*rows):
    return ElasticOrder(CANDIDATES, np.array(rows, float))


def test_the_best_are_those_with_the_highest_means_over_the_seeds():
    found = order([0.5, 0.6, 0.9, 0.1], [0.7, 0.6, 0.1, np.nan])
    assert found.best(3) == (CANDIDATES[0], CANDIDATES[1], CANDIDATES[2])
    assert found.best(9)[-1] == CANDIDATES[3]


def test_the_interval_holds_the_best_of_every_seed():
    data = json.loads(json.dumps(order([0.5, 0.6, 0.9, 0.1], [0.7, 0.6, 0.1, 0.2]).to_dict()))
    winners = [CANDIDATES[2].coefficients, CANDIDATES[0].coefficients]
    for name in ("alpha", "beta", "gamma"):
        ends = [getattr(each, name) for each in winners]
        assert data["interval"][name] == [min(ends), max(ends)]
    assert data["accuracies"][CANDIDATES[0].label] == [0.5, 0.7]
    assert data["agreement"] == {"tau": pytest.approx(-1 / 3), "interval": None, "networks": 4}


@pytest.mark.parametrize("seeds", [2, 4])
def test_the_agreement_of_seeds_is_the_mean_tau_of_their_pairs(seeds):
    rng = np.random.default_rng(0)
    accuracies = rng.integers(12, size=(seeds, 40)) / 12  # with ties
    pairs = [kendalltau(*pair).statistic for pair in combinations(accuracies, 2)]
    found = seed_agreement(np.insert(accuracies, 7, np.nan, axis=1))
    assert found.tau == pytest.approx(np.mean(pairs))
    assert found.networks == 40


@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_the_interval_holds_the_tau_of_correlated_normal_variables(tau):
    correlation = np.sin(np.pi / 2 * tau)  # Kendall's τ of two normal variables
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        drawn = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 20).T
        low, high = seed_agreement(drawn).interval
        held += low <= tau <= high
    assert 180 <= held < 200  # 95 % of 200, ± three standard deviations


def test_without_an_order_or_a_second_seed_nothing_is_said():
    for rows in (
        [[0.1, 0.2]],
        [[0.1], [0.2]],
        [[0.1, 0.2], [0.3, 0.3]],
        [[0.1, 0.2], [np.nan] * 2],
    ):
        assert seed_agreement(np.array(rows)) is None
