"""Random search: candidates drawn uniformly from the space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from search.candidates import Candidates, Choices
from search.samplers.base import History

#: Draws before a candidate within the bounds is reached by changing one outside (assumed).
_DRAWS = 1_000


def uniform(
    candidates: Candidates,
    history: History,  # noqa: ARG001
    rng: np.random.Generator,
) -> Iterator[tuple[Choices, Mapping[str, Any]]]:
    """A `Method`: independent draws."""
    for _ in range(_DRAWS):
        yield candidates.sample(rng).choices, {}
