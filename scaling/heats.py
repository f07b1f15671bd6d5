"""Training in heats: the jobs of a heat run together, and their results decide the next heat."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from scaling.coefficients import AllFailed
from scaling.comparison import Difference, PairedComparison, compare, paired_difference
from scaling.decision import Decision, decide
from scaling.grid import GridCandidate
from space.evaluation import Budget, Job, Measurement, Proposer, Status

#: The heat in which the chosen candidate and the guest are trained with seeds of their own.
CONFIRMATION = "confirmation"


class HeatResult(NamedTuple):
    """A training run of a heat; `accuracy` is None where it failed, and `reason` says why."""

    candidate: GridCandidate
    heat: str
    epochs: int
    seed: int
    accuracy: float | None
    reason: str | None


class Heat(NamedTuple):
    """Candidates to be trained together, each with every seed of the range."""

    name: str
    candidates: Sequence[GridCandidate]
    epochs: int
    seeds: range


class Heats(Proposer):
    """A `Proposer` that trains candidates heat by heat and stops no job early.

    `finalists` are compared over paired seeds, and `tied` are those that cannot be told from the
    best of them. `guest` (for example the published coefficients) cannot be chosen: it is trained
    beside the chosen candidate in a last heat, with seeds that did not affect the choice.
    """

    def __init__(
        self,
        candidates: Sequence[GridCandidate],
        budget: Budget,
        seeds: int,
        *,
        level: float = 0.95,
        guest: GridCandidate | None = None,
    ) -> None:
        self.candidates = tuple(candidates)
        self.budget, self.seeds, self.level = budget, seeds, level
        keys = {candidate.architecture.key: candidate for candidate in self.candidates}
        self.guest = keys.get(guest.architecture.key, guest) if guest else None
        self.results: list[HeatResult] = []
        self.finalists: tuple[GridCandidate, ...] = ()
        self.tied: tuple[GridCandidate, ...] = ()
        self.comparison: PairedComparison | None = None
        self._running: dict[str, HeatResult | None] = {}
        self._runs: dict[str, tuple[Heat, GridCandidate, Budget]] = {}
        self._waiting: list[Job] = []
        self._heats = self._with_confirmation()
        self._advance()

    @abstractmethod
    def heats(self) -> Iterator[Heat]:
        """Yields the heats that choose; each may use the `results` of those before."""

    @property
    @abstractmethod
    def most(self) -> int:
        """The maximum number of training runs."""

    @property
    @abstractmethod
    def most_finalists(self) -> int:
        """The maximum number of candidates that are compared over paired seeds."""

    @abstractmethod
    def worth(self, candidate: GridCandidate) -> float:
        """The value that decides between tied candidates."""

    def told_apart(self, best: GridCandidate, other: GridCandidate) -> bool:  # noqa: ARG002
        """Whether other evidence tells tied candidates apart; by default there is none."""
        return False

    def ask(self) -> Job | None:
        """The next job of this heat; None until all its results are in, and at the end."""
        return self._waiting.pop(0) if self._waiting else None

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Keeps a result; the last of a heat opens the next."""
        heat, candidate, budget = self._runs[job.name]
        complete = measurement.status is Status.COMPLETE
        self._running[job.name] = HeatResult(
            candidate,
            heat.name,
            budget.epochs,
            budget.seed,
            measurement.accuracy if complete else None,
            measurement.reason,
        )
        if all(self._running.values()):
            self.results += filter(None, self._running.values())
            self._advance()

    @property
    def decision(self) -> Decision:
        """The chosen candidate and the reason; raises `AllFailed` if none was trained."""
        if not self.tied:
            reasons = (each.reason for each in self.results if each.accuracy is None)
            raise AllFailed(
                "coefficients: at least one candidate must be trained to its end, but none was; "
                f"the first reason: {next(reasons, None)}"
            )
        return decide(self.finalists, self.tied, self.worth, self.told_apart)

    @property
    def difference(self) -> Difference | None:
        """The guest's accuracy minus the chosen candidate's, over the seeds of the last heat.

        None if one of them failed, they are the same network, or there is no guest.
        """
        if self.guest is None:
            return None
        guest, chosen = (
            self.accuracies(each, CONFIRMATION) for each in (self.guest, self.decision.chosen)
        )
        if not guest or not chosen or self.guest is self.decision.chosen:
            return None
        return paired_difference(guest, chosen, self.comparison, self.level)

    def accuracies(self, candidate: GridCandidate, heat: str | None = None) -> tuple[float, ...]:
        """The candidate's accuracies in a heat, by seed; empty if a training run failed.

        By default, the heat is the last one, apart from the confirmation, with the candidate.
        """
        own = [each for each in self.results if each.candidate is candidate]
        if heat is None:
            heat = next((each.heat for each in own[::-1] if each.heat != CONFIRMATION), None)
        own = sorted((each for each in own if each.heat == heat), key=lambda each: each.seed)
        known = tuple(each.accuracy for each in own if each.accuracy is not None)
        return known if len(known) == len(own) else ()

    def mean(self, candidate: GridCandidate) -> float | None:
        """The mean of `accuracies`; None if there are none."""
        accuracies = self.accuracies(candidate)
        return fmean(accuracies) if accuracies else None

    def ranked(self, candidates: Sequence[GridCandidate]) -> list[GridCandidate]:
        """The candidates with a mean, most accurate first, then cheapest."""
        means = [(self.mean(each), each) for each in candidates]
        known = [(mean, each) for mean, each in means if mean is not None]
        return [each for _, each in sorted(known, key=lambda row: (-row[0], row[1].cost.macs))]

    def compare(self, candidates: Sequence[GridCandidate], level: float) -> list[GridCandidate]:
        """Compares candidates over their paired seeds and returns those that are tied."""
        self.comparison = compare([self.accuracies(each) for each in candidates], level)
        return [candidates[index] for index in self.comparison.tied]

    def _with_confirmation(self) -> Iterator[Heat]:
        used = 0
        for heat in self.heats():
            used = max(used, heat.seeds.stop)
            yield heat
        if self.tied and self.guest is not None and self.guest is not self.decision.chosen:
            pair = (self.decision.chosen, self.guest)
            yield Heat(CONFIRMATION, pair, self.budget.epochs, range(used, used + self.seeds))

    def _advance(self) -> None:
        """Opens the next heat, if there is one."""
        self._running, self._runs = {}, {}
        if (heat := next(self._heats, None)) is None:
            return
        for number in heat.seeds:
            seed = self.budget.seed + number
            budget = replace(self.budget, epochs=heat.epochs, seed=seed)
            for candidate in heat.candidates:
                name = f"{candidate.label}, {heat.epochs} epochs, seed {seed}"
                self._running[name] = None
                self._runs[name] = heat, candidate, budget
                self._waiting.append(Job(name, candidate.architecture, budget))
