"""The grid of α, β, γ: what belongs to it, what is one network, and who wins."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.coefficient_result import pinned
from scaling.coefficients import PUBLISHED, AllFailed, Coefficients
from scaling.full_grid import FullGrid
from scaling.grid import GridCandidate, candidates, grid
from space import presets
from space.architecture import Architecture, Stem
from space.cost import cost
from space.evaluation import Budget, Measurement, Status
from space.validation import InvalidInput

B0 = presets.load("efficientnet_b0")
SMALL = replace(B0, stem=Stem(16, stride=1), resolution=32, num_classes=10)

tenths = st.integers(0, 12).map(lambda steps: (10 + steps) / 10)
some_coefficients = st.builds(Coefficients, tenths, tenths, tenths)


def told(candidates: tuple[GridCandidate, ...], *results: Measurement | float | None) -> FullGrid:
    """A grid whose jobs were all run, with these accuracies; None is a failure."""
    race = FullGrid(candidates, Budget(epochs=1))
    for result in results:
        job = race.ask()
        assert job is not None
        if result is None:
            result = Measurement(Status.FAILED, reason="loss is NaN")
        elif isinstance(result, float):
            result = Measurement(Status.COMPLETE, accuracy=result)
        race.tell(job, result)
    return race


def test_grid_is_every_combination_within_the_tolerance_and_no_other() -> None:
    tenths = range(10, 22)  # integers: α, β, γ in tenths, the product in 1/100,000
    expected = [
        (a / 10, b / 10, g / 10)
        for a, b, g in product(tenths, repeat=3)
        if abs(a * b * b * g * g - 200_000) <= 10_000
    ]
    found = [(each.alpha, each.beta, each.gamma) for each in grid(step=0.1, tolerance=0.1)]
    assert found == expected
    assert (1.2, 1.1, 1.2) in found  # reached as 1.1 + 0.1, which is 1.2000000000000002 in binary
    assert (2.1, 1.0, 1.0) in found  # exactly on the bound


@settings(max_examples=30)
@given(
    step=st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.25]),
    tolerance=st.sampled_from([0.05, 0.1, 0.3]),
    factor=st.sampled_from([1.5, 2.0, 3.0, 4.0]),
)
def test_grid_respects_its_constraint(step: float, tolerance: float, factor: float) -> None:
    try:
        found = grid(step, tolerance, factor)
    except InvalidInput:
        return
    assert len(set(found)) == len(found)
    assert list(found) == sorted(found)
    for each in found:
        assert abs(each.nominal - factor) <= tolerance + 1e-9
        for value in (each.alpha, each.beta, each.gamma):
            steps = (value - 1) / step
            assert steps == pytest.approx(round(steps), abs=1e-9)


def test_empty_grid_says_what_would_give_candidates() -> None:
    with pytest.raises(InvalidInput) as error:
        grid(step=0.3, tolerance=0.01)
    message = str(error.value)
    assert message == (
        "coefficients: some combination must have |α·β²·γ² − 2| <= tolerance, but with step 0.3 "
        "and tolerance 0.01 none has; tolerance 0.1 would give α1.9 β1 γ1, step 0.25 others"
    )
    assert Coefficients(1.9, 1.0, 1.0) in grid(step=0.3, tolerance=0.1)
    assert grid(step=0.25, tolerance=0.01)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 0.0, "tolerance": 0.1}, "coefficients.step: `0.01 <= step <= 1` must hold"),
        ({"step": 0.1, "tolerance": -0.1}, "coefficients.tolerance: `0 <= tolerance < factor`"),
        ({"step": 0.1, "tolerance": 2.0}, "coefficients.tolerance: `0 <= tolerance < factor`"),
        ({"step": 0.1, "tolerance": 0.1, "factor": 1.0}, "coefficients.factor: `1 < factor <= 16`"),
        ({"step": float("nan"), "tolerance": 0.1}, "but got step=nan"),
    ],
)
def test_impossible_grids_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        grid(**values)
    assert message in str(error.value)


@pytest.mark.parametrize("value", [0.99, -1.0, float("nan"), float("inf")])
def test_coefficients_below_one_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="`beta >= 1` must hold"):
        Coefficients(1.2, value, 1.1)


@given(each=some_coefficients, phi=st.floats(-3, 8))
def test_factors_multiply_macs_nominally_by_the_product_to_the_phi(
    each: Coefficients, phi: float
) -> None:
    depth, width, resolution = each.at(phi)
    assert depth * width**2 * resolution**2 == pytest.approx(each.nominal**phi)
    assert each.at(0) == (1, 1, 1)
    assert each.at(1) == (each.alpha, each.beta, each.gamma)


def test_published_coefficients_cost_more_than_they_say() -> None:
    answer = pinned(B0, PUBLISHED, phi=1, factor=2)
    assert round(answer.chosen.coefficients.nominal, 2) == 1.92
    assert round(answer.chosen.realised_ratio, 2) == 2.57
    assert answer.chosen.architecture.resolution == 258
    assert answer.to_dict()["accuracy"] is None
    assert answer.to_dict()["pinned"] is True
    assert answer.to_dict()["candidates"] == []


@pytest.mark.parametrize("baseline", [B0, SMALL], ids=["B0", "small"])
def test_combinations_that_round_to_one_network_are_one_candidate(baseline: Architecture) -> None:
    combinations = grid(step=0.05, tolerance=0.1)
    found = candidates(baseline, combinations)
    keys = [candidate.architecture.key for candidate in found]
    names = [name for candidate in found for name in candidate.names]
    assert len(set(keys)) == len(keys) < len(combinations)
    assert sorted(names) == sorted(combinations)
    for candidate in found:
        assert candidate.coefficients in candidate.names
        best = min(abs(name.nominal - 2) for name in candidate.names)
        assert abs(candidate.coefficients.nominal - 2) == best
        assert candidate.realised_ratio == cost(candidate.architecture).macs / cost(baseline).macs


def test_candidates_that_differ_only_in_resolution_stay_apart() -> None:
    (less, more) = candidates(B0, [Coefficients(1.2, 1.1, 1.1), Coefficients(1.2, 1.1, 1.2)])
    assert (less.architecture.resolution, more.architecture.resolution) == (246, 269)
    assert replace(less.architecture, resolution=269) == more.architecture


def test_candidates_above_and_below_the_baseline_follow_phi() -> None:
    (above,) = candidates(B0, [PUBLISHED], phi=2)
    (below,) = candidates(B0, [PUBLISHED], phi=-1)
    assert above.realised_ratio > 3
    assert below.realised_ratio < 0.8


def test_the_most_accurate_candidate_wins() -> None:
    found = candidates(SMALL, grid(step=0.5, tolerance=0.5))
    accuracies = [0.5 + 0.01 * (number % 3) for number in range(len(found))]
    race = told(found, *accuracies)
    assert race.ask() is None
    answer = race.result(phi=1, factor=2)
    assert answer.chosen is found[2]

    data = answer.to_dict()
    assert data["accuracy"] == max(accuracies)
    assert [row["accuracy"] for row in data["candidates"]] == accuracies
    assert data["cost"] == cost(found[2].architecture)._asdict()
    assert {row["key"] for row in data["candidates"]} == {each.architecture.key for each in found}


def test_equal_accuracies_go_to_the_cheaper_then_the_earlier() -> None:
    found = candidates(B0, [Coefficients(1.2, 1.3, 1.0), Coefficients(2.0, 1.0, 1.0)])
    assert found[1].cost.macs < found[0].cost.macs
    assert told(found, 0.5, 0.5).result(phi=1, factor=2).chosen is found[1]
    twins = (found[0], replace(found[1], cost=found[0].cost))
    assert told(twins, 0.5, 0.5).result(phi=1, factor=2).chosen is twins[0]


def test_a_failed_candidate_does_not_win_and_the_rest_goes_on() -> None:
    found = candidates(SMALL, grid(step=0.5, tolerance=0.5))[:3]
    pruned = Measurement(Status.PRUNED, accuracy=0.99)
    answer = told(found, None, pruned, 0.4).result(phi=1, factor=2)
    assert answer.chosen is found[2]
    assert answer.accuracies == (None, None, 0.4)


def test_all_failed_is_a_sentence_with_the_first_reason() -> None:
    found = candidates(SMALL, grid(step=0.5, tolerance=0.5))[:2]
    with pytest.raises(AllFailed) as error:
        told(found, None, None).result(phi=1, factor=2)
    assert str(error.value) == (
        "coefficients: at least one candidate must be trained to its end, but of 2 none was; "
        "the first, α1 β1 γ1.5: loss is NaN"
    )


def test_every_job_has_its_own_name_and_the_same_budget() -> None:
    found = candidates(B0, grid(step=0.1, tolerance=0.1))
    budget = Budget(epochs=3, data_fraction=0.5, seed=7)
    jobs = FullGrid(found, budget).jobs
    assert len({job.name for job in jobs}) == len(jobs)
    assert {job.budget for job in jobs} == {budget}
    assert found[1].label == "α1 β1.1 γ1.3"
