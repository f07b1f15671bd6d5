"""What is said of proxies and pruners follows from the recorded learning curves."""

import statistics

import pytest

from experiments.benchmarks import fidelity


def _found(accuracy):
    """Networks of equal cost; `accuracy` of (network, epoch, seed)."""

    def curve(network, epochs, seed):
        return [
            {"accuracy": accuracy(network, epoch, seed), "seconds": 2.0}
            for epoch in range(1, epochs + 1)
        ]

    return {
        "networks": [
            {
                "cost": {"macs": 1_000_000, "params": 1, "activations": 1},
                "training_runs": [
                    {
                        "proxy": curve(network, fidelity.PROXY_EPOCHS, seed),
                        "long": curve(network, fidelity.LONG_EPOCHS, seed),
                    }
                    for seed in fidelity.SEEDS
                ],
            }
            for network in range(fidelity.NETWORKS)
        ]
    }


@pytest.fixture
def few_orders(monkeypatch):
    monkeypatch.setattr(fidelity, "ORDERS", 5)


def test_training_runs_that_keep_their_order_agree_at_every_length():
    found = _found(lambda network, epoch, _: 0.01 * network + 0.01 * epoch)
    assert set(fidelity.correlations(found).values()) == {1.0}


def test_training_runs_whose_order_follows_the_seed_agree_with_themselves_alone():
    def turned(network, epoch, seed):
        return 0.01 * (network if seed == fidelity.SEEDS[0] else -network) + 0.5 + 0.01 * epoch

    found = fidelity.correlations(_found(turned))
    assert found.pop("the long training with another seed") == pytest.approx((1 - 1 - 1) / 3)
    assert set(found.values()) == {1.0}


def test_spread_tells_networks_from_seeds():
    mean, networks, seeds = fidelity.spread(_found(lambda network, _, seed: network + 100 * seed))
    assert mean == pytest.approx((fidelity.NETWORKS - 1) / 2 + 100)
    assert networks == pytest.approx(statistics.stdev(range(fidelity.NETWORKS)))
    assert seeds == pytest.approx(100)


@pytest.mark.usefixtures("few_orders")
def test_pruners_never_miss_the_best_where_it_always_leads():
    savings = fidelity.savings(_found(lambda network, epoch, _: 0.01 * network + 0.01 * epoch))
    whole = 2.0 * fidelity.NETWORKS * fidelity.LONG_EPOCHS
    assert savings["none"].whole_seconds == whole
    for kind in ("median", "hyperband", "asha"):
        assert savings[kind].never == 0
        assert savings[kind].seconds <= savings[kind].whole_seconds < whole


@pytest.mark.usefixtures("few_orders")
def test_pruner_that_stops_all_of_the_best_never_gets_there():
    def late(network, epoch, _):
        return 0.01 * network if epoch == fidelity.LONG_EPOCHS else -0.01 * network + 0.5

    savings = fidelity.savings(_found(late))
    assert savings["none"].never == 0
    assert savings["asha"].never > 0
