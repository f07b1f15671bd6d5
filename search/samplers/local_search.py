"""Hill climbing: neighbours of the best so far, and a new start where none of them is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from search.candidates import Candidates, Rows
from search.samplers.base import History
from search.samplers.random_search import uniform
from space import moves

#: The system attribute that says to which climb, counted from 0, a trial belongs.
_CLIMB = "local:climb"


def local(
    candidates: Candidates, history: History, rng: np.random.Generator
) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
    """A `Method`: the neighbours of the current climb's best, then random starts of a new climb."""
    climbs = [trial.system_attrs.get(_CLIMB, -1) for trial in history.trials]
    climb = max(climbs, default=-1)
    members = [trial for trial in history.valued if trial.system_attrs.get(_CLIMB) == climb]
    if members:
        best = max(members, key=lambda trial: (trial.value or 0.0, -trial.number))
        around = moves.neighbours(candidates.row(best.params), candidates.sizes)
        for row in rng.permutation(around[candidates.within(around)]):
            yield row, {_CLIMB: climb}
    for row, _ in uniform(candidates, history, rng):
        yield row, {_CLIMB: climb + 1}
