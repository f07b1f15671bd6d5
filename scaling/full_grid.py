"""The full grid as a proposer, and whether a cheap grid agrees with a more expensive one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist, fmean

from scaling.coefficient_result import CoefficientResult
from scaling.coefficients import AllFailed, Coefficients
from scaling.decision import Decision, decide
from scaling.grid import GridCandidate
from scaling.jobs import InOrder
from space.evaluation import Budget, Job, Status


class FullGrid(InOrder):
    """A `Proposer` that trains every candidate once, within one budget."""

    def __init__(self, candidates: Iterable[GridCandidate], budget: Budget) -> None:
        self.candidates = tuple(candidates)
        super().__init__(
            Job(candidate.label, candidate.architecture, budget) for candidate in self.candidates
        )

    def result(self, *, phi: float, factor: float, level: float = 0.95) -> CoefficientResult:
        """The most accurate candidate, unless the held-out images tell none of them apart.

        One seed says nothing about the noise of training: candidates are tied if the binomial error
        of their images could explain the difference. Raises `AllFailed`, with the first reason, if
        no candidate has an accuracy.
        """
        accuracies = {each: self._accuracy(each) for each in self.candidates}
        trained = {each: found for each, found in accuracies.items() if found is not None}
        if not trained:
            raise AllFailed(self._all_failed())
        best = min(trained, key=lambda each: (-trained[each], each.cost.macs))
        tied = [each for each in trained if self._is_tied(each, best, level, len(trained))]
        decision = decide(list(trained), tied, trained.__getitem__)
        if len(tied) == 1 < len(trained) or not self._images(best):
            decision = Decision(best, "one seed each: most accurate chosen")
        return CoefficientResult(
            chosen=decision.chosen,
            phi=phi,
            factor=factor,
            pinned=False,
            candidates=self.candidates,
            accuracies=tuple(accuracies.values()),
            evidence={
                "decision": decision.reason,
                "raw_winner": {"name": best.label, "accuracy": trained[best]},
                "finalists": {
                    "tied_among": [each.label for each in trained],
                    "tied": [each.label for each in tied],
                    "level": level,
                    "seeds": 1,
                },
            },
        )

    def _is_tied(self, one: GridCandidate, best: GridCandidate, level: float, count: int) -> bool:
        """Whether binomial errors (Bonferroni over the rivals) cover the distance from the best."""
        if one is best or not (images := self._images(best)):
            return True
        ahead = (self._accuracy(best) or 0.0) - (self._accuracy(one) or 0.0)
        parts = ((self._accuracy(each) or 0.0) for each in (one, best))
        error = math.sqrt(sum(part * (1 - part) for part in parts) / images)
        return ahead <= NormalDist().inv_cdf(1 - (1 - level) / (count - 1)) * error

    def _images(self, candidate: GridCandidate) -> int | None:
        return self.told[candidate.label].images

    def _accuracy(self, candidate: GridCandidate) -> float | None:
        measurement = self.told.get(candidate.label)
        complete = measurement is not None and measurement.status is Status.COMPLETE
        return measurement.accuracy if measurement and complete else None

    def _all_failed(self) -> str:
        reasons = [f"{name}: {told.reason or told.status}" for name, told in self.told.items()]
        first = f"; the first, {reasons[0]}" if reasons else ""
        return (
            f"coefficients: at least one candidate must be trained to its end, but of "
            f"{len(self.candidates)} none was{first}"
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a cheap grid predicts a larger one, over `shared` combinations.

    `correlation` is Spearman's, of the accuracies. `regret` is the accuracy that the large grid
    loses with the small one's winner; None if it did not measure that.
    """

    shared: int
    correlation: float | None
    regret: float | None


def agreement(small: CoefficientResult, large: CoefficientResult) -> Agreement:
    """Whether the answer of a full grid around a small network holds around a large one.

    The paper searches at φ = 1 because more is too expensive (section 5.3); this is what it costs.
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
    """`answer` with a `comparison` to a full grid at another φ.

    It has the fields of `agreement`, and the `phi`, α, β and γ of the other grid.
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
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)
