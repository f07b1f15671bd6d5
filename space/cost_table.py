"""The cost of whole arrays of choices, for a search that looks at millions of candidates.

Within a space, the cost of a stage depends on its own choices and on the map that it is given (its
resolution and channels) alone. So a table per stage, with a row for each of those, turns a cost
into one look-up a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from space.architecture import Architecture, Stage
from space.choices import RESOLUTION, Space
from space.cost import Cost, PartCost, head_terms, parts, stage_terms
from space.device import (
    Footprint,
    Precision,
    head_footprint,
    joined,
    stage_footprint,
    stem_footprint,
)

#: Candidates looked up at once, so that what lies between stays in the processor's cache.
_CHUNK = 8_192

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _StageTable:
    """`costs` has a row for every (map given, combination of own choices), in that order.

    A combination's number is `choices[columns] @ strides`; `given` maps each row of the stage
    before (the first has one) to the map that it hands over, by its number. `device` are the bytes
    of SRAM and flash, 0 where they were not asked for. Where the space offers resolutions, the
    first table is the stem's, whose choice is the resolution.
    """

    columns: Integers
    strides: Integers
    sizes: Integers
    combinations: int
    given: Integers
    costs: Integers
    device: Integers

    @property
    def choices(self) -> Integers:
        """The stage's own choices of every combination, combinations × columns."""
        numbers = np.arange(self.combinations)[:, None]
        return numbers // self.strides % self.sizes


@dataclass(frozen=True, slots=True)
class CostTable:
    """Exact costs of choices, which `names` order."""

    names: tuple[str, ...]
    sizes: Integers
    stages: tuple[_StageTable, ...]

    def __call__(self, choices: NDArray[np.integer]) -> Integers:
        """N × 3 macs, params and activations for N × len(names) indices into the choices' values.

        Raises ValueError for another shape, or an index out of range.
        """
        choices = np.asarray(choices)
        if choices.ndim != 2 or choices.shape[1] != len(self.names):
            raise ValueError(
                f"choices of shape (N, {len(self.names)}) are needed, but got {choices.shape}"
            )
        found = np.zeros((len(choices), len(Cost._fields)), np.int64)
        for start in range(0, len(choices), _CHUNK):
            chunk = choices[start : start + _CHUNK]
            if not ((chunk >= 0) & (chunk < self.sizes)).all():
                raise ValueError("`0 <= index < number of the choice's values` must hold")
            entries = self.entries(chunk.astype(np.int64))
            for stage, entry in zip(self.stages, entries, strict=True):
                found[start : start + _CHUNK] += stage.costs[entry]
        return found

    def device(self, choices: Integers) -> Integers:
        """N × 2 bytes of SRAM (the most of any stage) and flash for N × len(names) indices."""
        pairs = zip(self.stages, self.entries(choices), strict=True)
        sram, flash = np.stack([stage.device[entry] for stage, entry in pairs]).T
        return np.stack([sram.max(axis=1), flash.sum(axis=1)], axis=1)

    def entries(self, choices: Integers) -> list[Integers]:
        """For each stage, the rows of its `costs` that N combinations of choices have, N."""
        before, found = np.zeros(len(choices), np.int64), []
        for stage in self.stages:
            combination = choices[:, stage.columns] @ stage.strides
            before = stage.given[before] * stage.combinations + combination
            found.append(before)
        return found


