"""`phiscale estimate` measures, adds up, and says what would fit."""

import json
import signal
from statistics import fmean

import numpy as np
import pytest

from experiments import config
from experiments.planning import estimate as estimating
from experiments.planning import time_limit, training_speed
from experiments.planning.estimate import Estimator, Range
from experiments.runs.recipe_changes import changed
from space import moves
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget, Epoch, Measurement, Report

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
    "coefficients.method=grid",
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
        patch.setattr(estimating, "_ATTEMPTS", 1)
        return Estimator(recipe)


def exact(estimator: Estimator, seconds_per_mac: float) -> Estimator:
    """The same with a machine that takes time in proportion to MACs, and none to begin."""
    faster = object.__new__(Estimator)
    vars(faster).update(vars(estimator))
    speeds = [
        speed._replace(train=speed.macs * seconds_per_mac, validation=1e-15, spread=0.0, start=0.0)
        for speed in estimator.speeds
    ]
    faster.speeds = tuple(speeds)
    return faster


def test_it_measures_from_the_smallest_candidate_to_the_largest_member(estimator):
    low, _, high = estimator.estimate().macs
    assert 100_000 <= low < high <= 900_000
    names = [each.name for each in estimator.speeds]
    assert names[0] == "smallest candidate"
    assert names[-1] == "largest member"
    assert estimator.speeds[0].macs == low
    assert all(each.train > 0 and each.validation > 0 for each in estimator.speeds)


def test_stages_add_up_to_what_the_recipe_asks_for(estimator, recipe):
    found = exact(estimator, 1e-9).estimate()
    stages = {stage.name: stage for stage in found.stages}
    images = len(estimator.data.train)
    macs = fmean(cost(each).macs for each in estimator.networks.drawn)
    expected = 10 * recipe.search.epochs * images * macs * 1e-9
    assert stages["search"].seconds.middle == pytest.approx(expected)
    assert [stage.training_runs for stage in found.stages][:2] == [10, recipe.search.finalists]
    assert stages["family"].training_runs == len(recipe.family.phi)
    everything = sum(stage.seconds.middle for stage in found.stages)
    assert found.seconds.middle == pytest.approx(everything)
    assert found.seconds.low < found.seconds.middle < found.seconds.high


def test_further_elastic_seeds_train_a_network_each_and_measure_parts_again(estimator, recipe):
    one, three = (
        exact(estimator, 1e-9)
        .estimate(changed(recipe, {"evaluator.kind": "elastic", "evaluator.seeds": seeds}))
        .stages[0]
        for seeds in (1, 3)
    )
    assert [one.training_runs, three.training_runs] == [1, 3 + 2 * 10]
    assert three.seconds.middle == pytest.approx(3 * one.seconds.middle)  # measuring takes no time
    assert three.bytes > one.bytes


def test_several_machines_share_training_runs_and_wait_for_the_longest(estimator):
    alone = exact(estimator, 1e-9).estimate(machines=1)
    shared = exact(estimator, 1e-9).estimate(machines=5)
    assert alone.shared == alone.seconds
    assert shared.stages[0].shared.middle == pytest.approx(shared.stages[0].seconds.middle / 5)
    middle = [
        sorted(cost(network).macs for network in versions)[1]
        for versions in zip(*estimator.networks.families, strict=True)
    ]
    images = len(estimator.data.full_train) * estimator.recipe.family.epochs
    longest = max(middle) * images * 1e-9
    assert shared.stages[3].shared.middle == pytest.approx(longest)


def test_members_that_grow_from_each_other_share_nothing(estimator, recipe):
    growing = changed(recipe, {"family.grow": True, "search.continue_finalists": True})
    fast = exact(estimator, 1e-9)
    search, *_, family = fast.estimate(growing, machines=5).stages
    assert family.shared == family.seconds
    kept = (recipe.search.trials + recipe.search.finalists) * fmean(
        4 * cost(each).params for each in estimator.networks.drawn
    )
    assert search.bytes - fast.estimate().stages[0].bytes == round(kept)


def test_a_teacher_looks_at_the_images_of_the_others(estimator, recipe):
    fast = exact(estimator, 1e-9)
    fast.speeds = tuple(each._replace(validation=each.macs * 1e-10) for each in fast.speeds)
    alone, taught = (
        fast.estimate(changed(recipe, {"family.teacher": teacher})).stages[3].seconds
        for teacher in (None, "b1")
    )
    teachers = [cost(family[1]).macs for family in estimator.networks.families]
    looks = recipe.family.epochs * len(estimator.data.full_train) * (len(recipe.family.phi) - 1)
    more = (taught.middle - alone.middle) / (looks * 1e-10)
    assert min(teachers) <= more <= max(teachers)


