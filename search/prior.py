"""What earlier searches measured, for the sampler that learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.trial import TrialState

from search.candidates import Candidates
from search.samplers.observations import Observations
from space.choices import Value

#: Networks of a prior, drawn from all: more would slow down every proposal (assumed).
MOST = 500


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
