"""The coefficient race: whom it trains, when it stops, what it spares, and what it says."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scaling.coefficient_result import CoefficientResult
from scaling.coefficients import PUBLISHED, AllFailed, Coefficients
from scaling.comparison import compare
from scaling.full_grid import agreement
from scaling.grid import GridCandidate, candidates, grid
from scaling.race import Race, Rung, ladder
from scaling.race_result import answer
from space import presets
from space.evaluation import Budget, Job, Measurement, Status

B0 = presets.load("efficientnet_b0")
ALL = candidates(B0, grid(step=0.1, tolerance=0.1))
(GUEST,) = candidates(B0, [PUBLISHED])

Accuracy = Callable[[GridCandidate, Budget], float | None]


def run(race: Race, accuracy: Accuracy, *, shuffled: int | None = None) -> list[Job]:
    """Carries the race out, telling heats in a shuffled order if asked; gives its jobs."""
    by_label = {each.label: each for each in (*race.candidates, GUEST)}
    jobs = []
    while heat := list(iter(race.ask, None)):
        if shuffled is not None:
            random.Random(shuffled).shuffle(heat)
        for job in heat:
            jobs.append(job)
            value = accuracy(by_label[job.name.split(",")[0]], job.budget)
            failed = Measurement(Status.FAILED, reason="loss is NaN")
            race.tell(
                job, failed if value is None else Measurement(Status.COMPLETE, accuracy=value)
            )
    return jobs


def truth(candidate: GridCandidate) -> float:
    """A smooth surface with its top at a third of the growth in depth and a half in width."""
    name = candidate.coefficients
    total = math.log(name.nominal)
    depth, width = math.log(name.alpha) / total, 2 * math.log(name.beta) / total
    cost = 0.01 * math.log(candidate.realised_ratio / 2)
    return 0.8 - 0.05 * ((depth - 0.33) ** 2 + (width - 0.5) ** 2) + cost


def noisy(deviation: float, study: int = 0) -> Accuracy:
    """Trainings that learn with epochs, with noise of each and of each seed."""

    def accuracy(candidate: GridCandidate, budget: Budget) -> float:
        own = random.Random(f"{study} {candidate.label} {budget.seed} {budget.epochs}")
        seed = random.Random(f"{study} {budget.seed} {budget.epochs}")
        learnt = 0.3 * math.exp(-budget.epochs / 4)
        return truth(candidate) - learnt + own.gauss(0, deviation) + seed.gauss(0, 0.01)

    return accuracy


def race(guest: GridCandidate | None = None, seeds: int = 3) -> Race:
    return Race(ALL, ladder(len(ALL), 12, seeds), Budget(epochs=12, seed=7), guest=guest)


def test_rungs_train_fewer_candidates_for_longer() -> None:
    assert ladder(19, 12, 3) == (Rung(19, 2, 1), Rung(6, 6, 1), Rung(2, 12, 3))
    assert ladder(19, 1, 3) == (Rung(19, 1, 3),)
    assert ladder(1, 12, 3) == (Rung(1, 2, 1), Rung(1, 6, 1), Rung(1, 12, 3))


@given(count=st.integers(1, 300), epochs=st.integers(1, 400), seeds=st.integers(1, 5))
def test_a_ladder_only_ever_narrows_and_ends_at_the_whole(
    count: int, epochs: int, seeds: int
) -> None:
    rungs = ladder(count, epochs, seeds)
    assert rungs[0].entrants == count
    assert rungs[-1].epochs == epochs
    assert rungs[-1].seeds == seeds
    assert all(rung.seeds == 1 for rung in rungs[:-1])
    entrants = [rung.entrants for rung in rungs]
    assert entrants == sorted(entrants, reverse=True)
    assert entrants[-1] >= min(2, count)
    steps = [rung.epochs for rung in rungs]
    assert steps == sorted(set(steps))


def test_the_race_is_within_the_full_grids_confidence_at_a_quarter_of_its_cost() -> None:
    """On 30 studies of 19 candidates, 12 epochs and 3 seeds, with noise as large as the effects."""
    inside, parts = 0, []
    for study in range(30):
        accuracy = noisy(0.003, study)
        runner = race()
        run(runner, accuracy)
        budgets = [Budget(epochs=12, seed=7 + number) for number in range(3)]
        table = [[accuracy(each, budget) or 0.0 for budget in budgets] for each in ALL]
        inside += ALL.index(runner.winner) in compare(table).tied
        parts.append(runner.part)
    assert inside >= 28
    assert max(parts) <= 0.25


def test_finalists_share_seeds_and_epochs() -> None:
    runner = race(guest=GUEST)
    jobs = run(runner, lambda *_: 0.5)
    assert len({job.name for job in jobs}) == len(jobs)
    last = [job for job in jobs if job.budget.epochs == 12]
    seeds = {
        key: {job.budget.seed for job in last if job.architecture.key == key}
        for key in {job.architecture.key for job in last}
    }
    assert set(map(frozenset, seeds.values())) == {frozenset({7, 8, 9})}
    assert GUEST.architecture.key in seeds
    assert len(seeds) == 3  # two finalists and the guest


def test_a_clear_best_ends_the_race_early() -> None:
    runner = race()
    jobs = run(runner, lambda each, _: truth(each) + 0.1 * (each is ALL[4]))
    assert runner.winner is ALL[4]
    assert runner.tied == (ALL[4],)
    assert {job.budget.seed for job in jobs} == {7, 8}  # the third seed was not needed


def test_equal_candidates_stay_tied_and_the_cheaper_wins() -> None:
    runner = race()
    run(runner, lambda *_: 0.5)
    assert len(runner.tied) == 2
    assert runner.winner.cost.macs == min(each.cost.macs for each in ALL)


def test_one_seed_tells_nothing_apart() -> None:
    runner = race(seeds=1)
    run(runner, noisy(0.0))
    assert len(runner.tied) == 2
    data = json.loads(json.dumps(answer(runner, phi=1, factor=2).to_dict(), allow_nan=False))
    assert data["race"]["gap"] is None


def test_the_order_of_results_within_a_heat_changes_nothing() -> None:
    def found(shuffled: int | None) -> CoefficientResult:
        runner = race(guest=GUEST)
        run(runner, noisy(0.005), shuffled=shuffled)
        return answer(runner, phi=1, factor=2)

    first, *others = (found(order) for order in (None, 1, 2))
    for other in others:
        assert other.chosen is first.chosen
        assert other.accuracies == first.accuracies
        assert other.evidence["race"] == first.evidence["race"]


def test_a_failed_candidate_leaves_the_race_and_the_rest_goes_on() -> None:
    best = max(ALL, key=truth)
    runner = race()
    run(runner, lambda each, _: None if each is best else truth(each))
    assert runner.winner is max((each for each in ALL if each is not best), key=truth)
    assert runner.mean(best) is None


def test_a_finalist_that_fails_with_a_later_seed_cannot_win() -> None:
    best = max(ALL, key=truth)

    def accuracy(each: GridCandidate, budget: Budget) -> float | None:
        return None if each is best and budget.seed == 8 else truth(each)

    runner = race()
    run(runner, accuracy)
    assert runner.winner is not best


def test_a_race_that_all_fail_says_why() -> None:
    runner = race()
    jobs = run(runner, lambda *_: None)
    assert len(jobs) == len(ALL)
    with pytest.raises(AllFailed) as error:
        answer(runner, phi=1, factor=2)
    assert str(error.value) == (
        "coefficients: at least one candidate must be trained to its end, but in the race none "
        "was; the first reason: loss is NaN"
    )


def test_the_guest_runs_on_the_same_footing_and_cannot_win() -> None:
    runner = race(guest=GUEST)
    run(runner, lambda each, _: 0.9 if each is GUEST else truth(each))
    assert runner.winner in ALL
    found = answer(runner, phi=1, factor=2).evidence["guest"]
    assert found["name"] == "α1.2 β1.1 γ1.15"
    assert found["accuracy"] == pytest.approx(0.9)
    assert found["difference"] == pytest.approx(0.9 - truth(runner.winner))
    assert found["told_apart"] is True


def test_a_guest_that_is_a_candidate_already_is_not_trained_twice() -> None:
    twin = replace(ALL[0])
    runner = race(guest=twin)
    jobs = run(runner, lambda each, _: truth(each))
    assert runner.guest is ALL[0]
    assert len({job.name for job in jobs}) == len(jobs)


def test_the_answer_is_json_that_says_all_of_it() -> None:
    runner = race(guest=GUEST)
    jobs = run(runner, noisy(0.002))
    data = json.loads(json.dumps(answer(runner, phi=1, factor=2).to_dict(), allow_nan=False))
    assert data["pinned"] is False
    assert data["accuracy"] == pytest.approx(runner.mean(runner.winner))
    assert len(data["trainings"]) == len(jobs)
    assert data["race"]["part_of_full_grid"] == runner.part
    assert runner.winner.label in data["race"]["tied"]
    assert data["race"]["rungs"][-1] == {"entrants": 2, "epochs": 12, "seeds": 3}
    alpha = data["surface"]["alpha"]
    assert alpha["interval"][0] <= alpha["value"] <= alpha["interval"][1]


def test_the_surface_finds_the_top_that_the_grid_has_no_candidate_on() -> None:
    runner = race()
    run(runner, noisy(0.0005))
    surface = answer(runner, phi=1, factor=2).evidence["surface"]
    for name, expected in (("alpha", 2**0.33), ("beta", 2**0.25), ("gamma", 2**0.085)):
        assert surface[name]["value"] == pytest.approx(expected, abs=0.04)
        low, high = surface[name]["interval"]
        assert low - 0.02 <= expected <= high + 0.02


def test_too_few_candidates_have_no_surface() -> None:
    few = ALL[:3]
    runner = Race(few, ladder(3, 4, 2), Budget(epochs=4))
    run(runner, noisy(0.01))
    assert answer(runner, phi=1, factor=2).evidence["surface"] is None


def full(accuracy: Callable[[GridCandidate], float | None]) -> CoefficientResult:
    values = tuple(accuracy(each) for each in ALL)
    best = max(range(len(ALL)), key=lambda index: values[index] or 0)
    return CoefficientResult(ALL[best], 1, 2, False, ALL, values)


def test_agreement_is_perfect_with_itself_and_opposite_with_its_mirror() -> None:
    straight, mirrored = full(truth), full(lambda each: 1 - truth(each))
    same = agreement(straight, straight)
    assert (same.correlation, same.regret) == (pytest.approx(1), 0)
    assert same.shared == sum(len(each.names) for each in ALL)
    opposite = agreement(straight, mirrored)
    assert opposite.correlation == pytest.approx(-1)
    assert opposite.regret == pytest.approx(
        max(1 - truth(each) for each in ALL) - (1 - max(truth(each) for each in ALL))
    )


def test_agreement_is_unknown_where_nothing_was_measured() -> None:
    nothing = full(lambda _: None)
    assert agreement(full(truth), nothing) == agreement(nothing, nothing)
    assert agreement(nothing, nothing).correlation is None


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_gap_of_two_candidates_is_that_of_a_paired_t_test(seeds: int, level: float) -> None:
    table = np.random.default_rng(seeds).normal(0, 0.01, (2, seeds))
    difference = table[0] - table[1]
    expected = stats.t.ppf(level, seeds - 1) * difference.std(ddof=1) / math.sqrt(seeds)
    assert compare(table, level).gap == pytest.approx(expected, rel=0.05)


def test_the_gap_of_many_is_the_quantile_of_their_largest_lead() -> None:
    """Dunnett's one-sided table: with 3 rivals and 20 degrees of freedom, 95 %: 2.19."""
    table = np.random.default_rng(0).normal(0, 0.01, (4, 8))
    found = compare(table)
    freedom = 3 * 7
    assert found.gap / (found.deviation * math.sqrt(2 / 8)) == pytest.approx(2.19, abs=0.04)
    assert found.half_width == pytest.approx(
        stats.t.ppf(0.975, freedom) * found.deviation / math.sqrt(8), rel=0.02
    )


