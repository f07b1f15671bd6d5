"""Power analysis of a comparison, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from scaling.comparison import critical_values, moderated_variances

#: The probability of finding a difference.
POWER = 0.8

#: Tables that are simulated (assumed: a quantile then moves by 1 % from seed to seed).
_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class PowerAnalysis:
    """Finalists that are compared over paired seeds, and the noise expected of a training run.

    `deviation` is a fraction, and `source` says where it was measured.
    """

    candidates: int
    finalists: int
    seeds: int
    deviation: float
    source: str

    @property
    def sentence(self) -> str:
        """What the design can show, and what half a point would take."""
        noise = f"noise of {100 * self.deviation:.1f} points per training run ({self.source})"
        found = resolvable(self.deviation, self.finalists, self.seeds)
        half = seeds_for(0.005, self.deviation)
        shown = (
            f"{self.finalists} finalists with {self.seeds} paired seeds show a difference of "
            f"{100 * found:.1f} points with {POWER:.0%} power"
            if math.isfinite(found)
            else f"{self.finalists} candidates with one seed each show no difference"
        )
        return (
            f"{self.candidates} candidates; with {noise}, {shown}; half a point would take {half} "
            "seeds for each of two candidates"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; what cannot be resolved is null."""
        found = resolvable(self.deviation, self.finalists, self.seeds)
        return {
            **asdict(self),
            "power": POWER,
            "resolves": found if math.isfinite(found) else None,
            "seeds_for_half_a_point": seeds_for(0.005, self.deviation),
            "sentence": self.sentence,
        }


def resolvable(deviation: float, candidates: int, seeds: int, *, level: float = 0.95) -> float:
    """The smallest difference from the best that `compare` finds with probability `POWER`.

    `deviation` is the standard deviation of a training run apart from the effect of its seed on
    all; the result has its unit. Infinite with one seed.
    """
    if seeds == 1 or candidates == 1:
        return math.inf
    return deviation * _resolvable(candidates, seeds, level)


@lru_cache(maxsize=64)
def _resolvable(candidates: int, seeds: int, level: float) -> float:
    """In deviations, by simulated tables of equal variances."""
    ahead, _ = critical_values(candidates, seeds, level)
    tables = np.random.default_rng(1).standard_normal((_DRAWS, candidates, seeds))
    variances, _ = moderated_variances(tables)
    gap = ahead * np.sqrt((variances[:, 0] + variances[:, 1]) / seeds)
    by_chance = tables[:, 0].mean(axis=1) - tables[:, 1].mean(axis=1)
    return float(np.quantile(gap - by_chance, POWER))


def seeds_for(difference: float, deviation: float) -> int:
    """The number of paired seeds that tells apart two candidates that differ by `difference`.

    With probability `POWER`, by a one-sided paired t test at the level of `compare`.
    """
    from scipy.stats import t

    def finds(seeds: int) -> bool:
        quantiles = float(t.ppf(0.95, seeds - 1) + t.ppf(POWER, seeds - 1))
        return quantiles * deviation * math.sqrt(2 / seeds) <= difference

    few, enough = 1, 2
    while not finds(enough):
        few, enough = enough, 2 * enough
    while enough - few > 1:  # more seeds never find less
        middle = (few + enough) // 2
        few, enough = (few, middle) if finds(middle) else (middle, enough)
    return enough
