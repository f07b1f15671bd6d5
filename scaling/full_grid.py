"""The full grid as a proposer, and whether the answer of a cheap grid holds for a larger one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import correlation, fmean

from scaling.coefficient_result import CoefficientResult
from scaling.coefficients import AllFailed, Coefficients
from scaling.grid import GridCandidate
from scaling.jobs import InOrder
from space.evaluation import Budget, Job, Measurement, Status


class FullGrid(InOrder):
    """A `Proposer` that trains every candidate within one budget, and knows the best."""

    def __init__(self, candidates: Iterable[GridCandidate], budget: Budget) -> None:
        self.candidates = tuple(candidates)
        super().__init__(
            Job(candidate.label, candidate.architecture, budget) for candidate in self.candidates
        )

    def answer(self, *, phi: float, factor: float) -> CoefficientResult:
        """The most accurate candidate told so far; of equals the cheaper, then the earlier.

        Raises `AllFailed`, with the first reason, where no candidate has an accuracy.
        """
        accuracies = tuple(self._accuracy(candidate) for candidate in self.candidates)
        measured = [
            (-accuracy, candidate.cost.macs, order)
            for order, (candidate, accuracy) in enumerate(
                zip(self.candidates, accuracies, strict=True)
            )
            if accuracy is not None
        ]
        if not measured:
            raise AllFailed(self._all_failed())
        *_, best = min(measured)
        return CoefficientResult(
            chosen=self.candidates[best],
            phi=phi,
            factor=factor,
            pinned=False,
            candidates=self.candidates,
            accuracies=accuracies,
        )

    def _accuracy(self, candidate: GridCandidate) -> float | None:
        measurement = self.told.get(candidate.label)
        complete = measurement is not None and measurement.status is Status.COMPLETE
        return measurement.accuracy if measurement and complete else None

    def _all_failed(self) -> str:
        failures: dict[str, Measurement] = self.told
        reasons = [f"{name}: {told.reason or told.status}" for name, told in failures.items()]
        first = f"; the first, {reasons[0]}" if reasons else ""
        return (
            f"coefficients: at least one candidate must be trained to its end, but of "
            f"{len(self.candidates)} none was{first}"
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a cheap grid's answer does on a dearer one, of the `shared` combinations of both.

    `correlation` is Spearman's, of the accuracies. `regret` is how much accuracy the large grid
    loses by taking the small one's winner; None where it did not measure that.
    """

    shared: int
    correlation: float | None
    regret: float | None


def agreement(small: CoefficientResult, large: CoefficientResult) -> Agreement:
    """Whether the answer of a full grid around a small network holds around a large one.

    The paper searches at φ = 1 because larger is too dear (section 5.3); this says what is lost.
    """
    few, many = _by_name(small), _by_name(large)
    shared = sorted(few.keys() & many.keys())
    best = max(many.values(), default=None)
    taken = [many[name] for name in small.chosen.names if name in many]
    return Agreement(
        shared=len(shared),
        correlation=_spearman([few[name] for name in shared], [many[name] for name in shared]),
        regret=best - fmean(taken) if taken and best is not None else None,
    )


def compared(answer: CoefficientResult, other: CoefficientResult) -> CoefficientResult:
    """`answer` with what a full grid at another φ says of it, as `comparison`.

    `shared`, `correlation` and `regret` are those of `agreement`; `phi`, and α, β and γ as the
    other chose them.
    """
    small, large = sorted((answer, other), key=lambda each: each.phi)
    comparison = {
        "phi": other.phi,
        **asdict(other.chosen.coefficients),
        "candidates": len(other.candidates),
        **asdict(agreement(small, large)),
    }
    return replace(answer, evidence={**answer.evidence, "comparison": comparison})


def _by_name(answer: CoefficientResult) -> Mapping[Coefficients, float]:
    return {
        name: accuracy
        for candidate, accuracy in zip(answer.candidates, answer.accuracies, strict=True)
        if accuracy is not None
        for name in candidate.names
    }


def _spearman(first: list[float], second: list[float]) -> float | None:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return correlation(_ranks(first), _ranks(second))


def _ranks(values: list[float]) -> list[float]:
    """Ranks, of equals their mean."""
    return [
        (sum(other < value for other in values) + sum(other <= value for other in values)) / 2
        for value in values
    ]
