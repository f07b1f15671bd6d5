"""What trials say of accuracy, as arrays: complete ones, and pruned ones as far as they went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.candidates import Candidates, Rows

Floats = NDArray[np.float64]

#: Complete trials that must have passed an epoch before a pruned one's accuracy there says what it
#: would have become (assumed).
_PAIRS = 5


@dataclass(frozen=True, slots=True)
class Observations:
    """Rows of choices and their accuracy, N each; `doubt` is the variance of what is estimated."""

    rows: Rows
    accuracy: Floats
    doubt: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | NDArray[np.intp]) -> Observations:
        return Observations(self.rows[index], self.accuracy[index], self.doubt[index])


def observe(candidates: Candidates, trials: Sequence[FrozenTrial]) -> Observations:
    """The accuracies that `trials` hold, by number.

    Where a trial's value is its reward, its accuracy is the value over the exact factor of cost.
    """
    names = candidates.space.choices.keys()
    trials = [trial for trial in trials if trial.values and trial.params.keys() == names]
    rows = candidates.rows(trial.params for trial in trials)
    several = bool(candidates.objective.pareto)
    factors = np.ones(len(rows)) if several else candidates.factors(rows)
    accuracy = np.array([trial.values[0] for trial in trials], float) / factors
    doubt = np.zeros(len(trials))
    stopped = np.array([_stopped_at(trial) for trial in trials], np.int64)
    for epoch in set(stopped[stopped > 0].tolist()):
        at = np.flatnonzero(stopped == epoch)
        early = np.array([trial.intermediate_values.get(epoch, np.nan) for trial in trials])
        early /= factors
        known = stopped == 0
        accuracy[at], doubt[at] = _foresee(early[at], early[known], accuracy[known])
    usable = np.isfinite(accuracy)
    return Observations(rows[usable], np.clip(accuracy[usable], 0, 1), doubt[usable])


def _stopped_at(trial: FrozenTrial) -> int:
    """The epoch after which a trial was pruned; 0 for a complete one."""
    return (trial.last_step or 0) if trial.state is TrialState.PRUNED else 0


def _foresee(early: Floats, known_early: Floats, known_final: Floats) -> tuple[Floats, float]:
    """Final accuracies for `early` ones, by a line through complete trials, and its variance."""
    passed = np.isfinite(known_early)
    if passed.sum() < _PAIRS:
        return np.full(len(early), np.nan), 0.0
    centre = known_early[passed].mean()
    design = np.column_stack([np.ones(passed.sum()), known_early[passed] - centre])
    (level, slope), *_ = np.linalg.lstsq(design, known_final[passed], rcond=None)
    residual = known_final[passed] - design @ (level, slope)
    return level + slope * (early - centre), float(residual.var())
