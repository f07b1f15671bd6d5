"""The full grid: its result, and whether it carries over to another φ."""

from collections.abc import Callable

import pytest

from scaling.coefficient_result import CoefficientResult
from scaling.full_grid import FullGrid, agreement
from scaling.grid import GridCandidate
from space.evaluation import Budget, Measurement, Status


def trained(runs, accuracies: list[float], images: int) -> CoefficientResult:
    proposer = FullGrid(runs.candidates[: len(accuracies)], Budget(1))
    for job, accuracy in zip(proposer.jobs, accuracies, strict=True):
        proposer.tell(job, Measurement(Status.COMPLETE, accuracy=accuracy, images=images))
    return proposer.result(phi=1, factor=2)


def test_a_handful_of_images_tells_nothing_apart_and_balanced_growth_is_chosen(runs):
    accuracies = [144 / 155 + (4 / 155 if number == 0 else 0) for number in range(6)]
    found = trained(runs, accuracies, images=155)
    assert found.evidence["decision"] == "not told apart: balanced growth chosen"
    assert found.evidence["raw_winner"]["name"] == runs.candidates[0].label
    assert found.evidence["finalists"]["tied"] == found.evidence["finalists"]["tied_among"]
    distances = [sum((part - 1 / 3) ** 2 for part in e.shares) for e in runs.candidates[:6]]
    assert found.chosen is runs.candidates[distances.index(min(distances))]


def test_what_many_images_tell_apart_is_the_most_accurate_of_one_seed(runs):
    found = trained(runs, [0.7, 0.8, 0.6], images=10_000)
    assert found.chosen is runs.candidates[1]
    assert found.evidence["decision"] == "one seed each: most accurate chosen"
    assert found.evidence["finalists"]["tied"] == [runs.candidates[1].label]


def full(runs, accuracy: Callable[[GridCandidate], float | None]) -> CoefficientResult:
    values = tuple(accuracy(each) for each in runs.candidates)
    best = max(range(len(runs.candidates)), key=lambda index: values[index] or 0)
    return CoefficientResult(runs.candidates[best], 1, 2, False, runs.candidates, values)


def test_agreement_is_perfect_with_itself_and_opposite_with_its_mirror(runs):
    straight, mirrored = full(runs, runs.truth), full(runs, lambda each: 1 - runs.truth(each))
    same = agreement(straight, straight)
    assert (same.correlation, same.regret) == (pytest.approx(1), 0)
    assert same.shared == sum(len(each.names) for each in runs.candidates)
    truths = [runs.truth(each) for each in runs.candidates]
    opposite = agreement(straight, mirrored)
    assert opposite.correlation == pytest.approx(-1)
    assert opposite.regret == pytest.approx(max(1 - value for value in truths) - (1 - max(truths)))


def test_agreement_is_unknown_where_nothing_was_measured(runs):
    nothing = full(runs, lambda _: None)
    assert agreement(full(runs, runs.truth), nothing) == agreement(nothing, nothing)
    assert agreement(nothing, nothing).correlation is None
