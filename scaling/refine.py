"""The default way to α, β, γ: every candidate once, the best four again, and all of it smoothed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from scaling.gaussian_process import posterior
from scaling.grid import GridCandidate
from scaling.heats import CONFIRMATION, Heat, Heats
from scaling.response_surface import points_of

#: Candidates that are trained again.
FINALISTS = 4


class Refine(Heats):
    """A `Proposer` that trains all candidates once, and the best four with `seeds` more seeds.

    The first run alone, without statistics, says which are the best four. Those are compared over
    their paired seeds; of several that stay tied, what a Gaussian process through all runs expects
    of them decides (see `scaling.gaussian_process`).
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
    def posterior(self) -> Mapping[str, tuple[float, float]]:
        """By label: a candidate's accuracy at equal cost, over the mean of all, and its deviation.

        Empty where there are too few runs. Asked for once the finalists are known.
        """
        runs = [
            each for each in self.results if each.accuracy is not None and each.heat != CONFIRMATION
        ]
        trained = dict.fromkeys(each.candidate.label for each in runs)
        found = posterior(points_of(runs))
        if found is None:
            return {}
        return dict(zip(trained, zip(found.means, found.deviations, strict=True), strict=True))

    def worth(self, candidate: GridCandidate) -> float:
        """The posterior mean."""
        return self.posterior.get(candidate.label, (self.mean(candidate) or 0.0,))[0]

    @property
    def most(self) -> int:
        """How many training runs it takes, at most."""
        count = len(self.candidates)
        finalists = min(FINALISTS, count)
        return count + (finalists * self.seeds if finalists > 1 else 0) + 2 * self.seeds
