"""Studies: opening their storage, and reading what they hold.

A study is the only state of a stage, and a trial is one evaluation in it (`search.ledger`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from search.fence import Fence
from search.objective import Direction
from search.optuna_internals import id_of_study
from search.storage import is_missing, open_storage, reading, without_password
from space.validation import InvalidInput

#: The study whose trials are the starts of a run (`search.lease`).
DRIVERS = "drivers"

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def open_study(
    storage: str,
    name: str,
    pruner: BasePruner | None = None,
    directions: Sequence[Direction] = ("maximize",),
    *,
    stage: str | None = None,
    title: str | None = None,
    fence: Fence | None = None,
) -> optuna.Study:
    """The study `name` of the storage at URL `storage`, created if it does not exist.

    `directions` are those of its values. The `stage` of the run and the `title` to show become
    attributes of the study, for readers of the storage. Each stage has fixed names, since Hyperband
    draws a trial's bracket from the study's name. With a `fence`, writes raise `LeaseLost` once the
    lease has ended. Raises `InvalidInput` if the storage cannot be opened.

    Example:
        >>> from search.study import open_study
        >>> open_study("sqlite:///study.db", "search").study_name
        'search'
    """
    study = optuna.create_study(
        storage=open_storage(storage, fence),
        study_name=name,
        directions=directions,
        pruner=pruner or NopPruner(),
        load_if_exists=True,
    )
    for key, value in (("stage", stage), ("title", title)):
        if value is not None and study.user_attrs.get(key) != value:
            study.set_user_attr(key, value)
    return study


def is_unused(storage: str) -> bool:
    """Whether the storage at URL `storage` holds no trial, except in `drivers`.

    Raises `InvalidInput` if it cannot be opened.
    """
    with reading(storage) as opened:
        return opened is None or not any(
            opened.get_n_trials(id_of_study(study))
            for study in opened.get_all_studies()
            if study.study_name != DRIVERS
        )


def forget_untried(storage: str) -> None:
    """Deletes the studies without trials in the storage at URL `storage`.

    A study could not change its directions otherwise. Raises `InvalidInput` if the storage cannot
    be opened.
    """
    if is_missing(storage):
        return
    opened = open_storage(storage)
    for study in opened.get_all_studies():
        if not opened.get_n_trials(id_of_study(study)):
            opened.delete_study(id_of_study(study))


def find_study(storage: str, name: str) -> optuna.Study:
    """The study `name` of an existing storage; raises `InvalidInput` if there is none."""
    where = without_password(storage)
    if is_missing(storage):
        raise InvalidInput(f"{where}: file not found")
    try:
        return optuna.load_study(study_name=name, storage=open_storage(storage))
    except KeyError:
        raise InvalidInput(f"{where}: has no study {name!r}") from None


def finished(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The finished training runs among `trials`: COMPLETE and PRUNED, without answered ones."""
    return [
        trial
        for trial in trials
        if trial.state in FINISHED and "answered_from" not in trial.user_attrs
    ]


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, best first, and ties in the order of their numbers."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(complete, key=lambda trial: (-value_of(trial), trial.number))


def best(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the greatest value, the earliest of a tie; None if there is none."""
    return next(iter(ranked(study)), None)


def value_of(trial: FrozenTrial) -> float:
    """The value of a complete trial, or its reward if the study has several objectives."""
    return float(trial.user_attrs["reward"] if len(trial.values) > 1 else trial.values[0])
