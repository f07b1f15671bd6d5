"""The benchmark of NAS-Bench-Macro, on the file itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks.nas_bench_macro import MacroCandidates, Truth, _name, regret, search


@pytest.fixture(scope="module")
def truth(shared: Path) -> Truth:
    return Truth(shared / "data/nas_bench_macro/nas-bench-macro_cifar10.json")


def test_costs_are_those_of_the_file(truth: Truth) -> None:
    candidates = MacroCandidates(truth, 60_000_000)
    rows = candidates.sample(200, np.random.default_rng(0))
    costs = candidates.table(rows)
    names = [_name(row) for row in rows]
    # The file's parameters and MACs of a layer are exact; its stem's and head's are an eighth each.
    assert costs[:, 0] == pytest.approx([truth.macs(name) for name in names], abs=8)
    assert costs[:, 1] == pytest.approx([truth.params(name) for name in names], abs=8)
    assert max(truth.macs(name) for name in names) <= 60_000_000


def test_regret_is_what_is_lacking_to_the_best_within_the_bound(truth: Truth) -> None:
    most = 40_000_000
    candidates = MacroCandidates(truth, most)
    trials = search("random", candidates, truth, seed=0, trials=20)
    found = regret(trials, candidates, truth, most)
    assert 0 <= found < 3
    assert truth.best(most) == max(m for n, m in truth.mean.items() if truth.macs(n) <= most)
