"""Growth stage by stage: within its runs, never worse than compound scaling, at equal cost."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from scaling.compound import scale
from scaling.growth import (
    Candidates,
    Expectation,
    Floats,
    Grown,
    LearnedGrowth,
    Request,
    extremes,
    pool,
    search,
    settings,
)
from scaling.targets import macs
from space import presets
from space.architecture import Architecture
from space.evaluation import Budget, Measurement, Status
from space.validation import InvalidInput

B0 = presets.load("efficientnet_b0")
GRID = np.array(list(product((0.5, 1.0, 2.0), repeat=4)))
COSTS = np.prod(GRID, axis=1)
POOLS = tuple(
    tuple(np.flatnonzero(cost == COSTS)[np.argsort(np.ptp(GRID[cost == COSTS], axis=1))].tolist())
    for cost in (1.0, 4.0)
)
CANDIDATES = Candidates(np.log(GRID), COSTS, POOLS)


def linear(known: Sequence[int], accuracy: Floats) -> Expectation:
    """Ridge regression on logarithms, as certain everywhere."""
    seen = np.column_stack([np.ones(len(known)), CANDIDATES.settings[list(known)]])
    weights = np.linalg.solve(seen.T @ seen + 1e-3 * np.eye(5), seen.T @ accuracy)
    return Expectation(weights[0] + CANDIDATES.settings @ weights[1:], np.zeros(len(GRID)))


def grow(worth, *, runs=30, seeds=3, noise=0.0, seed=0) -> tuple[tuple[Grown, ...], list[Request]]:
    """What is found where `worth` are the accuracies that a doubling of each stage adds."""
    rng = np.random.default_rng(seed)
    rounds, asked = search(CANDIDATES, linear, runs=runs, seeds=seeds, seed=seed), []
    told = None
    try:
        while True:
            requests = next(rounds) if told is None else rounds.send(told)
            asked += requests
            told = {
                each: float(
                    0.5 + CANDIDATES.settings[each.candidate] @ worth + rng.normal(0, noise)
                )
                for each in requests
            }
    except StopIteration as end:
        return end.value, asked


def test_the_stage_that_matters_grows_at_every_target_and_is_shipped():
    worth = np.array([0.1, 0.0, 0.0, 0.0])
    grown, _ = grow(worth)
    for answer, members in zip(grown, POOLS, strict=True):
        best = max(CANDIDATES.settings[list(members)] @ worth)
        assert CANDIDATES.settings[answer.found] @ worth == pytest.approx(best)
        assert answer.compound == members[0]
        assert answer.difference.difference == pytest.approx(
            (CANDIDATES.settings[answer.found] - CANDIDATES.settings[answer.compound]) @ worth
        )
        assert answer.shipped == answer.found


@pytest.mark.parametrize("runs", [18, 25, 50])
def test_all_targets_together_take_no_more_than_the_runs(runs):
    _, asked = grow(np.array([0.1, 0.05, 0.0, 0.0]), runs=runs, noise=0.01)
    assert len(asked) == len(set(asked)) <= runs
    assert [each.candidate for each in asked[:2]] == [members[0] for members in POOLS]
    compared = [each for each in asked if each.seed]
    assert {each.seed for each in compared} == {1, 2, 3}
    assert len(compared) == 12


def test_compound_scaling_is_shipped_where_nothing_is_told_apart():
    wrong = 0
    for seed in range(40):
        grown, _ = grow(np.zeros(4), noise=0.01, seed=seed)
        wrong += sum(answer.shipped != answer.compound for answer in grown)
    assert wrong <= 6  # of 80; 2.5 % would be told better by chance


def test_a_search_begins_with_the_most_layers_channels_and_pixels():
    # Two stages: depths, widths, then pixels.
    growth = np.log([[1, 1, 2, 2, 1], [3, 3, 1, 1, 1], [1, 1, 1, 1, 2], [2, 2, 1, 2, 1.0]])
    starts = extremes(growth, (3, 0, 1, 2))
    assert starts == (1, 0, 2)
    assert extremes(growth, (1, 3)) == (3,)  # compound scaling's is measured anyway
    candidates = Candidates(growth, np.ones(4), ((3, 0, 1, 2),), (starts,))
    assert next(search(candidates, linear, runs=20, seeds=2, seed=0)) == tuple(
        map(Request, (3, 1, 0, 2))
    )
    with pytest.raises(InvalidInput, match=r"at least 8 for 1 targets \(4 to begin and 4 to"):
        next(search(candidates, linear, runs=7, seeds=2, seed=0))


def test_too_few_runs_are_refused():
    with pytest.raises(InvalidInput, match=r"family\.runs: must be at least 18 for 2 targets"):
        grow(np.zeros(4), runs=17)


def test_a_search_without_results_ships_compound_scaling():
    networks = [scale(B0, width=0.5 + each / 100) for each in range(len(GRID))]
    growth = LearnedGrowth(
        search(CANDIDATES, linear, runs=20, seeds=2, seed=0), networks, Budget(1, seed=7)
    )
    jobs = []
    while job := growth.ask():
        jobs.append(job)
        growth.tell(job, Measurement(Status.FAILED, reason="no value"))
    assert growth.runs == len(jobs) <= 20
    assert jobs[0].budget.seed == 7
    assert [answer.shipped for answer in growth.grown] == [members[0] for members in POOLS]


def test_a_round_is_finished_before_the_next_is_asked_for():
    growth = LearnedGrowth(
        search(CANDIDATES, linear, runs=30, seeds=2, seed=0), [B0] * len(GRID), Budget(1)
    )
    first = [growth.ask() for _ in range(6)]
    assert growth.ask() is None
    for job in first:
        assert job is not None
        assert growth.ask() is None
        growth.tell(job, Measurement(Status.COMPLETE, accuracy=0.5))
    assert growth.ask() is not None


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_pool_begins_at_compound_scaling_and_costs_what_was_asked(factor):
    compound = scale(B0, depth=factor**0.3, width=factor**0.2, resolution=factor**0.15)
    target = macs(compound)
    networks = pool(
        B0,
        compound,
        target,
        measure=macs,
        multiple=1,
        finest=240,
        rng=np.random.default_rng(0),
    )
    assert networks[0] == compound
    assert len({each.key for each in networks}) == len(networks) > 300
    assert all(0.95 <= macs(each) / target <= 1.01 for each in networks)
    assert max(each.resolution for each in networks) <= max(240, compound.resolution)
    table = settings(B0, networks)
    uneven = np.ptp(table[:, :7], axis=1) + np.ptp(table[:, 7:14], axis=1)
    assert (uneven > 1).mean() > 0.5  # most differ from uniform growth


def test_settings_are_what_multiplies_the_baseline():
    wider: Architecture = scale(B0, width=2.0, resolution=1.5)
    found = np.exp(settings(B0, [wider])[0])
    assert found == pytest.approx([1.0] * 7 + [2.0] * 7 + [1.5])
