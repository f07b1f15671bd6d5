"""The accuracies in trials as arrays; those of pruned trials are extrapolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.candidates import Candidates, Floats, Rows

#: Complete trials from which the final accuracy of a pruned one may be extrapolated (assumed).
_PAIRS = 5


@dataclass(frozen=True, slots=True)
class Observations:
    """Rows of choices and their accuracy, N each; `doubt` is the variance of extrapolations."""

    rows: Rows
    accuracy: Floats
    doubt: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | NDArray[np.intp]) -> Observations:
        return Observations(self.rows[index], self.accuracy[index], self.doubt[index])


def observe(candidates: Candidates, trials: Sequence[FrozenTrial]) -> Observations:
    """The accuracies in `trials`, by number; a reward is divided by its exact factor of cost."""
    names = candidates.space.choices.keys()
    trials = [trial for trial in trials if trial.values and trial.params.keys() == names]
    rows = candidates.rows(trial.params for trial in trials)
    several = bool(candidates.objective.pareto)
    factors = np.ones(len(rows)) if several else candidates.factors(rows)
    accuracy = np.array([trial.values[0] for trial in trials], float) / factors
    doubt = np.zeros(len(trials))
    # The epoch after which a trial was pruned; 0 for a complete one.
    stopped = np.array(
        [(t.last_step or 0) if t.state is TrialState.PRUNED else 0 for t in trials], np.int64
    )
    complete = stopped == 0
    for epoch in set(stopped[~complete].tolist()):
        at = np.flatnonzero(stopped == epoch)
        early = np.array([trial.intermediate_values.get(epoch, np.nan) for trial in trials])
        early /= factors
        accuracy[at], doubt[at] = _extrapolated(early[at], early[complete], accuracy[complete])
    usable = np.isfinite(accuracy)
    return Observations(rows[usable], np.clip(accuracy[usable], 0, 1), doubt[usable])


def _extrapolated(early: Floats, known_early: Floats, known_final: Floats) -> tuple[Floats, float]:
    """Final accuracies for `early` ones, by a line through complete trials; residual variance."""
    passed = np.isfinite(known_early)
    if passed.sum() < _PAIRS:
        return np.full(len(early), np.nan), 0.0
    centre = known_early[passed].mean()
    design = np.column_stack([np.ones(passed.sum()), known_early[passed] - centre])
    (level, slope), *_ = np.linalg.lstsq(design, known_final[passed], rcond=None)
    residual = known_final[passed] - design @ (level, slope)
    return level + slope * (early - centre), float(residual.var())
