"""Early stopping of unpromising training runs, by Optuna's pruners or Ray Tune's scheduler.

Steps are epochs, counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)

from search.optuna_internals import id_of_trial
from search.snapshot import Snapshot
from space.evaluation import Job

PrunerName = Literal["none", "median", "hyperband", "asha"]


def create(
    kind: PrunerName,
    *,
    epochs: int,
    warmup_epochs: int = 1,
    startup_trials: int = 5,
    reduction: int = 3,
) -> BasePruner:
    """The pruner of training runs of `epochs` epochs; it never stops one by `warmup_epochs`.

    `median` stops trials below the median of earlier ones at the same epoch, once `startup_trials`
    are complete. `hyperband` divides the trials into brackets of successive halving by the factor
    `reduction` (Li et al. 2018). `asha` is one asynchronous bracket (Li et al. 2020).
    """
    first = min(warmup_epochs + 1, epochs)
    match kind:
        case "none":
            return NopPruner()
        case "median":
            return MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup_epochs + 1)
        case "hyperband":
            return HyperbandPruner(first, max_resource=epochs, reduction_factor=reduction)
        case "asha":
            return SuccessiveHalvingPruner(min_resource=first, reduction_factor=reduction)


def judge(
    study: optuna.Study, trial_id: int, values: dict[int, float]
) -> tuple[bool, dict[str, Any]]:
    """Whether `study.pruner` stops a trial, and the system attributes that the pruner sets.

    `values`, epoch → value, are those of this attempt: a trial that was killed and runs again may
    hold later epochs of its first attempt. A recorded decision to stop stands. The pruner sees a
    snapshot, so that its notes can be written after the decision.
    """
    if isinstance(study.pruner, NopPruner):
        return False, {}
    trials = study.get_trials(deepcopy=False)
    index = next(index for index, trial in enumerate(trials) if id_of_trial(trial) == trial_id)
    trials[index] = own = copy(trials[index])
    own.intermediate_values = values
    snapshot = Snapshot(trials, study.directions)
    stop = study.pruner.prune(snapshot.study(study.study_name), own)
    return stop or own.user_attrs.get("pruned_at") == max(values), snapshot.notes


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving (Li et al. 2020) by Ray Tune's scheduler, for its executor.

    At the epochs `first`, `first` · `reduction` …, it stops a job whose `value` is not among the
    best 1/`reduction` so far. `earlier` are the values of trials before this start, epoch → value.
    The last of `epochs` epochs is never judged.
    """

    epochs: int
    first: int
    reduction: int
    value: Callable[[float, Job], float]
    earlier: Sequence[Mapping[int, float]] = ()
