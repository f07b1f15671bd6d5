"""Which candidate a comparison that leaves several tied decides for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from scaling.grid import GridCandidate
from scaling.rules import Shares

#: Each dimension takes an equal part of the growth: compound scaling without further knowledge.
BALANCED = Shares(1 / 3, 1 / 3, 1 / 3)


class Decision(NamedTuple):
    """The candidate that was chosen; `reason` says why in words that CLI, JSON and page share."""

    chosen: GridCandidate
    reason: str


def decide(
    finalists: Sequence[GridCandidate],
    tied: Sequence[GridCandidate],
    worth: Callable[[GridCandidate], float],
    told_apart: Callable[[GridCandidate, GridCandidate], bool] = lambda *_: False,
) -> Decision:
    """The only one of `tied`, or the one of most `worth`; where all finalists are tied, see below.

    Then the candidate nearest balanced growth (equal shares) is taken, of equally near ones the
    cheaper, unless it is `told_apart` from the one of most worth by something else.
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
    """How far the shares of a candidate's growth are from equal ones: 0 to 2/3."""
    return sum((own - equal) ** 2 for own, equal in zip(candidate.shares, BALANCED, strict=True))
