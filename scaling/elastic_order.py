"""Candidates for α, β, γ as parts of elastic networks of several seeds, and the best of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.grid import GridCandidate


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
        `tau` the mean of Kendall's τ between two seeds (None with one candidate).
        """
        from scipy.stats import kendalltau

        winners = [
            asdict(ElasticOrder(self.candidates, row[None]).best(1)[0].coefficients)
            for row in self.accuracies
        ]
        pairs = [kendalltau(*pair).statistic for pair in combinations(self.accuracies, 2)]
        agreed = float(np.mean(pairs))
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
            "tau": None if np.isnan(agreed) else agreed,
        }
