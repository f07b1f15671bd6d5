"""The coefficient race: short training runs for all candidates, long and repeated ones for a few.

At φ = 1, candidates differ by tenths of a point, less than seeds do. So the finalists are trained
with several seeds, the same for all, until the best is told apart from the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scaling.grid import GridCandidate
from scaling.heats import CONFIRMATION, Heat, Heats
from space.evaluation import Budget

#: The fewest finalists of a race: two are nearly always tied (1.9 on average, simulated).
MIN_FINALISTS = 4


class Rung(NamedTuple):
    """A step of the race: `entrants` candidates train for `epochs`, with each of `seeds` seeds."""

    entrants: int
    epochs: int
    seeds: int


def ladder(candidates: int, epochs: int, seeds: int) -> tuple[Rung, ...]:
    """The rungs of a race: all for a fifth of `epochs`, a third for half, a ninth for the whole.

    Only the last rung repeats training runs, with all `seeds`, and at least four candidates reach
    it. Source: successive halving (Jamieson and Talwalkar 2016).
    """
    steps = sorted({max(1, epochs // 5), max(1, epochs // 2), epochs})
    entrants = [
        min(candidates, max(MIN_FINALISTS, candidates // 3**rung)) for rung in range(len(steps))
    ]
    last = len(steps) - 1
    return tuple(
        Rung(entrants[rung], step, seeds if rung == last else 1) for rung, step in enumerate(steps)
    )


class Race(Heats):
    """A `Proposer` that finds the best of the finalists by successive halving over `rungs`.

    A rung ends when all its results are in; the most accurate go on. One seed decides there,
    without statistics: the best candidate may be dropped. In the last rung a seed is added at a
    time, and finalists that are told apart from the best leave, until one is left or the seeds end.
    """

    def __init__(
        self,
        candidates: Sequence[GridCandidate],
        rungs: Sequence[Rung],
        budget: Budget,
        *,
        level: float = 0.95,
        guest: GridCandidate | None = None,
    ) -> None:
        self.rungs = tuple(rungs)
        super().__init__(candidates, budget, self.rungs[-1].seeds, level=level, guest=guest)

    def heats(self) -> Iterator[Heat]:
        """The rungs, the last in as many heats as it takes seeds to tell the finalists apart."""
        field = list(self.candidates)
        *early, last = self.rungs
        for number, rung in enumerate(early):
            yield Heat(f"rung {number + 1}", field, rung.epochs, range(1))
            field = self.ranked(field)[: self.rungs[number + 1].entrants]
        self.finalists = tuple(field)
        trained = 0
        while trained < last.seeds and (len(field) > 1 or not trained) and field:
            seeds = range(trained, min(last.seeds, max(2, trained + 1)))
            yield Heat(f"rung {len(self.rungs)}", field, last.epochs, seeds)
            trained = seeds.stop
            if field := self.ranked(field):
                field = self.compare(field, self._level_of_a_look())
        self.tied = tuple(field)

    def worth(self, candidate: GridCandidate) -> float:
        """The mean accuracy over the seeds of the last rung."""
        return self.mean(candidate) or 0.0

    @property
    def most_finalists(self) -> int:
        """Those of the last rung."""
        return self.rungs[-1].entrants

    @property
    def most(self) -> int:
        """How many training runs the race takes, at most."""
        return sum(rung.entrants * rung.seeds for rung in self.rungs) + 2 * self.seeds

    @property
    def part(self) -> float:
        """MACs that choosing took over the full grid's: every candidate as in the last rung."""
        last = self.rungs[-1]
        spent = sum(
            each.candidate.cost.macs * each.epochs
            for each in self.results
            if each.heat != CONFIRMATION
        )
        macs = sum(candidate.cost.macs for candidate in self.candidates)
        return spent / (macs * last.epochs * last.seeds)

    def _level_of_a_look(self) -> float:
        """Bonferroni: the race looks at its results after each seed from the second on."""
        return 1 - (1 - self.level) / max(1, self.rungs[-1].seeds - 1)