def test_combinations_are_counted_as_they_are(estimator):
    found = estimator.estimate()
    candidates = estimator.networks.candidates
    rows = moves.uniform(candidates.sizes, 20_000, np.random.default_rng(1))
    share = candidates.within(rows).mean()
    assert found.combinations == pytest.approx(share * found.size, rel=0.2)


def fitted(slow: Estimator, part: float):
    """The recipe reduced to this part of its time, of which a tenth is for the report."""
    found = time_limit.fit(slow, part * slow.estimate().seconds.middle / 3600 / 0.9)
    assert found is None or found.estimate.seconds.middle <= part * slow.estimate().seconds.middle
    return found


def test_a_recipe_that_fits_is_not_changed(estimator):
    found = fitted(exact(estimator, 1e-6), 1.001)
    assert found.changes == {}
    assert found.recipe == estimator.recipe


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (0.7, {"family.phi"}),
        (0.3, {"family.phi", "objective.bounds.macs", "objective.target"}),
    ],
)
def test_members_go_first_and_then_the_baseline_shrinks(estimator, part, expected):
    found = fitted(exact(estimator, 1e-6), part)
    assert found.changes.keys() == expected
    assert found.changes["family.phi"] in ((0.0, 1.0, 2.0), (0.0, 1.0))
    if part < 0.7:
        assert found.changes["objective.target"] < 400_000


def test_trials_and_then_epochs_are_reduced_at_last(estimator):
    recipe = estimator.recipe
    kept = recipe.search.model_copy(update={"trials": 40, "epochs": 3, "final_epochs": 5})
    more = exact(estimator, 1e-6)
    more.recipe = recipe.model_copy(update={"search": kept})
    total = more.estimate().seconds.middle
    for part in (0.3, 0.1, 0.05):
        found = time_limit.fit(more, part * total / 3600 / 0.9)
        if found is None:
            continue
        search, names = found.recipe.search, found.changes.keys()
        assert len(found.recipe.family.phi) == 2
        assert search.trials >= 8
        assert search.finalists <= search.trials
        assert 1 <= search.epochs <= search.final_epochs
        assert ("family.epochs" in names) <= ("search.trials" in names)
    assert "family.epochs" in names


def test_epochs_are_reduced_one_key_at_a_time_the_family_first_and_the_search_last(estimator):
    search = estimator.recipe.search.model_copy(update={"epochs": 2, "final_epochs": 4})
    recipe = estimator.recipe.model_copy(update={"search": search})
    before, keys = recipe, []
    for fewer in time_limit._fewer_epochs(recipe):
        ((key, value),) = time_limit.differences(before, fewer).items()
        assert value >= 1
        assert fewer.search.final_epochs >= fewer.search.epochs
        before = fewer
        keys.append(key)
    assert keys[0] == "family.epochs"
    assert keys.count("search.epochs") == 1
    assert before.search.epochs == before.family.epochs == 1


def test_nothing_is_enough_for_a_moment_but_a_smaller_recipe(estimator):
    slow = exact(estimator, 1e-6)
    assert time_limit.fit(slow, 1e-9) is None
    assert time_limit.machines_for(slow, 1e-9) is None


def test_so_many_machines_are_enough(estimator):
    slow = exact(estimator, 1e-6)
    total = slow.estimate().seconds.middle
    machines = time_limit.machines_for(slow, 0.6 * total / 3600)
    assert slow.estimate(machines=machines).shared.middle <= 0.6 * total


def test_a_measurement_under_load_is_repeated_and_the_idlest_is_kept(estimator, monkeypatch):
    shares = iter([0.4] * 5 + [0.8] * 5 + [0.6] * 5)
    known = {speed.name: speed for speed in estimator.speeds}
    monkeypatch.setattr(training_speed.SpeedTest, "measure", lambda _, name, *__: known[name])
    monkeypatch.setattr(estimating, "cpu_share", lambda _: next(shares))
    said: list[str] = []
    loaded = object.__new__(Estimator)
    vars(loaded).update(vars(estimator))
    loaded.speeds, loaded.cpu_share = loaded._measured(said.append)
    assert loaded.cpu_share == pytest.approx(0.8)
    assert loaded.estimate().under_load
    again = [line for line in said if line.startswith("other processes use")]
    assert again == [
        "other processes use about 60% of the CPU; measuring again",
        "other processes use about 20% of the CPU; measuring again",
    ]


