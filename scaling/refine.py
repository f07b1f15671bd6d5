"""The default search for α, β, γ: every candidate once, then the best four with more seeds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from statistics import NormalDist

from scaling.gaussian_process import Posterior, posterior
from scaling.grid import GridCandidate
from scaling.heats import CONFIRMATION, Heat, HeatResult, Heats
from scaling.response_surface import points_of

#: Candidates that are trained again.
FINALISTS = 4


class Refine(Heats):
    """A `Proposer` that trains all candidates once, and the best four with `seeds` more seeds.

    The first run, without statistics, selects the best four. They are compared over their paired
    seeds. If some stay tied, the expectation of a Gaussian process through all runs decides (see
    `scaling.gaussian_process`), provided that it tells them apart.
    """

    def heats(self) -> Iterator[Heat]:
        """All candidates with the first seed, then the finalists with the others."""
        epochs = self.budget.epochs
        yield Heat("first", self.candidates, epochs, range(1))
        finalists = self.ranked(self.candidates)[:FINALISTS]
        self.finalists = self.tied = tuple(finalists)
        if len(finalists) > 1:
            yield Heat("finalists", finalists, epochs, range(1, 1 + self.seeds))
            finalists = [each for each in finalists if self.mean(each) is not None]
            self.tied = tuple(self.compare(finalists, self.level) if finalists else ())

    @cached_property
    def posterior(self) -> Posterior | None:
        """The posterior of the candidates in `trained`; None with too few runs."""
        return posterior(points_of(self._choosing))

    @cached_property
    def trained(self) -> tuple[str, ...]:
        """The labels of the posterior's candidates, in its order."""
        return tuple(dict.fromkeys(each.candidate.label for each in self._choosing))

    @property
    def _choosing(self) -> list[HeatResult]:
        return [
            each for each in self.results if each.accuracy is not None and each.heat != CONFIRMATION
        ]

    def worth(self, candidate: GridCandidate) -> float:
        """The posterior mean at equal cost."""
        if self.posterior is None:
            return self.mean(candidate) or 0.0
        return float(self.posterior.means[self.trained.index(candidate.label)])

    def told_apart(self, best: GridCandidate, other: GridCandidate) -> bool:
        """Whether the posterior has `best` ahead at the level (Bonferroni over the finalists)."""
        if self.posterior is None or best is other:
            return False
        pair = self.trained.index(best.label), self.trained.index(other.label)
        error = (1 - self.level) / (len(self.finalists) - 1)
        ahead = self.worth(best) - self.worth(other)
        return ahead > NormalDist().inv_cdf(1 - error) * self.posterior.deviation(*pair)

    @property
    def most_finalists(self) -> int:
        """Four, or all candidates."""
        return min(FINALISTS, len(self.candidates))

    @property
    def most(self) -> int:
        """How many training runs it takes, at most."""
        again = self.most_finalists * self.seeds if self.most_finalists > 1 else 0
        return len(self.candidates) + again + 2 * self.seeds
