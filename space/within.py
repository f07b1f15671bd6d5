"""Combinations of choices whose cost lies within bounds: counted, and drawn uniformly.

The cost of a combination is a sum over stages, and a stage's part depends on its own choices and
on the map handed over by the stage before: its resolution and channels. So the number of ways to go
on from a stage with a given map to a given total is a sum over the stage's combinations (dynamic
programming). Totals are counted in cells of a grid; the cells that the bounds may touch are drawn
from, and the exact cost decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from space.cost import Cost
from space.cost_table import CostTable

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Bounds = Mapping[str, tuple[int, int]]

#: What stages add up to.
_FIELDS = (*Cost._fields, "flash")

#: Cells of the grid of totals, over all bounded costs together, at most (assumed: half a second).
_CELLS = 2**18

#: Cells between the two bounds of a cost, where the grid may be that fine, and on a whole axis at
#: least (assumed: then few draws lie outside the bounds).
_CELLS_BETWEEN = 32
_LEAST_CELLS = 64


@dataclass(frozen=True, slots=True)
class _Step:
    """A stage with a given map: groups of combinations that hand over and cost the same."""

    given: Rows
    cells: Rows
    members: list[Rows]


class Within:
    """The combinations of a cost table within `bounds`, which name a cost or flash, or several.

    Combinations of a stage that need more than `sram` bytes are left out. `clip` drops totals above
    the bounds from the grid, for finer cells; without it, cells outside the bounds can be drawn
    from too.
    """

    def __init__(
        self, table: CostTable, bounds: Bounds, *, sram: float = math.inf, clip: bool = True
    ) -> None:
        self._table, self._sram = table, sram
        self._axes = [_FIELDS.index(name) for name in bounds]
        self._least = np.array([least for least, _ in bounds.values()], float)
        self._most = np.array([most for _, most in bounds.values()], float)
        costs = [self._costs(place).astype(float) for place in range(len(table.stages))]
        self._lows = [cost.min(axis=0) for cost in costs]
        self._origin = np.sum(self._lows, axis=0)
        top = np.sum([cost.max(axis=0) for cost in costs], axis=0)
        if clip:
            top = np.clip(self._most, self._origin, top)
        self._cell = self._cells_for(top - self._origin)
        # Rounding moves a total by up to half a cell for each stage; it must stay on the grid.
        self._slack = len(costs) / 2
        shape = np.ceil((top - self._origin) / self._cell + self._slack).astype(int) + 1
        self._shape = tuple(shape.tolist())
        self._steps = [self._grouped(place) for place in range(len(costs))]
        self._ways = self._count_ways()

    @cached_property
    def count(self) -> float:
        """Combinations in the cells that the bounds touch: at least as many as lie within."""
        return float(self._touched.sum())

    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        """At most `count` combinations within the bounds, N × choices, each uniform among all.

        They are what remains of `count` draws from the cells that the bounds touch; where the
        bounds are narrower than a cell, that may be few or none.
        """
        if self.count == 0:
            return np.empty((0, len(self._table.names)), np.int64)
        return self._inside(self._draw_from(self._touched, count, rng))

    def nearest(self, count: int, rng: np.random.Generator) -> Rows:
        """`count` draws from the reachable cell that is the least outside the bounds."""
        reachable = self._ways[0][0] > 0
        distance = np.where(reachable, self._outside(), np.inf)
        return self._draw_from(
            np.where(distance == distance.min(), self._ways[0][0], 0), count, rng
        )

    def every(self) -> Iterator[Rows]:
        """All combinations within the bounds, each once."""
        for cell in zip(*np.nonzero(self._touched), strict=True):
            for combinations in self._paths(0, 0, np.array(cell)):
                yield from self._inside(self._rows(np.array([combinations])))

    @cached_property
    def _touched(self) -> Floats:
        """Ways to every cell that the bounds may touch, 0 elsewhere."""
        touched: Floats = np.where(self._outside() == 0, self._ways[0][0], 0)
        return touched

    def _cells_for(self, span: Floats) -> Floats:
        """The size of a cell along each axis, for totals that span this much."""
        wanted = _CELLS_BETWEEN * span / np.maximum(self._most - self._least, 1.0)
        wanted = np.maximum(wanted, _LEAST_CELLS)
        shrink = min(1.0, (_CELLS / wanted.prod()) ** (1 / len(wanted)))
        size: Floats = np.maximum(span / np.maximum(wanted * shrink, 1.0), 1.0)
        return size

    def _outside(self) -> Floats:
        """How far each cell's totals lie outside the bounds at least, as a sum of log ratios."""
        axes = np.ogrid[tuple(slice(0, size) for size in self._shape)]
        outside = np.zeros(self._shape)
        for axis, index in enumerate(axes):
            middle = self._origin[axis] + index * self._cell[axis]
            slack = self._slack * self._cell[axis]
            below = np.log(self._least[axis] / np.maximum(middle + slack, 1.0))
            above = np.log(np.maximum(middle - slack, 1.0) / self._most[axis])
            outside = outside + np.maximum(0.0, np.maximum(below, above))
        return outside

    def _costs(self, place: int) -> Rows:
        """The bounded costs of every entry of a stage."""
        stage = self._table.stages[place]
        found: Rows = np.column_stack([stage.costs, stage.device[:, 1]])[:, self._axes]
        return found

    def _grouped(self, place: int) -> list[_Step]:
        stage = self._table.stages[place]
        hands = np.zeros(len(stage.costs), np.int64)
        if place + 1 < len(self._table.stages):
            hands = self._table.stages[place + 1].given
        costs = self._costs(place).reshape(-1, stage.combinations, len(self._axes))
        cells = np.rint((costs - self._lows[place]) / self._cell).astype(np.int64)
        greedy = stage.device[:, 0] > self._sram
        cells[greedy.reshape(cells.shape[:2])] = max(self._shape)  # off the grid
        return list(map(_step, hands.reshape(-1, stage.combinations), cells))

    def _count_ways(self) -> list[list[Floats]]:
        """For each stage and a given map, the ways to every total from there to the end."""
        end = np.zeros(self._shape)
        end[(0,) * len(self._shape)] = 1.0
        ways = [[end]]
        for steps in reversed(self._steps):
            ways.insert(0, [self._ways_on(step, ways[0]) for step in steps])
        return ways

    def _ways_on(self, step: _Step, following: list[Floats]) -> Floats:
        total = np.zeros(self._shape)
        for hand, cells, members in zip(step.given, step.cells, step.members, strict=True):
            if np.all(cells < self._shape):
                onto = tuple(slice(cell, None) for cell in cells)
                source = tuple(
                    slice(0, size - cell) for size, cell in zip(self._shape, cells, strict=True)
                )
                total[onto] += len(members) * following[hand][source]
        return total

    def _onward(self, place: int, given: int, left: Rows) -> Floats:
        """Ways through each group of a stage that end exactly `left` cells on."""
        step = self._steps[place][given]
        rest = left - step.cells
        ways = np.zeros(len(rest))
        for group in np.flatnonzero((rest >= 0).all(axis=1)):
            following = self._ways[place + 1][step.given[group]]
            ways[group] = len(step.members[group]) * following[tuple(rest[group])]
        return ways

    def _draw_from(self, weights: Floats, count: int, rng: np.random.Generator) -> Rows:
        chances = weights.ravel() / weights.sum()
        cells = np.unravel_index(rng.choice(len(chances), count, p=chances), self._shape)
        drawn = [self._draw_one(np.array(cell), rng) for cell in zip(*cells, strict=True)]
        return self._rows(np.array(drawn))

    def _draw_one(self, left: Rows, rng: np.random.Generator) -> list[int]:
        combinations, given = [], 0
        for place, steps in enumerate(self._steps):
            ways = self._onward(place, given, left)
            group = rng.choice(len(ways), p=ways / ways.sum())
            step = steps[given]
            combinations.append(int(rng.choice(step.members[group])))
            left, given = left - step.cells[group], int(step.given[group])
        return combinations

    def _paths(self, place: int, given: int, left: Rows) -> Iterator[list[int]]:
        if place == len(self._steps):
            yield []
            return
        step = self._steps[place][given]
        for group in np.flatnonzero(self._onward(place, given, left)):
            rest = left - step.cells[group]
            for following in self._paths(place + 1, int(step.given[group]), rest):
                for member in step.members[group]:
                    yield [int(member), *following]

    def _rows(self, combinations: Rows) -> Rows:
        """Indices of all choices, from the number of each stage's combination."""
        rows = np.empty((len(combinations), len(self._table.names)), np.int64)
        for place, stage in enumerate(self._table.stages):
            rows[:, stage.columns] = stage.choices[combinations[:, place]]
        return rows

    def _inside(self, rows: Rows) -> Rows:
        costs = np.column_stack([self._table(rows), self._table.device(rows)[:, 1]])[:, self._axes]
        return rows[((costs >= self._least) & (costs <= self._most)).all(axis=1)]


def _step(hands: Rows, cells: Rows) -> _Step:
    alike, group = np.unique(np.column_stack([hands, cells]), axis=0, return_inverse=True)
    members = [np.flatnonzero(group == index) for index in range(len(alike))]
    return _Step(alike[:, 0], alike[:, 1:], members)
