"""What may be proposed: the networks of a space whose exact cost lies within the bounds.

Combinations of choices are rows of indices into the values of each choice, so that thousands are
costed at once; a `Candidate` is one of them with its architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from search.objective import UNITS, Objective, Price
from space import moves
from space.architecture import Architecture
from space.choices import RESOLUTION, Space, Value
from space.cost import Cost
from space.cost_table import CostTable, SumTable, tabulate
from space.encoding import Encoder
from space.validation import InvalidInput
from space.within import Within

Choices = Mapping[str, Value]
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Up to this many combinations, a space is searched exhaustively.
ENUMERABLE = 20_000

#: Candidates looked at around a known one, before others are drawn from the whole space (assumed).
_NEIGHBOURHOOD = 2_000

#: Draws from the space, of twice the candidates wanted, before giving up (assumed).
_ROUNDS = 40

#: More than any network's MACs.
_ANY = 2**62

#: Candidates kept in memory, so that none is decoded twice in a row.
_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One combination of choices, and what follows from it without training."""

    row: Rows
    choices: dict[str, Value]
    architecture: Architecture
    key: str
    price: Price

    @property
    def cost(self) -> Cost:
        """The exact counts alone."""
        return Cost(*self.price[:3])


class Exhausted(Exception):
    """There is no network left to propose; the message is a sentence."""