def test_the_truly_best_is_kept_as_often_as_the_level_says() -> None:
    """In the worst case, where all are equally good and each of them is the best."""
    generator = np.random.default_rng(0)
    tables = generator.normal(0, 0.05, (400, 1, 3)) + generator.normal(0, 0.01, (400, 5, 3))
    kept = sum(0 in compare(table).tied for table in tables)
    assert 0.92 <= kept / 400 <= 0.98


def test_what_a_seed_does_to_all_candidates_cancels() -> None:
    table = np.array([[0.70, 0.71, 0.69], [0.72, 0.74, 0.71], [0.69, 0.70, 0.68]])
    plain = compare(table)
    shifted = compare(table + np.array([0.1, -0.1, 0.05]))
    assert shifted.deviation == pytest.approx(plain.deviation)
    assert shifted.tied == plain.tied == (1,)


def test_the_deviation_is_that_of_the_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, (200, 50))
    assert compare(noise).deviation == pytest.approx(0.02, rel=0.03)


def test_more_certainty_tells_fewer_apart() -> None:
    table = np.random.default_rng(0).normal(0, 0.01, (10, 3)) + np.linspace(0, 0.05, 10)[:, None]
    kept = [len(compare(table, level).tied) for level in (0.5, 0.9, 0.99, 0.9999)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


def test_a_lone_candidate_is_told_apart_from_nobody() -> None:
    assert compare([[0.5, 0.6]]).tied == (0,)
    assert compare([[0.5]]).tied == (0,)


def test_coefficients_of_several_names_are_one_entrant() -> None:
    twins = candidates(B0, [Coefficients(1.9, 1, 1), Coefficients(2.0, 1, 1)])
    assert len(twins) == 1
    runner = Race(twins, ladder(1, 4, 2), Budget(epochs=4))
    run(runner, lambda *_: 0.5)
    assert runner.winner.names == (Coefficients(1.9, 1, 1), Coefficients(2.0, 1, 1))
