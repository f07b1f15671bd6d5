"""Networks as parts of elastic networks of several seeds: the best, and how seeds agree on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.grid import GridCandidate

#: Networks below which the order of two seeds has no interval (measured: from here on it holds the
#: τ of two correlated normal variables 93 to 97 times in 100).
_FEW_NETWORKS = 10


class SeedAgreement(NamedTuple):
    """Kendall's τ_b of two elastic seeds over networks, with its 95 % interval.

    Of more than two seeds it is the mean over their pairs. Few networks have no interval.
    """

    tau: float
    interval: list[float] | None
    networks: int


def seed_agreement(accuracies: NDArray[np.float64]) -> SeedAgreement | None:
    """How well elastic seeds agree on the order of the networks that all of them measured.

    `accuracies` has a row for each seed, NaN for what failed. None for a single seed or network,
    and where a seed finds all equal. The interval is Student's, with the jackknife's variance over
    networks (Arvesen 1969, "Jackknifing U-statistics").
    """
    measured = accuracies[:, ~np.isnan(accuracies).any(axis=0)]
    seeds, count = measured.shape
    if min(seeds, count) < 2 or (np.ptp(measured, axis=1) == 0).any():
        return None
    tau = _mean_tau(measured)
    if count < _FEW_NETWORKS:
        return SeedAgreement(tau, None, count)
    from scipy.stats import t

    without = [_mean_tau(np.delete(measured, i, axis=1)) for i in range(count)]
    half = float(t.isf(0.025, count - 1) * np.std(without) * np.sqrt(count - 1))
    return SeedAgreement(tau, [max(-1.0, tau - half), min(1.0, tau + half)], count)


def _mean_tau(accuracies: NDArray[np.float64]) -> float:
    """The mean τ_b of two rows; of equal accuracies it is 0."""
    from scipy.stats import kendalltau

    pairs = combinations(accuracies, 2)
    return fmean(float(np.nan_to_num(kendalltau(*pair).statistic)) for pair in pairs)


@dataclass(frozen=True)
class ElasticOrder:
    """The accuracy of each candidate as a part: seeds × candidates, NaN for one that failed."""

    candidates: tuple[GridCandidate, ...]
    accuracies: NDArray[np.float64]

    def best(self, count: int) -> tuple[GridCandidate, ...]:
        """The candidates with the highest means over the seeds; those that failed come last."""
        means = np.nan_to_num(self.accuracies.mean(axis=0), nan=-1.0)
        return tuple(self.candidates[place] for place in np.argsort(-means, kind="stable")[:count])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data.

        `interval` has the lowest and the highest α, β and γ among the best candidates of each seed,
        `agreement` says how well two seeds agree on the order of the candidates.
        """
        winners = [
            asdict(ElasticOrder(self.candidates, row[None]).best(1)[0].coefficients)
            for row in self.accuracies
        ]
        agreed = seed_agreement(self.accuracies)
        return {
            "seeds": len(self.accuracies),
            "accuracies": {
                each.label: [None if np.isnan(one) else float(one) for one in column]
                for each, column in zip(self.candidates, self.accuracies.T, strict=True)
            },
            "interval": {
                name: [min(each[name] for each in winners), max(each[name] for each in winners)]
                for name in ("alpha", "beta", "gamma")
            },
            "agreement": agreed and agreed._asdict(),
        }
