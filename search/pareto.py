"""The Pareto front of a search of several objectives, and its hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from search.candidates import Candidates
from search.optuna_internals import compute_hypervolume


@dataclass(frozen=True)
class Front:
    """The trials that no other one dominates, by rising first cost.

    `hypervolume` is the fraction that they dominate of the box between accuracy 0 and 1 and between
    no cost and `most`: more is better.
    """

    trials: tuple[FrozenTrial, ...]
    most: dict[str, float]
    hypervolume: float

    def to_dict(self) -> dict[str, Any]:
        """The content of pareto.json."""
        return {
            "objectives": ["accuracy", *self.most],
            "most": self.most,
            "hypervolume": self.hypervolume,
            "front": [
                {
                    "trial": trial.number,
                    "accuracy": trial.values[0],
                    **trial.user_attrs["cost"],
                    **dict(zip(self.most, trial.values[1:], strict=True)),
                    "reward": trial.user_attrs["reward"],
                    "key": trial.user_attrs["key"],
                }
                for trial in self.trials
            ],
        }


def front(study: optuna.Study, candidates: Candidates) -> Front:
    """The front of a study of `candidates`' objectives, with at least one complete trial."""
    most: dict[str, float] = {name: candidates.most(name) for name in candidates.objective.pareto}
    trials = sorted(study.best_trials, key=lambda trial: (trial.values[1:], trial.number))
    values = np.array([trial.values for trial in trials])
    return Front(tuple(trials), most, hypervolume(values, list(most.values())))


def hypervolume(values: NDArray[np.float64], most: Sequence[float]) -> float:
    """`Front.hypervolume` of N × (accuracy and costs); `most` of each cost."""
    losses = np.column_stack([1 - values[:, 0], values[:, 1:] / most])
    return float(compute_hypervolume(losses, np.ones(1 + len(most))))