class Candidates:
    """The networks that a search may propose."""

    def __init__(self, space: Space, objective: Objective) -> None:
        self.space = space
        self.objective = objective
        self._bounds = objective.bounds
        self._remembered = lru_cache(_REMEMBERED)(self._make)

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna sees it."""
        return {
            name: CategoricalDistribution(values) for name, values in self.space.choices.items()
        }

    @cached_property
    def table(self) -> CostTable:
        """Exact costs of rows, those on a device where they are bounded."""
        device = {"sram", "flash"} & self._bounds.given.keys()
        return tabulate(self.space, precision=self.objective.precision if device else None)

    @cached_property
    def sizes(self) -> Rows:
        """How many values each choice has."""
        return np.array([len(values) for values in self.space.choices.values()])

    @cached_property
    def unsearched(self) -> tuple[Rows, ...]:
        """Rows of networks that one need not search for, each moved into the bounds if need be.

        The first is the space's base network. Where the resolution is a choice, it is followed by
        the base network in each other width, the same in all stages, and by these with a layer less
        in each stage. Empty if no choices make the base network.
        """
        choices = Encoder(self.space)(self.space.base)
        if choices is None:
            return ()
        networks = [choices]
        if RESOLUTION in self.space.choices:
            offered = self.space.choices
            widths, layers = (
                [stage[kind] for stage in self.space.by_stage if kind in stage]
                for kind in ("width", "layers")
            )
            shared = set.intersection(*(set(offered[name]) for name in widths)) if widths else ()
            uniform = [dict.fromkeys(widths, width) for width in sorted(shared)] or [{}]
            less = {name: -1 for name in layers if -1 in offered[name]}
            networks += [{**choices, **d, **w} for d, w in product(({}, less), uniform)]
        base, *others = map(self._moved_inside, self.rows(networks))
        rows = [base, *(row for row in others if self.within(row[None])[0])]
        return tuple({self.at_row(row).key: row for row in rows}.values())

    def _moved_inside(self, row: Rows) -> Rows:
        """The row, or the one within the bounds that differs in one choice and has the most MACs.

        That choice is the resolution if it can be. The row itself if there is none.
        """
        around = moves.neighbours(row, self.sizes)
        inside = around[self.within(around)]
        if self.within(row[None])[0] or len(inside) == 0:
            return row
        if RESOLUTION in self.space.choices:
            place = [*self.space.choices].index(RESOLUTION)
            by_pixels = inside[inside[:, place] != row[place]]
            inside = by_pixels if len(by_pixels) else inside
        return np.asarray(inside[self.table(inside)[:, 0].argmax()])

    def row(self, choices: Choices) -> Rows:
        """The indices of `choices`, in the space's order."""
        row: Rows = self.rows([choices])[0]
        return row

    def rows(self, many: Iterable[Choices]) -> Rows:
        """The indices of each of `many` choices, N × choices."""
        places = self._places.items()
        found = [[place[choices[name]] for name, place in places] for choices in many]
        return np.array(found, np.int64).reshape(len(found), len(places))

    def at(self, choices: Choices) -> Candidate:
        """The candidate of these choices."""
        return self.at_row(self.row(choices))

    def at_row(self, row: Rows) -> Candidate:
        """The candidate of a row of indices."""
        return self._remembered(tuple(row.tolist()))

    def admits(self, candidate: Candidate) -> bool:
        """Whether the candidate lies within the bounds."""
        return self._bounds.admits(candidate.price)

    def prices(self, rows: Rows) -> Floats:
        """The prices of rows, N × len(Price._fields)."""
        seconds = np.zeros(len(rows)) if self._seconds is None else self._seconds(rows)
        return np.column_stack([self.table(rows), seconds, self.table.device(rows)])

    def factors(self, rows: Rows) -> Floats:
        """The reward of each row divided by its accuracy, N."""
        return self.objective.factors(self.prices(rows))

    def most(self, name: str) -> float:
        """The upper bound of a cost, or else the sum of what its stages cost at most."""
        if name in self._bounds.given:
            return self._bounds.given[name][1]
        if name == "latency":
            raise InvalidInput(
                "objective.bounds.latency: set the least and the most seconds: objective.pareto "
                "lists latency, and the hypervolume needs an upper limit"
            )
        column = Cost._fields.index(name)
        return float(sum(stage.costs[:, column].max() for stage in self.table.stages))

    def within(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows lie within the bounds."""
        return np.asarray(self._violations(rows) == 0)

    def sample(self, count: int, rng: np.random.Generator) -> Rows:
        """Rows drawn uniformly from those within the bounds; fewer than `count` if few exist."""
        if not self._bounds.given:
            return moves.uniform(self.sizes, count, rng)
        rows = np.empty((0, len(self.sizes)), np.int64)
        for _ in range(_ROUNDS):
            if len(rows) >= count:
                break
            wanted = max(2 * count, 16)
            if self.grid is None:
                drawn = moves.uniform(self.sizes, wanted, rng)
            else:
                drawn = self.grid.draw(wanted, rng)
            if "latency" in self._bounds.given:  # all else is within its bounds already
                drawn = drawn[self.within(drawn)]
            rows = np.concatenate([rows, drawn])
        return rows[:count]

    def unseen(self, seen: set[str], near: Rows, rng: np.random.Generator) -> Candidate:
        """A candidate within the bounds whose key is not in `seen`, few changes from `near`.

        Raises `Exhausted` if all are seen, and `InvalidInput`, with the nearest cost found, if the
        bounds admit none at all.
        """
        start = self._downhill(near, rng)
        if not self.within(start[None])[0]:
            drawn = self.sample(1, rng)
            if len(drawn) == 0:
                drawn = np.array(list(islice(self._every(), 1)))
            if len(drawn) == 0:
                raise InvalidInput(self._unreachable(rng))
            start = drawn[0]
        for candidate in self._outward(start, rng):
            if candidate.key not in seen and self.admits(candidate):
                return candidate
        raise Exhausted(
            f"the space {self.space.name} has no network left within the bounds: "
            f"all {len(seen)} found have been tried"
        )

    def _outward(self, start: Rows, rng: np.random.Generator) -> Iterator[Candidate]:
        """Candidates within the bounds: those around `start`, then any, then all that remain."""
        yield self.at_row(start)
        known, border = {self.at_row(start).key}, [start]
        while border and len(known) < _NEIGHBOURHOOD:
            following = []
            for row in border:
                around = moves.neighbours(row, self.sizes)
                for neighbour in rng.permutation(around[self.within(around)]):
                    candidate = self.at_row(neighbour)
                    if candidate.key not in known:
                        known.add(candidate.key)
                        following.append(neighbour)
                        yield candidate
            border = following
        for row in self.sample(_NEIGHBOURHOOD, rng):
            yield self.at_row(row)
        for row in self._every():
            yield self.at_row(row)

    def _downhill(self, row: Rows, rng: np.random.Generator) -> Rows:
        """From `row` by single choices towards the bounds, as far as that goes."""
        outside = self._violations(row[None])[0]
        while outside > 0:
            around = moves.neighbours(row, self.sizes)
            violations = self._violations(around)
            better = np.flatnonzero(violations < outside)
            if len(better) == 0:
                break
            step = rng.choice(better)
            row, outside = around[step], violations[step]
        return row

    def _every(self) -> Iterator[Rows]:
        """All rows within the bounds; none if there are more than `ENUMERABLE`."""
        if self.grid is not None:
            every = self.grid.every() if self.grid.count <= ENUMERABLE else iter(())
        else:
            few = self.sizes.tolist() if self.space.size <= ENUMERABLE else [0]
            every = (np.array(row) for row in product(*map(range, few)))
        yield from (row for row in every if self.within(row[None])[0])

    def _unreachable(self, rng: np.random.Generator) -> str:
        if self._bounds.sums:
            reached = Within(self.table, self._bounds.sums, clip=False).nearest(64, rng)
        else:
            reached = moves.uniform(self.sizes, 64, rng)
        reached = np.array([self._downhill(row, rng) for row in reached])
        nearest = self.at_row(reached[self._violations(reached).argmin()]).price
        wanted = " and ".join(
            f"{least:,} to {most:,} {UNITS[name]}"
            for name, (least, most) in self._bounds.given.items()
        )
        found = " and ".join(
            f"{getattr(nearest, name):,} {UNITS[name]}" for name in self._bounds.given
        )
        pixels = " or ".join(map(str, self.space.resolutions))
        return (
            f"objective.bounds: no network of the space {self.space.name} has {wanted} at "
            f"{pixels} pixels; the nearest found has {found}: widen the bounds, or change "
            "space or resolution"
        )

    def _violations(self, rows: Rows) -> Floats:
        """How far outside the bounds each row lies: Σ |log(cost / bound)| over violated ones, N."""
        outside = np.zeros(len(rows))
        if self._bounds.given and len(rows):
            prices = self.prices(rows)
            for name, (least, most) in self._bounds.given.items():
                cost = prices[:, Price._fields.index(name)]
                outside += np.maximum(0.0, np.log(np.maximum(least / cost, cost / most)))
        return outside

    @cached_property
    def _seconds(self) -> SumTable | None:
        seconds = self.objective.seconds
        return SumTable(self.space, self.table, seconds) if seconds else None

    @cached_property
    def grid(self) -> Within | None:
        """What counts and draws rows within the bounds; None without bounds but on latency."""
        sums, sram = self._bounds.sums, self._bounds.sram
        if sram:  # the grid of totals needs an axis
            return Within(self.table, sums or {"macs": (1, _ANY)}, sram=sram)
        return Within(self.table, sums) if sums else None

    @cached_property
    def _places(self) -> dict[str, dict[Value, int]]:
        return {
            name: {value: place for place, value in enumerate(values)}
            for name, values in self.space.choices.items()
        }

    def _make(self, indices: tuple[int, ...]) -> Candidate:
        offers = zip(self.space.choices.items(), indices, strict=True)
        choices = {name: values[index] for (name, values), index in offers}
        architecture = self.space.decode(choices)
        row = np.array(indices)
        cost = Cost(*self.table(row[None])[0].tolist())
        sram, flash = self.table.device(row[None])[0].tolist()
        price = self.objective.price(architecture, cost)._replace(sram=sram, flash=flash)
        return Candidate(row, choices, architecture, architecture.key, price)
