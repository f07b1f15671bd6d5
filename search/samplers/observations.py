"""The accuracies in trials as arrays: of this search, and of earlier ones to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.candidates import Candidates, Floats, Rows
from space.choices import Value

#: Complete trials from which the final accuracy of a pruned one may be extrapolated (assumed).
_PAIRS = 5

#: Networks of a prior, drawn from all: more would slow down every proposal (assumed).
MOST = 500


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


def from_study(study: optuna.Study, candidates: Candidates) -> Observations:
    """The complete trials of an earlier search whose choices `candidates` offer too.

    The search may have had another objective, other data and another resolution.
    """
    offers: Mapping[str, Sequence[Value]] = candidates.space.choices
    known = [
        (trial.params, accuracy)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if (accuracy := trial.user_attrs.get("measurement", {}).get("accuracy")) is not None
        and trial.params.keys() == offers.keys()
        and all(value in offers[name] for name, value in trial.params.items())
    ]
    rows = candidates.rows(choices for choices, _ in known)
    return Observations(rows, np.array([a for _, a in known], float), np.zeros(len(known)))


def combined(sources: Sequence[Observations]) -> Observations | None:
    """At most `MOST` networks of all sources; None if no source has two.

    Data sets differ in difficulty, so the accuracies of each source are shifted and scaled, as
    −log(error), to the mean and deviation of the first.
    """
    sources = [source for source in sources if len(source) > 1]
    if not sources:
        return None
    targets = [-np.log(np.clip(1 - source.accuracy, 1e-6, 1)) for source in sources]
    mean, deviation = targets[0].mean(), targets[0].std()
    moved = [
        mean + deviation * (target - target.mean()) / max(float(target.std()), 1e-9)
        for target in targets
    ]
    whole = Observations(
        np.vstack([source.rows for source in sources]),
        1 - np.exp(-np.concatenate(moved)),
        np.zeros(sum(map(len, sources))),
    )
    return whole[np.sort(np.random.default_rng(0).permutation(len(whole))[:MOST])]


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
