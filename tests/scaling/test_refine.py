"""Refinement: every candidate once, the best four again, and what decides between them."""

import json

import pytest

from scaling.coefficients import AllFailed
from scaling.heat_result import result
from scaling.refine import Refine
from space.evaluation import Budget

BUDGET = Budget(epochs=12, seed=7)


def refined(runs, accuracy, *, seeds=3, candidates=None, guest=None):
    runner = Refine(candidates or runs.candidates, BUDGET, seeds, guest=guest)
    return runner, runs.run(runner, accuracy)


def test_all_are_trained_once_and_the_best_four_with_seeds_of_their_own(runs):
    runner, jobs = refined(runs, lambda each, _: runs.truth(each), guest=runs.guest)
    count = len(runs.candidates)
    assert {job.budget.epochs for job in jobs} == {12}
    assert [job.budget.seed for job in jobs[:count]] == [7] * count
    best = sorted(runs.candidates, key=lambda each: -runs.truth(each))[:4]
    assert list(runner.finalists) == best
    again = jobs[count : count + 12]
    assert [job.budget.seed for job in again] == [8] * 4 + [9] * 4 + [10] * 4
    assert {job.architecture.key for job in again} == {each.architecture.key for each in best}
    assert len(jobs) == runner.most == count + 12 + 6


def test_the_guest_is_compared_on_seeds_that_nothing_was_chosen_by(runs):
    runner, jobs = refined(runs, runs.noisy(0.002), guest=runs.guest)
    pair = {runner.decision.chosen.architecture.key, runs.guest.architecture.key}
    last = jobs[-6:]
    assert {job.architecture.key for job in last} == pair
    assert {job.budget.seed for job in last} == {11, 12, 13}
    assert {job.budget.seed for job in jobs[:-6]} == {7, 8, 9, 10}
    found = result(runner, phi=1, factor=2).evidence["guest"]
    accuracy = runs.noisy(0.002)
    differences = [
        accuracy(runs.guest, job.budget) - accuracy(runner.decision.chosen, job.budget)
        for job in last[::2]
    ]
    assert found["name"] == "α1.2 β1.1 γ1.15"
    assert found["difference"] == pytest.approx(sum(differences) / 3)
    assert found["told_apart"] == (abs(found["difference"]) > found["half_width"])


def test_a_guest_cannot_win(runs):
    runner, _ = refined(
        runs, lambda each, _: 0.9 if each is runs.guest else runs.truth(each), guest=runs.guest
    )
    assert runner.decision.chosen in runs.candidates
    found = result(runner, phi=1, factor=2).evidence["guest"]
    assert found["accuracy"] == pytest.approx(0.9)
    assert found["told_apart"] is True


def test_a_clear_best_is_told_apart(runs):
    best = runs.candidates[4]
    runner, _ = refined(runs, lambda each, _: runs.truth(each) + 0.1 * (each is best))
    assert runner.decision == (best, "told apart: best of the finalists")


def test_where_nothing_is_told_apart_the_most_balanced_finalist_is_chosen(runs):
    runner, _ = refined(runs, runs.noisy(0.05))
    assert runner.tied == runner.finalists
    chosen, reason = runner.decision
    assert reason == "not told apart: balanced growth chosen"
    distances = [sum((part - 1 / 3) ** 2 for part in each.shares) for each in runner.finalists]
    assert chosen is runner.finalists[distances.index(min(distances))]


def test_finalists_that_only_all_runs_together_tell_apart_are_not_decided_by_balance(runs):
    """The first runs of all candidates have a trend that four finalists' noise hides."""
    noisy = runs.noisy(0.014, study=2)

    def accuracy(each, budget):
        return noisy(each, budget) - runs.truth(each) + 0.8 + 0.06 * each.shares.depth

    runner, _ = refined(runs, accuracy)
    assert runner.tied == runner.finalists
    chosen, reason = runner.decision
    assert reason == "told apart by all runs together: best of the finalists chosen"
    assert chosen is max(runner.tied, key=runner.worth)


def test_of_finalists_that_are_partly_told_apart_the_posterior_mean_decides(runs):
    order = sorted(runs.candidates, key=lambda each: -runs.truth(each))
    noisy, behind = runs.noisy(0.002), order[3]

    def accuracy(each, budget):
        first = budget.seed == 7
        if first:
            return runs.truth(each)
        return noisy(each, budget) - (0.1 if each is behind else 0.0)

    runner, _ = refined(runs, accuracy)
    assert list(runner.finalists) == order[:4]
    assert 1 < len(runner.tied) < 4
    assert behind not in runner.tied
    chosen, reason = runner.decision
    assert reason == "some told apart: best of the tied finalists chosen"
    assert chosen is max(runner.tied, key=runner.worth)


def test_the_json_has_the_raw_winner_beside_the_posterior(runs):
    runner, jobs = refined(runs, runs.noisy(0.003), guest=runs.guest)
    data = json.loads(json.dumps(result(runner, phi=1, factor=2).to_dict(), allow_nan=False))
    assert data["raw_winner"]["name"] == max(
        data["finalists"]["tied_among"],
        key=lambda label: runner.mean(next(e for e in runs.candidates if e.label == label)),
    )
    process = data["gaussian_process"]
    assert set(process["means"]) == {each.label for each in runs.candidates}
    assert process["best"] == max(process["means"], key=process["means"].get)
    assert [row["heat"] for row in data["training_runs"]] == (
        ["first"] * len(runs.candidates) + ["finalists"] * 12 + ["confirmation"] * 6
    )
    assert len(data["training_runs"]) == len(jobs)
    assert data["surface"]["lack_of_fit"] > 0.05


def test_a_lone_candidate_is_trained_once(runs):
    runner, jobs = refined(runs, runs.noisy(0.01), candidates=runs.candidates[:1])
    assert len(jobs) == 1
    assert runner.decision == (runs.candidates[0], "one candidate: nothing to compare")


def test_failed_candidates_are_left_out(runs):
    best, *_ = sorted(runs.candidates, key=lambda each: -runs.truth(each))
    runner, _ = refined(runs, lambda each, _: None if each is best else runs.truth(each))
    assert best not in runner.finalists
    assert best.label not in runner.trained
    nothing, _ = refined(runs, lambda *_: None)
    with pytest.raises(AllFailed, match="but none was; the first reason: loss is NaN"):
        result(nothing, phi=1, factor=2)


def test_finalists_that_all_fail_later_end_the_stage(runs):
    runner, _ = refined(runs, lambda _, budget: 0.5 if budget.seed == 7 else None)
    with pytest.raises(AllFailed):
        result(runner, phi=1, factor=2)
