"""Candidates of a coefficient grid on a triangle whose corners are growth by one dimension alone.

α·β²·γ² is about the same for all candidates, so a candidate is told by how depth, width and
resolution share its logarithm: three numbers that add up to 1, a point in a triangle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

#: Height of a triangle whose sides are 1.
HEIGHT = math.sqrt(3) / 2

#: The space that a number beside a point takes, in sides of the triangle.
_WIDE, _HIGH = 0.13, 0.06


class TernaryPoint(NamedTuple):
    """A point in units of the triangle's side: x to the right, y upwards, width at the origin."""

    x: float
    y: float


def place(depth: float, width: float, resolution: float) -> TernaryPoint:
    """The point of these shares: depth is the upper corner, width the left, resolution the right.

    Only the ratios of the three numbers count.
    """
    whole = depth + width + resolution
    return TernaryPoint((resolution + depth / 2) / whole, HEIGHT * depth / whole)


#: The corners with their names.
CORNERS = (
    ("depth alone", place(1, 0, 0)),
    ("width alone", place(0, 1, 0)),
    ("resolution alone", place(0, 0, 1)),
)

#: Both ends of the lines on which one dimension's share is a quarter, a half or three quarters.
GRID = tuple(
    (place(*_first), place(*_second))
    for share in (0.25, 0.5, 0.75)
    for _first, _second in (
        ((share, 1 - share, 0), (share, 0, 1 - share)),
        ((1 - share, share, 0), (0, share, 1 - share)),
        ((1 - share, 0, share), (0, 1 - share, share)),
    )
)


class PlacedCandidate(NamedTuple):
    """A candidate with its point.

    `level` is its accuracy between the worst (0) and the best (1); `numbered` says whether there
    is room to write the accuracy beside the point.
    """

    row: Mapping[str, Any]
    at: TernaryPoint
    level: float
    numbered: bool


def placed(candidates: Iterable[Mapping[str, Any]]) -> list[PlacedCandidate]:
    """The trained candidates (rows of `tables.coefficients`): the winner, then by accuracy."""
    known = [row for row in candidates if row["accuracy"] is not None]
    known.sort(key=lambda row: (not row["winner"], -row["accuracy"]))
    places = [
        place(row["depth_share"], row["width_share"], row["resolution_share"]) for row in known
    ]
    accuracies = [row["accuracy"] for row in known]
    low, high = min(accuracies, default=0.0), max(accuracies, default=0.0)
    return [
        PlacedCandidate(row, at, (row["accuracy"] - low) / ((high - low) or 1), numbered)
        for row, at, numbered in zip(known, places, with_room(places), strict=True)
    ]


def with_room(places: Sequence[TernaryPoint]) -> Iterator[bool]:
    """Which of `places`, the most important first, can have a number that hides no other's."""
    taken: list[TernaryPoint] = []
    for x, y in places:
        free = all(abs(x - other.x) > _WIDE or abs(y - other.y) > _HIGH for other in taken)
        if free:
            taken.append(TernaryPoint(x, y))
        yield free
