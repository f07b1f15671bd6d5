"""The coefficient race: short trainings for all candidates, long and repeated ones for the best.

At φ = 1 candidates differ by tenths of a point, less than a seed does; so the finalists are trained
with several seeds, the same for all, until the best is told apart from the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

from scaling.coefficients import AllFailed
from scaling.comparison import PairedComparison, compare
from scaling.grid import GridCandidate
from space.evaluation import Budget, Epoch, Job, Measurement, Status


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of the race: `entrants` candidates train for `epochs`, with each of `seeds` seeds."""

    entrants: int
    epochs: int
    seeds: int


def ladder(candidates: int, epochs: int, seeds: int, reduction: int = 3) -> tuple[Rung, ...]:
    """The rungs of a race: all for a fifth of `epochs`, a third for half, a ninth for the whole.

    Only the last rung repeats trainings, with all `seeds`, and at least two candidates reach it.
    With three seeds and 18 candidates or more it takes less than a quarter of the full grid's
    training: (1/5 + 1/6 + 3/9) / 3. Source: successive halving (Jamieson and Talwalkar 2016).
    """
    steps = sorted({max(1, epochs // 5), max(1, epochs // 2), epochs})
    entrants = [
        min(candidates, max(2, candidates // reduction**rung)) for rung in range(len(steps))
    ]
    last = len(steps) - 1
    return tuple(
        Rung(entrants[rung], step, seeds if rung == last else 1) for rung, step in enumerate(steps)
    )


class TrainingResult(NamedTuple):
    """One result of the race; `accuracy` is None where it failed, and `reason` says why."""

    candidate: GridCandidate
    epochs: int
    seed: int
    accuracy: float | None
    reason: str | None


class Race:
    """A `Proposer` that finds the best of `candidates` by successive halving over `rungs`.

    A rung ends when all its jobs are told; the most accurate go on (of equals the cheaper), and a
    candidate whose training failed does not. In the last rung a seed is added at a time, and those
    told apart from the best leave, until one is left or the seeds end. `guest` runs in the last
    rung too, on the same footing, and cannot win: the published coefficients, say.
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
        self.candidates, self.rungs, self.level = tuple(candidates), tuple(rungs), level
        keys = {candidate.architecture.key: candidate for candidate in self.candidates}
        self.guest = keys.get(guest.architecture.key, guest) if guest else None
        self.trainings: list[TrainingResult] = []
        self.comparison: PairedComparison | None = None
        self._field = self.candidates[: self.rungs[0].entrants]
        self._budget = budget
        self._rung = self._seeds = 0
        self._heat: dict[str, tuple[GridCandidate, Job]] = {}
        self._waiting: list[Job] = []
        self._line_up()

    def ask(self) -> Job | None:
        """The next job of this heat; None until the heat is told, and at the end."""
        return self._waiting.pop(0) if self._waiting else None

    def report(self, job: Job, epoch: Epoch) -> bool:  # noqa: ARG002 (Proposer's)
        """Never stops a job."""
        return False

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Keeps a result; the last of a heat begins the next."""
        candidate, _ = self._heat.pop(job.name)
        complete = measurement.status is Status.COMPLETE
        accuracy = measurement.accuracy if complete else None
        self.trainings.append(
            TrainingResult(
                candidate, job.budget.epochs, job.budget.seed, accuracy, measurement.reason
            )
        )
        if not self._heat:
            self._advance()

    @property
    def winner(self) -> GridCandidate:
        """The most accurate of those left; raises `AllFailed`, with the first reason, for none."""
        if not self._field:
            reason = next(each.reason for each in self.trainings if each.accuracy is None)
            raise AllFailed(
                "coefficients: at least one candidate must be trained to its end, but in the race "
                f"none was; the first reason: {reason}"
            )
        return min(self._field, key=self._rank)

    @property
    def tied(self) -> tuple[GridCandidate, ...]:
        """The winner and those that the race cannot tell from it at its level."""
        return self._field

    @property
    def part(self) -> float:
        """MACs spent on training over the full grid's: every candidate as in the last rung."""
        last = self.rungs[-1]
        spent = sum(
            each.candidate.cost.macs * each.epochs
            for each in self.trainings
            if each.candidate in self.candidates
        )
        macs = sum(candidate.cost.macs for candidate in self.candidates)
        return spent / (macs * last.epochs * last.seeds)

    def accuracies(self, candidate: GridCandidate) -> tuple[float, ...]:
        """Those of the last rung that it took part in, by seed; none where a training failed."""
        own = [each for each in self.trainings if each.candidate is candidate]
        epochs = max((each.epochs for each in own), default=0)
        last = sorted((each for each in own if each.epochs == epochs), key=lambda each: each.seed)
        known = tuple(each.accuracy for each in last if each.accuracy is not None)
        return known if len(known) == len(last) else ()

    def mean(self, candidate: GridCandidate) -> float | None:
        """The mean of `accuracies`; None where there are none."""
        accuracies = self.accuracies(candidate)
        return fmean(accuracies) if accuracies else None

    def _rank(self, candidate: GridCandidate) -> tuple[float, int, int]:
        mean = self.mean(candidate)
        order = self.candidates.index(candidate)
        return (-mean if mean is not None else math.inf, candidate.cost.macs, order)

    @property
    def _in_last_rung(self) -> bool:
        return self._rung == len(self.rungs) - 1

    def _line_up(self) -> None:
        """Opens the next heat: a rung with all its seeds, or the last rung with one more."""
        rung, first = self.rungs[self._rung], self._seeds
        entrants = list(self._field)
        self._seeds = rung.seeds
        if self._in_last_rung:
            self._seeds = min(rung.seeds, max(2, first + 1))
            entrants += [self.guest] if self.guest and self.guest not in entrants else []
        for number in range(first, self._seeds):
            seed = self._budget.seed + number
            for candidate in entrants:
                job = Job(
                    f"{candidate.label}, {rung.epochs} epochs, seed {seed}",
                    candidate.architecture,
                    replace(self._budget, epochs=rung.epochs, seed=seed),
                )
                self._heat[job.name] = (candidate, job)
                self._waiting.append(job)

    def _advance(self) -> None:
        """Ends a heat: who goes on, and whether to go on at all."""
        self._field = tuple(each for each in self._field if self.mean(each) is not None)
        if not self._field:
            return
        if not self._in_last_rung:
            self._rung, self._seeds = self._rung + 1, 0
            ranked = sorted(self._field, key=self._rank)
            self._field = tuple(ranked[: self.rungs[self._rung].entrants])
            self._line_up()
            return
        table = [self.accuracies(candidate) for candidate in self._field]
        self.comparison = compare(table, self._level_of_a_look())
        self._field = tuple(self._field[index] for index in self.comparison.tied)
        if len(self._field) > 1 and self._seeds < self.rungs[-1].seeds:
            self._line_up()

    def _level_of_a_look(self) -> float:
        """Bonferroni: the race looks at its results after each seed from the second on."""
        return 1 - (1 - self.level) / max(1, self.rungs[-1].seeds - 1)
