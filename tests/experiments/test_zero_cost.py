"""Scores of untrained networks are what their papers define, and the benchmark begins with them."""

import numpy as np
import pytest
import torch
from torch import nn

from experiments.benchmarks import samplers, zero_cost
from search.candidates import Candidates
from search.samplers.base import Sampler
from space import choices


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_synflow_of_linear_layers_is_their_number_times_the_flow_through_them():
    torch.manual_seed(0)
    first, second = nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)
    flow = (second.weight.abs() @ first.weight.abs() @ torch.ones(3)).sum().item()
    network = nn.Sequential(nn.Flatten(), first, second)
    assert zero_cost.synflow(network, (3, 1, 1)) == pytest.approx(np.log(2 * flow), rel=1e-6)


def test_naswot_counts_activations_on_the_same_side():
    network = nn.Sequential(nn.Flatten(), nn.ReLU())
    images = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
    # Each image agrees with itself in all three places, and with the other one in two.
    assert zero_cost.naswot(network, images) == pytest.approx(np.log(3 * 3 - 2 * 2))


def test_naswot_of_images_that_no_activation_tells_apart_is_least(images):
    network = nn.Sequential(nn.Flatten(), nn.ReLU())
    same = zero_cost.naswot(network, images[:1].expand(4, -1, -1, -1))
    assert same == -np.inf < zero_cost.naswot(network, images)


def test_gradient_norms_are_summed_over_layers():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    images, labels = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    excess = torch.softmax(network(images), 1) - nn.functional.one_hot(labels, 2)
    expected = (excess.T @ images / 4).norm().item()
    assert zero_cost.grad_norm(network, images, labels) == pytest.approx(expected, rel=1e-5)


def test_scores_follow_from_the_network_alone(images):
    space = choices.load("mnasnet_small").adapted(num_classes=3, resolution=8)
    candidates = Candidates(space, samplers.OBJECTIVES["soft"])
    architecture = candidates.at_row(candidates.sample(1, np.random.default_rng(0))[0]).architecture
    labels = torch.tensor([0, 1, 2, 0])
    found = [zero_cost.scores(architecture, images, labels) for _ in range(2)]
    assert found[0] == found[1]
    assert tuple(found[0]) == zero_cost.SCORES
    assert np.isfinite(list(found[0].values())).all()


def test_search_begins_with_the_networks_that_it_is_given():
    candidates = Candidates(choices.load(samplers.SPACE), samplers.OBJECTIVES["soft"])
    first = candidates.sample(3, np.random.default_rng(5))
    search = samplers.SimulatedSearch(
        Sampler(zero_cost.begun(first), candidates, 0), samplers.noise(0)
    )
    predict = lambda rows: 0.6 + 0.01 * rows.mean(axis=1)  # noqa: E731
    samplers.run([search], predict, samplers.SETTINGS[0], 5)
    proposed = candidates.rows(trial.params for trial in search.trials)
    np.testing.assert_array_equal(proposed[:3], first)
    assert len(np.unique(proposed, axis=0)) == 5


def test_order_of_accuracies_is_that_of_a_score_that_knows_them():
    scored = {
        str(n): {
            "accuracy": 0.1 * n,
            "macs": 5 - n,
            "params": n,
            "scores": dict.fromkeys(zero_cost.SCORES, 2.0 * n),
        }
        for n in range(4)
    }
    found = zero_cost.correlations(scored)
    assert found["synflow"] == 1.0
    assert found["macs"] == -1.0
