"""What is said of proxies and pruners follows from the recorded learning curves."""

import pytest

from experiments.benchmarks import fidelity


def _found(accuracy):
    """Networks of equal cost; `accuracy` of (network, epoch)."""

    def curve(network, epochs):
        return [
            {"accuracy": accuracy(network, epoch), "seconds": 2.0} for epoch in range(1, epochs + 1)
        ]

    return {
        "networks": [
            {
                "cost": {"macs": 1_000_000, "params": 1, "activations": 1},
                "proxy": curve(network, fidelity.PROXY_EPOCHS),
                "long": curve(network, fidelity.LONG_EPOCHS),
            }
            for network in range(fidelity.NETWORKS)
        ]
    }


@pytest.fixture
def few_orders(monkeypatch):
    monkeypatch.setattr(fidelity, "ORDERS", 5)


def test_trainings_that_keep_their_order_agree_at_every_length():
    found = _found(lambda network, epoch: 0.01 * network + 0.01 * epoch)
    assert set(fidelity.correlations(found).values()) == {1.0}


@pytest.mark.usefixtures("few_orders")
def test_pruners_never_miss_the_best_where_it_always_leads():
    savings = fidelity.savings(_found(lambda network, epoch: 0.01 * network + 0.01 * epoch))
    whole = 2.0 * fidelity.NETWORKS * fidelity.LONG_EPOCHS
    assert savings["none"].whole_seconds == whole
    for kind in ("median", "hyperband", "asha"):
        assert savings[kind].never == 0
        assert savings[kind].seconds <= savings[kind].whole_seconds < whole


@pytest.mark.usefixtures("few_orders")
def test_pruner_that_stops_all_of_the_best_never_gets_there():
    def late(network, epoch):
        return 0.01 * network if epoch == fidelity.LONG_EPOCHS else -0.01 * network + 0.5

    savings = fidelity.savings(_found(late))
    assert savings["none"].never == 0
    assert savings["asha"].never > 0
