"""Random search: candidates drawn uniformly from those within the bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from search.candidates import Candidates, Rows
from search.samplers.base import History

#: Draws for one trial, most of which are for where few networks are left (assumed).
_DRAWS = 100


def uniform(
    candidates: Candidates,
    history: History,  # noqa: ARG001
    rng: np.random.Generator,
) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
    """A `Method`: independent draws."""
    for _ in range(_DRAWS):
        for row in candidates.sample(1, rng):
            yield row, {}
