"""What elastic networks of several seeds say of the candidates for α, β, γ."""

import json

import numpy as np
import pytest

from scaling.elastic_order import ElasticOrder
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
    assert data["tau"] == pytest.approx(-1 / 3)  # two pairs of six are ordered alike
    assert order([0.1, np.nan, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]).to_dict()["tau"] is None
