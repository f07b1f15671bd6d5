"""The choice of one candidate from a comparison that may leave several tied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from scaling.grid import GridCandidate
from scaling.rules import Shares

#: Each dimension takes an equal part of the growth: compound scaling without further knowledge.
BALANCED = Shares(1 / 3, 1 / 3, 1 / 3)


class Decision(NamedTuple):
    """The chosen candidate, and the `reason` as the CLI, JSON and the page show it."""

    chosen: GridCandidate
    reason: str


def decide(
    finalists: Sequence[GridCandidate],
    tied: Sequence[GridCandidate],
    worth: Callable[[GridCandidate], float],
    told_apart: Callable[[GridCandidate, GridCandidate], bool] = lambda *_: False,
) -> Decision:
    """Chooses the candidate in `tied` with the most `worth`, or, if all are tied, a balanced one.

    That is the candidate nearest to balanced growth (equal shares; the cheaper if equally near),
    unless it is `told_apart` from the one with the most worth by something else.
    """
    best = min(tied, key=lambda each: (-worth(each), each.cost.macs))
    if len(finalists) == 1:
        return Decision(best, "one candidate: nothing to compare")
    if len(tied) == 1:
        return Decision(best, "told apart: best of the finalists")
    if len(tied) < len(finalists):
        return Decision(best, "some told apart: best of the tied finalists chosen")
    balanced = min(tied, key=lambda each: (round(imbalance(each), 9), each.cost.macs))
    if told_apart(best, balanced):
        return Decision(best, "told apart by all runs together: best of the finalists chosen")
    return Decision(balanced, "not told apart: balanced growth chosen")


def imbalance(candidate: GridCandidate) -> float:
    """The squared distance of a candidate's shares of growth from equal ones: 0 to 2/3."""
    return sum((own - equal) ** 2 for own, equal in zip(candidate.shares, BALANCED, strict=True))
