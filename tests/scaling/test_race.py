"""The coefficient race: whom it trains, when it stops, what it spares, and what it says."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.coefficient_result import CoefficientResult
from scaling.coefficients import AllFailed, Coefficients
from scaling.comparison import compare
from scaling.grid import GridCandidate, candidates
from scaling.heat_result import result
from scaling.race import Race, Rung, ladder
from space.evaluation import Budget


@pytest.fixture
def race(runs):
    def make(guest: GridCandidate | None = None, seeds: int = 3) -> Race:
        field = runs.candidates
        rungs = ladder(len(field), 12, seeds)
        return Race(field, rungs, Budget(epochs=12, seed=7), guest=guest)

    return make


def test_rungs_train_fewer_candidates_for_longer_and_at_least_four_to_the_end():
    assert ladder(40, 12, 3) == (Rung(40, 2, 1), Rung(13, 6, 1), Rung(4, 12, 3))
    assert ladder(19, 12, 3) == (Rung(19, 2, 1), Rung(6, 6, 1), Rung(4, 12, 3))
    assert ladder(19, 1, 3) == (Rung(19, 1, 3),)
    assert ladder(1, 12, 3) == (Rung(1, 2, 1), Rung(1, 6, 1), Rung(1, 12, 3))


@given(count=st.integers(1, 300), epochs=st.integers(1, 400), seeds=st.integers(1, 5))
def test_a_ladder_only_ever_narrows_and_ends_at_the_whole(count, epochs, seeds):
    rungs = ladder(count, epochs, seeds)
    assert rungs[0].entrants == count
    assert rungs[-1].epochs == epochs
    assert rungs[-1].seeds == seeds
    assert all(rung.seeds == 1 for rung in rungs[:-1])
    entrants = [rung.entrants for rung in rungs]
    assert entrants == sorted(entrants, reverse=True)
    assert entrants[-1] >= min(4, count)
    steps = [rung.epochs for rung in rungs]
    assert steps == sorted(set(steps))


def test_the_race_is_within_the_full_grids_confidence_at_a_third_of_its_cost(runs, race):
    """On 30 studies of 19 candidates, 12 epochs and 3 seeds, with noise as large as the effects."""
    inside, parts = 0, []
    for study in range(30):
        accuracy = runs.noisy(0.003, study)
        runner = race()
        runs.run(runner, accuracy)
        budgets = [Budget(epochs=12, seed=7 + number) for number in range(3)]
        table = [[accuracy(each, budget) or 0.0 for budget in budgets] for each in runs.candidates]
        chosen = runner.decision.chosen
        inside += runs.candidates.index(chosen) in compare(table).tied
        parts.append(runner.part)
    assert inside >= 28
    assert max(parts) <= 0.35


def test_finalists_share_seeds_and_epochs_and_the_guest_has_seeds_of_its_own(runs, race):
    runner = race(guest=runs.guest)
    jobs = runs.run(runner, lambda *_: 0.5)
    assert len({job.name for job in jobs}) == len(jobs) <= runner.most
    last = [job for job in jobs if job.budget.epochs == 12]
    seeds = {
        key: {job.budget.seed for job in last if job.architecture.key == key}
        for key in {job.architecture.key for job in last}
    }
    chosen = runner.decision.chosen.architecture.key
    assert seeds.pop(runs.guest.architecture.key) == {10, 11, 12}
    assert seeds.pop(chosen) == {7, 8, 9, 10, 11, 12}
    assert list(seeds.values()) == [{7, 8, 9}] * 3


def test_a_clear_best_ends_the_race_early(runs, race):
    runner, best = race(), runs.candidates[4]
    jobs = runs.run(runner, lambda each, _: runs.truth(each) + 0.1 * (each is best))
    assert runner.decision == (best, "told apart: best of the finalists")
    assert {job.budget.seed for job in jobs} == {7, 8}  # the third seed was not needed


def test_where_nothing_is_told_apart_the_most_balanced_finalist_is_chosen(runs, race):
    runner = race()
    runs.run(runner, lambda *_: 0.5)
    assert set(runner.tied) == set(runner.finalists)
    assert len(runner.finalists) == 4
    chosen, reason = runner.decision
    assert reason == "not told apart: balanced growth chosen"
    distances = [sum((part - 1 / 3) ** 2 for part in each.shares) for each in runner.finalists]
    assert chosen is runner.finalists[distances.index(min(distances))]


def test_one_seed_tells_nothing_apart(runs, race):
    runner = race(seeds=1)
    runs.run(runner, runs.noisy(0.0))
    assert len(runner.tied) == 4
    data = json.loads(json.dumps(result(runner, phi=1, factor=2).to_dict(), allow_nan=False))
    assert data["finalists"]["gap"] is None
    assert data["decision"] == "not told apart: balanced growth chosen"


def test_the_order_of_results_within_a_heat_changes_nothing(runs, race):
    def found(shuffled: int | None) -> CoefficientResult:
        runner = race(guest=runs.guest)
        runs.run(runner, runs.noisy(0.005), shuffled=shuffled)
        return result(runner, phi=1, factor=2)

    first, *others = (found(order) for order in (None, 1, 2))
    for other in others:
        assert other.to_dict() == first.to_dict()


def test_a_failed_candidate_leaves_the_race_and_the_rest_goes_on(runs, race):
    best = max(runs.candidates, key=runs.truth)
    runner = race()
    runs.run(runner, lambda each, _: None if each is best else runs.truth(each))
    assert runner.decision.chosen is not best
    assert runner.mean(best) is None


def test_a_finalist_that_fails_with_a_later_seed_cannot_win(runs, race):
    best = max(runs.candidates, key=runs.truth)

    def accuracy(each: GridCandidate, budget: Budget) -> float | None:
        return None if each is best and budget.seed == 8 else runs.truth(each)

    runner = race()
    runs.run(runner, accuracy)
    assert best in runner.finalists
    assert best not in runner.tied


def test_a_race_that_all_fail_says_why(runs, race):
    runner = race()
    jobs = runs.run(runner, lambda *_: None)
    assert len(jobs) == len(runs.candidates)
    with pytest.raises(AllFailed) as error:
        result(runner, phi=1, factor=2)
    assert str(error.value) == (
        "coefficients: at least one candidate must be trained to its end, but none was; "
        "the first reason: loss is NaN"
    )


def test_a_guest_that_is_a_candidate_already_is_the_same_entrant(runs, race):
    twin = replace(runs.candidates[0])
    runner = race(guest=twin)
    jobs = runs.run(runner, lambda each, _: runs.truth(each))
    assert runner.guest is runs.candidates[0]
    assert len({job.name for job in jobs}) == len(jobs)


def test_the_answer_is_json_that_says_all_of_it(runs, race):
    runner = race(guest=runs.guest)
    jobs = runs.run(runner, runs.noisy(0.002))
    data = json.loads(json.dumps(result(runner, phi=1, factor=2).to_dict(), allow_nan=False))
    assert data["pinned"] is False
    assert data["accuracy"] == pytest.approx(runner.mean(runner.decision.chosen))
    assert len(data["training_runs"]) == len(jobs)
    assert data["race"]["part_of_full_grid"] == runner.part
    assert data["race"]["rungs"][-1] == {"entrants": 4, "epochs": 12, "seeds": 3}
    finalists = data["finalists"]
    assert set(finalists["tied"]) <= set(finalists["tied_among"])
    assert len(finalists["tied_among"]) == 4
    assert runner.decision.chosen.label in finalists["tied"]
    assert data["raw_winner"]["name"] in finalists["tied"]


def test_coefficients_of_several_names_are_one_entrant(runs):
    twins = candidates(runs.baseline, [Coefficients(1.9, 1, 1), Coefficients(2.0, 1, 1)])
    assert len(twins) == 1
    runner = Race(twins, ladder(1, 4, 2), Budget(epochs=4))
    runs.run(runner, lambda *_: 0.5)
    assert runner.decision.chosen.names == (Coefficients(1.9, 1, 1), Coefficients(2.0, 1, 1))
    assert runner.decision.reason == "one candidate: nothing to compare"
