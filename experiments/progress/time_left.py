"""Estimates the remaining time from the work that is done, as an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import variance
from typing import NamedTuple

from reports.formatting import duration


class Done(NamedTuple):
    """A finished piece of work: its effort, in any unit, and the seconds it took."""

    effort: float
    seconds: float


class Left(NamedTuple):
    """The remaining seconds, and their 80 % interval.

    `low` and `high` are None if only one piece is done, which says nothing about the spread.
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
    """Estimates the time for the `remaining` efforts, `workers` at a time; None before any is done.

    Seconds are proportional to effort, by a factor that varies from piece to piece. The interval is
    a prediction interval by Student's t: it covers the spread of the remaining pieces, and the
    uncertainty of the factor.
    """
    spent = sum(piece.effort for piece in done)
    if not spent:
        return None
    total, rate = sum(remaining), sum(piece.seconds for piece in done) / spent
    # At the end fewer than `workers` pieces run, and the longest takes the most time.
    longest = max(remaining, default=0.0)
    share = max(total / workers, longest) / total if total else 0.0
    seconds, count = rate * total * share, len(done)
    if count < 2:
        return Left(seconds, None, None)
    from scipy.special import stdtrit

    spread = variance(piece.seconds / piece.effort for piece in done)
    error = math.sqrt(spread * (sum(effort**2 for effort in remaining) + total**2 / count))
    half = share * float(stdtrit(count - 1, 0.9)) * error
    factor = 1 + half / seconds if seconds else 1.0  # a factor keeps the low end above zero
    return Left(seconds, seconds / factor, seconds * factor)
