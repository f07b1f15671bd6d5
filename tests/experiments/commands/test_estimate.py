"""`phiscale estimate` measures, adds up, and says what would fit."""

import json
from statistics import fmean

import numpy as np
import pytest

from experiments import config
from experiments.planning import estimate as estimating
from experiments.planning import time_limit, training_speed
from experiments.planning.estimate import Estimator, Range
from space import moves
from space.cost import cost

RECIPE = (
    "resolution=16",
    "data.glyphs.classes=3",
    "data.glyphs.train_images=300",
    "data.glyphs.test_images=60",
    "objective.target=400K",
    "objective.bounds={macs: [100K, 900K]}",
    "search.trials=10",
    "coefficients.step=0.5",
    "coefficients.tolerance=0.5",
    "search.pruner.kind=none",
    "executor.threads=1",
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return config.load("demo", (*RECIPE, f"data.cache={cache}"))


@pytest.fixture(scope="module")
def estimator(recipe) -> Estimator:
    """Really measured, with shorter epochs than a user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_speed, "_EPOCH_SECONDS", 0.1)
        return Estimator(recipe)


def exact(estimator: Estimator, seconds_per_mac: float) -> Estimator:
    """The same with a machine that takes time in proportion to MACs, and none to begin."""
    changed = object.__new__(Estimator)
    vars(changed).update(vars(estimator))
    probes = [
        probe._replace(train=probe.macs * seconds_per_mac, validation=0.0, spread=0.0, start=0.0)
        for probe in estimator.probes
    ]
    changed.probes = tuple(probes)
    return changed


def test_it_measures_from_the_smallest_candidate_to_the_largest_member(estimator):
    low, _, high = estimator.estimate().macs
    assert 100_000 <= low < high <= 900_000
    names = [each.name for each in estimator.probes]
    assert names[0] == "smallest candidate"
    assert names[-1] == "largest member"
    assert estimator.probes[0].macs == low
    assert all(each.train > 0 and each.validation > 0 for each in estimator.probes)


def test_stages_add_up_to_what_the_recipe_asks_for(estimator, recipe):
    found = exact(estimator, 1e-9).estimate()
    stages = {stage.name: stage for stage in found.stages}
    images = len(estimator.data.train)
    macs = fmean(cost(each).macs for each in estimator._drawn)
    expected = 10 * recipe.search.epochs * images * macs * 1e-9
    assert stages["search"].seconds.middle == pytest.approx(expected)
    assert [stage.trainings for stage in found.stages][:2] == [10, recipe.search.finalists]
    assert stages["family"].trainings == len(recipe.family.phi)
    everything = sum(stage.seconds.middle for stage in found.stages)
    assert found.seconds.middle == pytest.approx(everything)
    assert found.seconds.low < found.seconds.middle < found.seconds.high


def test_several_machines_share_trainings_and_wait_for_the_longest(estimator):
    alone = exact(estimator, 1e-9).estimate(machines=1)
    shared = exact(estimator, 1e-9).estimate(machines=5)
    assert alone.shared == alone.seconds
    assert shared.stages[0].shared.middle == pytest.approx(shared.stages[0].seconds.middle / 5)
    middle = [
        sorted(cost(network).macs for network in versions)[1]
        for versions in zip(*estimator._families, strict=True)
    ]
    images = len(estimator.data.full_train) * estimator.recipe.family.epochs
    longest = max(middle) * images * 1e-9
    assert shared.stages[3].shared.middle == pytest.approx(longest)


def test_combinations_are_counted_as_they_are(estimator):
    found = estimator.estimate()
    candidates = estimator._candidates
    rows = moves.uniform(candidates.sizes, 20_000, np.random.default_rng(1))
    share = candidates.within(rows).mean()
    assert found.combinations == pytest.approx(share * found.size, rel=0.2)


def test_every_way_to_fit_really_fits(estimator):
    slow = exact(estimator, 1e-6)
    total = slow.estimate().seconds.middle
    hours = 0.6 * total / 3600
    ways = time_limit.ways(slow, hours)
    assert any("search.trials" in values for _, values in ways)
    for _, values in ways:
        changed = time_limit._changed(slow.recipe, values)
        assert slow.estimate(changed).seconds.middle <= 0.6 * total
    machines = time_limit.machines_for(slow, hours)
    assert slow.estimate(machines=machines).shared.middle <= 0.6 * total
    assert time_limit.machines_for(slow, hours / 1e6) is None


def test_the_pruner_saves_something_at_best_and_nothing_at_worst(recipe):
    pruned = recipe.model_copy(
        update={
            "search": recipe.search.model_copy(
                update={"pruner": config.PrunerConfig(kind="median"), "trials": 105, "epochs": 10}
            )
        }
    )
    low, middle, high = estimating._kept(pruned)
    assert high == 1
    assert low == pytest.approx(1 - 100 / 105 * 0.5 * 0.8)
    assert low < middle < high
    assert estimating._kept(recipe) == (1, 1, 1)


def test_seconds_between_measured_networks_follow_their_logarithms():
    known = [(1_000_000, 0.001), (4_000_000, 0.002)]
    assert estimating._interpolated(2_000_000, known) == pytest.approx(0.001 * 2**0.5)
    assert estimating._interpolated(500_000, known) == pytest.approx(0.0005)
    assert estimating._interpolated(8_000_000, known) == pytest.approx(0.004)


def test_ranges_add_low_to_low():
    assert Range(1, 2, 3) + Range(10, 20, 30) == Range(11, 22, 33)


def test_the_command_prints_what_it_measured(phiscale, recipe, estimator, monkeypatch, tmp_path):
    monkeypatch.setattr(training_speed, "_EPOCH_SECONDS", 0.05)
    path = tmp_path / "tiny.yaml"
    path.write_text(config.dump(recipe), "utf-8")
    said = phiscale("estimate", path, "--hours", "0.001", "--machines", "3")
    assert said.status == 0, said.err
    assert "networks of mnasnet_small are within the bounds" in " ".join(said.out.split())
    assert "3 machines" in said.out
    assert "to fit into 3.6 s, one of:" in said.out
    assert max(len(line) for line in said.out.splitlines() if "phiscale run" not in line) <= 80
    monkeypatch.setattr(estimating, "Estimator", lambda *_: estimator)
    found = json.loads(phiscale("estimate", path, "--json").out)
    assert [stage["name"] for stage in found["stages"]] == [
        *("search", "finalists", "coefficients", "family")
    ]
    assert found["bytes"] > found["cache_bytes"] > 0


def test_what_is_looked_up_is_not_estimated(recipe):
    looked_up = replace_evaluator(recipe)
    with pytest.raises(estimating.InvalidInput, match="nothing to estimate"):
        Estimator(looked_up)


def replace_evaluator(recipe):
    evaluator = recipe.evaluator.model_copy(update={"kind": "records"})
    return recipe.model_copy(update={"evaluator": evaluator})
