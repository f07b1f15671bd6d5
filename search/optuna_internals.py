"""All private modules of Optuna that are imported, and what each import gains.

Private names may change in any release, so pyproject.toml admits only the minor version with which
the tests pass. Times are processor time with Optuna 5.0, SQLite and the 28 choices of the space
`accel_nasbench`, on one busy core.

- `storage_of`, `id_of_study`, `id_of_trial`: Optuna's public `Trial` writes parameters and
  attributes in a transaction each, so that a kill leaves half a trial. The storage's methods are
  public, but not the way to them.
- `CachedStorage`, `StudyInfo`, `models`, `scoped_session`: `search.database` creates a trial in
  5 ms instead of 43, and while 128 trials run, reads them all in 1 ms instead of 153.
  `search.fence` reads a table.
- `split_trials`, `MixtureOfProducts`, `BatchedCategoricals`, `default_gamma` and the other:
  `search.samplers.from_optuna` proposes by TPE in 13 ms instead of 144 after 1,000 trials.
- `SET_STATE`: `search.journal` finds the end of a lease in the journal.
- `compute_hypervolume`: exact for any number of objectives; publicly Optuna only plots it.
"""

from __future__ import annotations

import optuna
from optuna._hypervolume import compute_hypervolume
from optuna.samplers._tpe.probability_distributions import (
    _BatchedCategoricalDistributions as BatchedCategoricals,
)
from optuna.samplers._tpe.probability_distributions import (
    _MixtureOfProductDistribution as MixtureOfProducts,
)
from optuna.samplers._tpe.sampler import _split_trials as split_trials
from optuna.samplers._tpe.sampler import default_gamma, default_gamma_multiobjective
from optuna.storages import BaseStorage
from optuna.storages._cached_storage import _CachedStorage as CachedStorage
from optuna.storages._cached_storage import _StudyInfo as StudyInfo
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session as scoped_session
from optuna.storages.journal._storage import JournalOperation
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

__all__ = [
    "SET_STATE",
    "BatchedCategoricals",
    "CachedStorage",
    "MixtureOfProducts",
    "StudyInfo",
    "compute_hypervolume",
    "default_gamma",
    "default_gamma_multiobjective",
    "id_of_study",
    "id_of_trial",
    "models",
    "scoped_session",
    "split_trials",
    "storage_of",
]

#: The journal's operation that sets a trial's state.
SET_STATE = int(JournalOperation.SET_TRIAL_STATE_VALUES)


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage of a study."""
    return study._storage


def id_of_study(study: optuna.Study | FrozenStudy) -> int:
    """The id of a study in its storage."""
    return study._study_id


def id_of_trial(trial: FrozenTrial) -> int:
    """The id of a trial in its storage."""
    return trial._trial_id
