"""Where coefficients stand on a triangle whose corners are growth by one dimension alone.

α·β²·γ² is about the same for all candidates of a grid, so a candidate is told by how depth, width
and resolution share its logarithm: three numbers that add up to 1, a point in a triangle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

#: Height of a triangle whose sides are 1.
HEIGHT = math.sqrt(3) / 2


class TernaryPoint(NamedTuple):
    """A point in units of the triangle's side: x to the right, y upwards, width at the origin."""

    x: float
    y: float


def place(depth: float, width: float, resolution: float) -> TernaryPoint:
    """Depth is the upper corner, width the left one, resolution the right one."""
    whole = depth + width + resolution
    return TernaryPoint((resolution + depth / 2) / whole, HEIGHT * depth / whole)


#: What a number beside a point takes, in sides of the triangle.
_WIDE, _HIGH = 0.13, 0.06


def with_room(places: Sequence[TernaryPoint]) -> Iterator[bool]:
    """Which of `places`, the foremost first, can have a number that hides no other's."""
    taken: list[TernaryPoint] = []
    for x, y in places:
        free = all(abs(x - other.x) > _WIDE or abs(y - other.y) > _HIGH for other in taken)
        if free:
            taken.append(TernaryPoint(x, y))
        yield free


#: The corners and the names that stand at them.
CORNERS = (
    ("depth alone", place(1, 0, 0)),
    ("width alone", place(0, 1, 0)),
    ("resolution alone", place(0, 0, 1)),
)

#: Lines of one share each, a quarter apart: both ends.
GRID = tuple(
    (place(*_first), place(*_second))
    for share in (0.25, 0.5, 0.75)
    for _first, _second in (
        ((share, 1 - share, 0), (share, 0, 1 - share)),
        ((1 - share, share, 0), (0, share, 1 - share)),
        ((1 - share, 0, share), (0, 1 - share, share)),
    )
)
