"""What may be proposed: the networks of a space whose exact cost lies within the bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from search.objective import UNITS, Objective
from space.architecture import Architecture
from space.choices import Space, Value
from space.cost import Cost, cost
from space.validation import InvalidInput

Choices = Mapping[str, Value]

#: A space of at most this many combinations is searched through to the last one.
ENUMERABLE = 20_000

#: Random starts from which a way into the bounds is looked for (assumed).
_STARTS = 30

#: Networks looked at around one that is known already before the space counts as exhausted.
_NEIGHBOURHOOD = 20_000

#: Candidates kept in memory, so that none is decoded and costed twice in a row.
_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One combination of choices, and all that follows from it without training."""

    choices: dict[str, Value]
    architecture: Architecture
    key: str
    cost: Cost


class Exhausted(Exception):
    """There is no network left to propose; the message says so in a sentence."""


class Candidates:
    """The networks that a search may propose.

    `resolution` is that of the evaluations, in pixels; None for the architectures' own. What is
    remembered here follows from space and objective alone.
    """

    def __init__(self, space: Space, objective: Objective, resolution: int | None = None) -> None:
        self.space = space
        self.objective = objective
        self.resolution = resolution
        self._names = tuple(space.choices)
        self._remembered = lru_cache(_REMEMBERED)(self._make)

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna sees it."""
        return {
            name: CategoricalDistribution(values) for name, values in self.space.choices.items()
        }

    def at(self, choices: Choices) -> Candidate:
        """The candidate of these choices."""
        return self._remembered(tuple(choices[name] for name in self._names))

    def admits(self, candidate: Candidate) -> bool:
        """Whether the candidate lies within the bounds."""
        return self.objective.admits(candidate.cost)

    def sample(self, rng: np.random.Generator) -> Candidate:
        """A combination drawn uniformly from all, within the bounds or not."""
        return self.at(
            {name: values[rng.integers(len(values))] for name, values in self.space.choices.items()}
        )

    def neighbours(self, candidate: Candidate, rng: np.random.Generator) -> Iterator[Candidate]:
        """Every candidate that differs in one choice, in random order."""
        moves = [
            (name, value)
            for name, values in self.space.choices.items()
            for value in values
            if value != candidate.choices[name]
        ]
        for index in rng.permutation(len(moves)):
            name, value = moves[index]
            yield self.at({**candidate.choices, name: value})

    def unseen(self, seen: set[str], near: Candidate, rng: np.random.Generator) -> Candidate:
        """A candidate within the bounds whose key is not in `seen`, by few changes from `near`.

        Raises `Exhausted` where all are seen, and `InvalidInput`, with the nearest reachable cost,
        where the bounds admit none at all.
        """
        start = self._into_bounds(near, rng)
        if start is None:
            raise InvalidInput(self._unreachable(near, rng))
        found = next((c for c in self._spread(start, rng) if c.key not in seen), None)
        if found is None and self.space.size <= ENUMERABLE:
            found = next((c for c in self._all() if self.admits(c) and c.key not in seen), None)
        if found is None:
            raise Exhausted(
                f"the space {self.space.name} has no network left within the bounds: "
                f"all {len(seen)} that were found have been tried"
            )
        return found

    def _into_bounds(self, near: Candidate, rng: np.random.Generator) -> Candidate | None:
        """A candidate within the bounds: downhill on their violation, from `near` and elsewhere."""
        for attempt in range(_STARTS):
            reached = self._downhill(near if attempt == 0 else self.sample(rng), rng)
            if self.admits(reached):
                return reached
        if self.space.size <= ENUMERABLE:
            return next((c for c in self._all() if self.admits(c)), None)
        return None

    def _downhill(self, start: Candidate, rng: np.random.Generator) -> Candidate:
        violation = self.objective.bounds.violation
        while not self.admits(start):
            outside = violation(start.cost)
            step = next(
                (c for c in self.neighbours(start, rng) if violation(c.cost) < outside), None
            )
            if step is None:
                return start
            start = step
        return start

    def _spread(self, start: Candidate, rng: np.random.Generator) -> Iterator[Candidate]:
        """Candidates within the bounds, the nearest first, each reached by one more choice."""
        yield start
        known, border = {start.key}, [start]
        while border and len(known) < _NEIGHBOURHOOD:
            following = []
            for candidate in border:
                for neighbour in self.neighbours(candidate, rng):
                    if self.admits(neighbour) and neighbour.key not in known:
                        known.add(neighbour.key)
                        following.append(neighbour)
                        yield neighbour
            border = following

    def _all(self) -> Iterator[Candidate]:
        for values in product(*self.space.choices.values()):
            yield self.at(dict(zip(self._names, values, strict=True)))

    def _unreachable(self, near: Candidate, rng: np.random.Generator) -> str:
        bounds = self.objective.bounds
        reached = [self._downhill(near, rng)]
        reached += [self._downhill(self.sample(rng), rng) for _ in range(_STARTS)]
        nearest = min(reached, key=lambda candidate: bounds.violation(candidate.cost)).cost
        wanted = " and ".join(
            f"{least:,} to {most:,} {UNITS[name]}" for name, (least, most) in bounds.given.items()
        )
        found = " and ".join(f"{getattr(nearest, name):,} {UNITS[name]}" for name in bounds.given)
        resolution = self.resolution or self.space.base.resolution
        return (
            f"objective.bounds: no network of the space {self.space.name} has {wanted} at "
            f"{resolution} pixels; the nearest found has {found}: widen the bounds, or change "
            "space or resolution"
        )

    def _make(self, values: tuple[Value, ...]) -> Candidate:
        choices = dict(zip(self._names, values, strict=True))
        architecture = self.space.decode(choices)
        return Candidate(
            choices, architecture, architecture.key, cost(architecture, self.resolution)
        )