def test_the_share_of_the_cpu_is_a_fraction():
    assert 0 < training_speed.cpu_share(1) <= 1


def test_the_pruner_saves_something_at_best_and_nothing_at_worst(recipe):
    pruned = recipe.model_copy(
        update={
            "search": recipe.search.model_copy(
                update={"pruner": config.PrunerConfig(kind="median"), "trials": 105, "epochs": 10}
            )
        }
    )
    low, middle, high = estimating._kept_by_pruner(pruned)
    assert high == 1
    assert low == pytest.approx(1 - 100 / 105 * 0.5 * 0.8)
    assert low < middle < high
    assert estimating._kept_by_pruner(recipe) == (1, 1, 1)


def test_seconds_between_measured_networks_follow_their_logarithms():
    known = [(1_000_000, 0.001), (4_000_000, 0.002)]
    assert estimating._interpolated(2_000_000, known) == pytest.approx(0.001 * 2**0.5)
    assert estimating._interpolated(500_000, known) == pytest.approx(0.0005)
    assert estimating._interpolated(8_000_000, known) == pytest.approx(0.004)


def test_ranges_add_low_to_low():
    assert Range(1, 2, 3) + Range(10, 20, 30) == Range(11, 22, 33)


def test_the_command_prints_what_it_measured(phiscale, recipe, estimator, monkeypatch, tmp_path):
    slow = exact(estimator, 1e-6)
    monkeypatch.setattr(estimating, "Estimator", lambda *_: slow)
    path = tmp_path / "tiny.yaml"
    path.write_text(config.dump(recipe), "utf-8")
    said = phiscale("estimate", path, "--hours", "0.001", "--machines", "3")
    assert said.status == 0, said.err
    assert "networks of mnasnet_small are within the bounds" in " ".join(said.out.split())
    assert "3 machines" in said.out
    assert "nothing makes it fit into 3.6 s" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    hours = f"{0.7 * slow.estimate().seconds.middle / 3600 / 0.9}"
    said = phiscale("estimate", path, "--hours", hours, "--set", "train.flip=false")
    assert f"phiscale run {path} --set train.flip=false --set 'family.phi=[0.0, 1.0" in said.out
    found = json.loads(phiscale("estimate", path, "--hours", hours, "--json").out)
    assert found["fit"]["set"].keys() == {"family.phi"}
    assert [stage["name"] for stage in found["stages"]] == [
        *("search", "finalists", "coefficients", "family")
    ]
    assert found["bytes"] > found["cache_bytes"] > 0


def test_a_stopped_measurement_does_not_speak_of_a_run(
    phiscale, recipe, monkeypatch, tmp_path, caplog
):
    def stopped(_: Architecture, __: Budget, report: Report) -> Measurement:
        signal.raise_signal(signal.SIGTERM)
        report(Epoch(1, train_loss=1.0, accuracy=0.5, loss=1.0, seconds=1.0))
        raise AssertionError("the report of the epoch must end the training run")

    monkeypatch.setattr(training_speed, "TrainingEvaluator", lambda **_: stopped)
    path = tmp_path / "tiny.yaml"
    path.write_text(config.dump(recipe), "utf-8")
    said = phiscale("estimate", path)
    assert said.status == 130
    assert said.out == ""
    assert "Stopping after the current epoch" in caplog.text
    assert "saved" not in said.err + caplog.text
    assert "continue" not in said.err + caplog.text


def test_bounds_that_admit_no_network_name_the_nearest_cost(estimator):
    bounds = config.load("demo", ("objective.bounds={macs: [1, 10]}",)).objective.bounds
    objective = estimator.recipe.objective.model_copy(update={"bounds": bounds})
    with pytest.raises(estimating.InvalidInput, match="MACs"):
        estimator.estimate(estimator.recipe.model_copy(update={"objective": objective}))


def test_what_is_looked_up_is_not_estimated(recipe):
    looked_up = replace_evaluator(recipe)
    with pytest.raises(estimating.InvalidInput, match="nothing to estimate"):
        Estimator(looked_up)


def replace_evaluator(recipe):
    evaluator = recipe.evaluator.model_copy(update={"kind": "records"})
    return recipe.model_copy(update={"evaluator": evaluator})
