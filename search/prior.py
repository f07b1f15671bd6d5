"""What earlier searches measured, for the sampler that can learn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return from_choices(
        [(t.params, t.user_attrs.get("measurement", {}).get("accuracy")) for t in trials],
        candidates,
    )


def from_choices(
    measured: Sequence[tuple[Mapping[str, Any], float | None]], candidates: Candidates
) -> Observations:
    """Accuracies (fractions) of choices, where `candidates` offer the same."""
    offers: Mapping[str, Sequence[Value]] = candidates.space.choices
    known = [
        (choices, accuracy)
        for choices, accuracy in measured
        if accuracy is not None
        and choices.keys() == offers.keys()
        and all(value in offers[name] for name, value in choices.items())
    ]
    rows = candidates.rows(choices for choices, _ in known)
    return Observations(rows, np.array([a for _, a in known], float), np.zeros(len(known)))


def combined(sources: Sequence[Observations]) -> Observations | None:
    """All sources as one, at most `MOST` networks of them; None where they hold nothing.

    Data sets differ in difficulty, so the accuracies of each source are moved and stretched, as
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
