"""The cost of whole arrays of choices, for a search that looks at millions of candidates.

Within a space, the cost of a stage depends on its own choices and on the channels that it is given
alone. So a table per stage, with a row for each of those, turns a cost into one look-up a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from space.architecture import Architecture
from space.choices import Space
from space.cost import Cost, head_terms, parts, stage_terms
from space.device import Precision, head_footprint, joined, stage_footprint, stem_footprint

#: Candidates looked up at once, so that what lies between stays in the processor's cache.
_CHUNK = 8_192

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _StageTable:
    """`costs` has a row for every (channels given, combination of own choices), in that order.

    A combination's number is `choices[columns] @ strides`; `given` maps that number of the stage
    before (0 for the first) to the channels that it hands over, by their number. `device` are the
    bytes of SRAM and flash, 0 where they were not asked for.
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
            found.append(stage.given[before] * stage.combinations + combination)
            before = combination
        return found


class SumTable:
    """The values of `of` for whole arrays of choices, where a value is a sum over stages.

    As in a cost, a stage's part may depend on its own choices and on the channels that it is given.
    So a table per stage holds what a network gains where that stage differs and all others are the
    first that the space offers; `of` is called once for each entry.
    """

    def __init__(self, space: Space, table: CostTable, of: Callable[[Architecture], float]) -> None:
        self._space, self._table, self._of = space, table, of
        first = np.zeros(len(table.names), np.int64)
        self._first = self._ask(first)
        self._gains: list[Floats] = []
        before = np.zeros((1, len(first)), np.int64)
        for stage in table.stages:
            _, places = np.unique(stage.given, return_index=True)
            gains = []
            for row in before[places]:
                own = np.tile(row, (stage.combinations, 1))
                own[:, stage.columns] = stage.choices
                # Other channels also change the stage behind: its own `without` takes that off.
                without = self._ask(row)
                gains += [self._ask(each) - without for each in own]
            self._gains.append(np.array(gains))
            before = np.tile(first, (stage.combinations, 1))
            before[:, stage.columns] = stage.choices

    def __call__(self, choices: Integers) -> Floats:
        """The sums of N × len(names) indices into the choices' values, N."""
        total = np.full(len(choices), self._first)
        for gains, entry in zip(self._gains, self._table.entries(choices), strict=True):
            total += gains[entry]
        return total

    def _ask(self, row: Integers) -> float:
        offers = zip(self._space.choices.items(), row.tolist(), strict=True)
        return self._of(self._space.decode({name: values[i] for (name, values), i in offers}))


def tabulate(
    space: Space, resolution: int | None = None, precision: Precision | None = None
) -> CostTable:
    """The table of a space's costs at `resolution` pixels (its base's own where None is given).

    With the `precision` of a device it knows SRAM and flash, too.
    """
    stem, *outputs, _ = parts(space.base, resolution)
    names = tuple(space.choices)
    tables: list[_StageTable] = []
    side, handed = stem.resolution, np.array([stem.channels])
    for number, output in enumerate(outputs, start=1):
        own = space.by_stage[number - 1].values()
        stages = [stage for _, stage in space.combinations(number)]
        widths, given = np.unique(handed, return_inverse=True)
        costs = [
            stage_terms(stage, width).at(side, output.resolution)
            for width in widths.tolist()
            for stage in stages
        ]
        sizes = [len(space.choices[name]) for name in own]
        tables.append(
            _StageTable(
                columns=np.array([names.index(name) for name in own], np.int64),
                strides=np.array([prod(sizes[place + 1 :]) for place in range(len(own))], np.int64),
                sizes=np.array(sizes, np.int64),
                combinations=len(stages),
                given=given,
                costs=np.array(costs, np.int64),
                device=np.zeros((len(costs), 2), np.int64),
            )
        )
        side, handed = output.resolution, np.array([stage.channels for stage in stages])
    heads = [head_terms(replace(space.base, stages=(stage,))).at(side, 1) for stage in stages]
    tables[0].costs[:] += stem.cost
    tables[-1].costs[:] += np.tile(heads, (len(tables[-1].costs) // len(heads), 1))
    table = CostTable(
        names, np.array([len(values) for values in space.choices.values()]), tuple(tables)
    )
    return _with_device(table, space, resolution, precision) if precision else table


def _with_device(
    table: CostTable, space: Space, resolution: int | None, precision: Precision
) -> CostTable:
    base, stem = space.base, stem_footprint(space.base, resolution)
    before, *outputs, _ = parts(base, resolution)
    side, handed, tables = before.resolution, [before.channels], []
    for number, (output, old) in enumerate(zip(outputs, table.stages, strict=True), start=1):
        sides = side, output.resolution
        offered = [stage for _, stage in space.combinations(number)]
        found = [
            joined(
                [stem] * (number == 1)
                + [stage_footprint(stage, width, base.numerics.activation, *sides)]
                + [head_footprint(replace(base, stages=(stage,)), output.resolution)]
                * (number == len(outputs))
            ).at(precision)
            for width in sorted(set(handed))
            for stage in offered
        ]
        tables.append(replace(old, device=np.array([(each.sram, each.flash) for each in found])))
        side, handed = output.resolution, [stage.channels for stage in offered]
    return replace(table, stages=tuple(tables))
