"""Which trials of a search to continue with, if each network was measured once and with noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from optuna.trial import FrozenTrial

from search.accuracy_model import AccuracyModel, Features
from search.candidates import Candidates
from search.samplers.observations import observe

#: Trials from which the noise can be estimated (assumed).
_LEAST = 8

#: From this standard deviation of the reward on, noise is large (measured: with less, the model's
#: own error matters more, and the best measurement was as good or better).
_LARGE = 0.005

#: Noise variances at which the fits start, where the signal's is about 25: nearly none, and of its
#: size. A single start often ends in a fit that takes noise for signal (measured).
_NOISES = (0.1, 10.0)


class Selection(NamedTuple):
    """The selected `trial`, and the one that measured best.

    `noise` is the fitted standard deviation of one measurement of the reward; 0 with fewer than
    eight trials, which are too few to fit it.
    """

    trial: FrozenTrial
    measured_best: FrozenTrial
    noise: float


def select(trials: Sequence[FrozenTrial], candidates: Candidates) -> Selection:
    """The best of the complete `trials` of one objective, best measured first.

    That is the trial that measured best, unless the noise is large and its lead over the trial with
    the greatest expected reward is less than one standard deviation of the difference of two
    measurements: then the latter. The greatest of many noisy measurements is mostly noise in its
    favour; the expectation is the posterior mean of the `predictor` sampler's model.
    """
    measured_best = trials[0]
    seen = observe(candidates, trials)
    if len(seen) < max(len(trials), _LEAST):
        return Selection(measured_best, measured_best, 0.0)
    design = Features(candidates.table)(seen.rows)
    model = AccuracyModel(design, seen.accuracy, doubt=seen.doubt, noises=_NOISES)
    factors = candidates.factors(seen.rows)
    expected = model.expect(design)
    best = int(np.argmax(expected * factors))
    noise = float((model.noise(expected) * factors)[best])
    measured = seen.accuracy * factors
    lead = measured[0] - measured[best]
    chosen = best if noise >= _LARGE and lead < np.sqrt(2) * noise else 0
    return Selection(trials[chosen], measured_best, noise)


def finalists(
    complete: Sequence[FrozenTrial], count: int, candidates: Candidates
) -> list[FrozenTrial]:
    """The best `count` trials; of two or more, one is the best that needed no search, if there is.

    It is what the others must beat in a longer training run.
    """
    best = list(complete[:count])
    keys = {candidates.at_row(row).key for row in candidates.unsearched}
    known = [trial for trial in complete if trial.user_attrs["key"] in keys]
    if count > 1 and known and known[0] not in best:
        best[-1] = known[0]
    return best
