"""The Pareto front of a search of several objectives, and its hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from search.candidates import Candidates
from search.optuna_internals import compute_hypervolume


def front(study: optuna.Study, candidates: Candidates) -> dict[str, Any]:
    """The content of pareto.json, from a study of `candidates`' objectives with complete trials.

    The front, by rising first cost, are the trials that no other one dominates. `hypervolume` is
    the fraction that they dominate of the box between accuracy 0 and 1 and between no cost and
    `most`: more is better.
    """
    most = {name: candidates.most(name) for name in candidates.objective.pareto}
    trials = sorted(study.best_trials, key=lambda trial: (trial.values[1:], trial.number))
    values = np.array([trial.values for trial in trials])
    return {
        "objectives": ["accuracy", *most],
        "most": most,
        "hypervolume": hypervolume(values, list(most.values())),
        "front": [
            {
                "trial": trial.number,
                "accuracy": trial.values[0],
                **trial.user_attrs["cost"],
                **dict(zip(most, trial.values[1:], strict=True)),
                "reward": trial.user_attrs["reward"],
                "key": trial.user_attrs["key"],
            }
            for trial in trials
        ],
    }


def hypervolume(values: NDArray[np.float64], most: Sequence[float]) -> float:
    """The hypervolume of N × (accuracy and costs), as in `front`; `most` of each cost."""
    losses = np.column_stack([1 - values[:, 0], values[:, 1:] / most])
    return float(compute_hypervolume(losses, np.ones(1 + len(most))))
