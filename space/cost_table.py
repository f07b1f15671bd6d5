"""The cost of whole arrays of choices, for a search that looks at millions of candidates.

Within a space, the cost of a stage depends on its own choices and on the channels that it is given
alone. So a table per stage, with a row for each of those, turns a cost into one look-up a stage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from space.architecture import Stage
from space.choices import Space
from space.cost import Cost, head_terms, parts, stage_terms

#: Candidates looked up at once, so that what lies between stays in the processor's cache.
_CHUNK = 8_192

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _StageTable:
    """`costs` has a row for every (channels given, combination of own choices), in that order.

    A combination's number is `choices[columns] @ strides`; `given` maps that number of the stage
    before (0 for the first) to the channels that it hands over, by their number.
    """

    columns: Integers
    strides: Integers
    combinations: int
    given: Integers
    costs: Integers


@dataclass(frozen=True, slots=True)
class CostTable:
    """Exact costs of choices, which `names` order."""

    names: tuple[str, ...]
    sizes: Integers
    stages: tuple[_StageTable, ...]

    def __call__(self, choices: NDArray[np.integer]) -> Integers:
        """N × 3 macs, params and activations for N × len(names) indices into the choices' values.

        Raises ValueError where the shape is another or an index is none of its choice.
        """
        choices = np.asarray(choices)
        if choices.ndim != 2 or choices.shape[1] != len(self.names):
            raise ValueError(
                f"choices of shape (N, {len(self.names)}) are needed, but got {choices.shape}"
            )
        found = np.empty((len(choices), len(Cost._fields)), np.int64)
        for start in range(0, len(choices), _CHUNK):
            chunk = choices[start : start + _CHUNK]
            if not ((chunk >= 0) & (chunk < self.sizes)).all():
                raise ValueError("`0 <= index < number of the choice's values` must hold")
            found[start : start + _CHUNK] = self._look_up(chunk.astype(np.int64))
        return found

    def _look_up(self, choices: Integers) -> Integers:
        before = np.zeros(len(choices), np.int64)
        total = np.zeros((len(choices), len(Cost._fields)), np.int64)
        for stage in self.stages:
            combination = choices[:, stage.columns] @ stage.strides
            total += stage.costs[stage.given[before] * stage.combinations + combination]
            before = combination
        return total


def tabulate(space: Space, resolution: int | None = None) -> CostTable:
    """The table of a space's costs at `resolution` pixels (its base's own where None is given)."""
    stem, *outputs, _ = parts(space.base, resolution)
    names = tuple(space.choices)
    tables: list[_StageTable] = []
    side, handed = stem.resolution, np.array([stem.channels])
    for index, output in enumerate(outputs):
        own = [name for name in names if name.startswith(f"stage{index + 1}.")]
        stages = _stages(space, index, own)
        widths, given = np.unique(handed, return_inverse=True)
        sides = (side, output.resolution)
        costs = [
            stage_terms(stage, width).at(*sides) for width in widths.tolist() for stage in stages
        ]
        sizes = [len(space.choices[name]) for name in own]
        tables.append(
            _StageTable(
                columns=np.array([names.index(name) for name in own], np.int64),
                strides=np.array([prod(sizes[place + 1 :]) for place in range(len(own))], np.int64),
                combinations=len(stages),
                given=given,
                costs=np.array(costs, np.int64),
            )
        )
        side, handed = output.resolution, np.array([stage.channels for stage in stages])
    heads = [head_terms(replace(space.base, stages=(stage,))).at(side, 1) for stage in stages]
    tables[0].costs[:] += stem.cost
    tables[-1].costs[:] += np.tile(heads, (len(tables[-1].costs) // len(heads), 1))
    return CostTable(
        names, np.array([len(values) for values in space.choices.values()]), tuple(tables)
    )


def _stages(space: Space, index: int, own: list[str]) -> list[Stage]:
    """The stage for every combination of its own choices, the last choice varying fastest."""
    anything = {name: values[0] for name, values in space.choices.items()}
    return [
        space.decode(anything | dict(zip(own, values, strict=True))).stages[index]
        for values in product(*(space.choices[name] for name in own))
    ]
