"""How long what is left will take, judged by what is done: an interval, never a number alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from reports.formatting import duration

#: Standard deviations to either side of a normal distribution's mean that hold 80 % of it.
_SPREAD = 1.2816


class Done(NamedTuple):
    """A piece of work that is done: how much it was, in any unit, and the seconds it took."""

    effort: float
    seconds: float


class Left(NamedTuple):
    """Seconds that are left, and an interval that holds them four times in five.

    `low` and `high` are None where a single piece is done, which says nothing of the spread.
    """

    seconds: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"roughly {duration(self.seconds)} left"
        low, high = duration(self.low), duration(self.high)
        return f"{low} left" if low == high else f"{low} – {high} left"


def left(done: Sequence[Done], remaining: Sequence[float], workers: int = 1) -> Left | None:
    """What `remaining` efforts will take `workers` at a time; None where nothing is done yet.

    Seconds are proportional to effort, by a factor that varies from piece to piece. The interval
    has both the spread of what is to come and how little is known of the factor (prediction
    interval, by Student's t).
    """
    spent = sum(piece.effort for piece in done)
    if not spent:
        return None
    total, rate = sum(remaining), sum(piece.seconds for piece in done) / spent
    # At the end fewer than `workers` pieces run, and the longest is waited for.
    longest = max(remaining, default=0.0)
    share = max(total / workers, longest) / total if total else 0.0
    seconds = rate * total * share
    count = len(done)
    if count < 2:
        return Left(seconds, None, None)
    rates = [piece.seconds / piece.effort for piece in done]
    mean = sum(rates) / count
    variance = sum((each - mean) ** 2 for each in rates) / (count - 1)
    own = sum(effort**2 for effort in remaining)
    half = share * student(count - 1) * math.sqrt(variance * (own + total**2 / count))
    factor = 1 + half / seconds if seconds else 1.0  # a factor: what is left is never below zero
    return Left(seconds, seconds / factor, seconds * factor)


def student(freedom: int) -> float:
    """Standard errors to either side that hold 80 % of Student's t (within 0.4 for one degree of
    freedom, 0.02 from three on; Abramowitz and Stegun 26.7.5)."""
    z = _SPREAD
    first = (z**3 + z) / (4 * freedom)
    return z + first + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