class SumTable:
    """The values of `of` for whole arrays of choices, where a value is a sum over stages.

    As in a cost, a stage's part may depend on its own choices and on the map that it is given. So a
    table per stage holds what a network gains where that stage differs and all others are the first
    that the space offers; `of` is called once for each entry.
    """

    def __init__(self, space: Space, table: CostTable, of: Callable[[Architecture], float]) -> None:
        self._space, self._table, self._of = space, table, of
        first = np.zeros(len(table.names), np.int64)
        self._first = self._ask(first)
        self._gains: list[Floats] = []
        shared = [name == RESOLUTION for name in table.names]
        before = first[None]
        for stage in table.stages:
            _, places = np.unique(stage.given, return_index=True)
            gains, handed = [], []
            for row in before[places]:
                own = np.tile(row, (stage.combinations, 1))
                own[:, stage.columns] = stage.choices
                # Other channels also change the stage behind: its own `without` takes that off.
                without = self._ask(row)
                gains += [self._ask(each) - without for each in own]
                alone = np.tile(np.where(shared, row, first), (stage.combinations, 1))
                alone[:, stage.columns] = stage.choices
                handed.append(alone)
            self._gains.append(np.array(gains))
            before = np.concatenate(handed)

    def __call__(self, choices: Integers) -> Floats:
        """The sums of N × len(names) indices into the choices' values, N."""
        total = np.full(len(choices), self._first)
        for gains, entry in zip(self._gains, self._table.entries(choices), strict=True):
            total += gains[entry]
        return total

    def _ask(self, row: Integers) -> float:
        offers = zip(self._space.choices.items(), row.tolist(), strict=True)
        return self._of(self._space.decode({name: values[i] for (name, values), i in offers}))


def tabulate(space: Space, *, precision: Precision | None = None) -> CostTable:
    """The table of a space's costs; with the `precision` of a device it knows SRAM and flash, too.

    The stem's cost is in the first table, the head's in the last.
    """
    base, names = space.base, tuple(space.choices)
    maps = [parts(base, resolution) for resolution in space.resolutions]
    # What each row of a table hands over: the place of its resolution, and channels.
    handed = [(place, stem.channels) for place, (stem, *_) in enumerate(maps)]
    tables: list[_StageTable] = []
    stems = np.array([stem.cost for stem, *_ in maps], np.int64)
    if RESOLUTION in names:
        tables.append(_table(space, [RESOLUTION], np.zeros(1, np.int64), stems))
    for number, own in enumerate(space.by_stage, start=1):
        stages = [stage for _, stage in space.combinations(number)]
        known = sorted(set(handed))
        given = np.array([known.index(each) for each in handed], np.int64)
        sides = [(each[number - 1].resolution, each[number].resolution) for each in maps]
        found = [
            stage_terms(stage, width).at(*sides[place])
            for place, width in known
            for stage in stages
        ]
        costs = np.array(found, np.int64)
        if not tables:
            costs += stems
        if number == len(base.stages):
            ends = [head_terms(replace(base, stages=(stage,))) for stage in stages]
            found = [end.at(sides[place][1], 1) for place, _ in known for end in ends]
            costs += np.array(found, np.int64)
        table = _table(space, list(own.values()), given, costs)
        if precision:
            device = [
                _device(space, number, stage, width, place, maps[place]).at(precision)[:2]
                for place, width in known
                for stage in stages
            ]
            table = replace(table, device=np.array(device, np.int64))
        tables.append(table)
        handed = [(place, stage.channels) for place, _ in known for stage in stages]
    return CostTable(
        names, np.array([len(values) for values in space.choices.values()]), tuple(tables)
    )


def _table(space: Space, own: list[str], given: Integers, costs: Integers) -> _StageTable:
    """The table of a stage with choices `own`."""
    names, sizes = list(space.choices), [len(space.choices[name]) for name in own]
    return _StageTable(
        columns=np.array([names.index(name) for name in own], np.int64),
        strides=np.array([prod(sizes[place + 1 :]) for place in range(len(own))], np.int64),
        sizes=np.array(sizes, np.int64),
        combinations=prod(sizes),
        given=given,
        costs=costs,
        device=np.zeros((len(costs), 2), np.int64),
    )


def _device(
    space: Space, number: int, stage: Stage, width: int, place: int, maps: Sequence[PartCost]
) -> Footprint:
    """What stage `number` takes on a device, given `width` channels.

    The stem belongs to the first stage, the head to the last. `maps` are what stem and stages put
    out, at the resolution of this `place`.
    """
    base, before, output = space.base, maps[number - 1], maps[number]
    activation, sides = base.numerics.activation, (before.resolution, output.resolution)
    found = [stage_footprint(stage, width, activation, *sides)]
    if number == 1:
        found.insert(0, stem_footprint(base, space.resolutions[place]))
    if number == len(base.stages):
        found.append(head_footprint(replace(base, stages=(stage,)), output.resolution))
    return joined(found)
