"""All private modules of Optuna that are imported, and what each import is worth.

Private names may change in any release, so pyproject.toml admits only the minor version with which
the tests pass. Times are processor time with Optuna 5.0, SQLite and the 28 choices of the space
`accel_nasbench`, on one busy core.

- `storage_of`, `id_of_study`, `id_of_trial`: Optuna's public `Trial` writes parameters and
  attributes one by one, each in a transaction, so that a kill leaves half a trial. The storage's
  own methods are public, but not the way to them.
- `CachedStorage`, `StudyInfo`, `models`, `scoped_session`: `search.database` overrides methods of
  the first. A trial is created in 5 ms instead of 43, and while 128 trials run, all are read in
  1 ms instead of 153. `search.fence` reads a table.
- `split_trials`, `MixtureOfProducts`, `BatchedCategoricals`, `default_gamma` and the other:
  `search.samplers.from_optuna` overrides methods of TPE. After 1,000 trials it proposes in 13 ms
  instead of 144.
- `JournalFileLock`, `SET_STATE`: `search.journal`. A journal whose driver was killed is free at
  once
  instead of after 30 seconds, and takes nothing from a driver that has lost its lease.
- `compute_hypervolume`: exact for any number of objectives; publicly Optuna only draws it.
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
from optuna.storages.journal._file import BaseJournalFileLock as JournalFileLock
from optuna.storages.journal._storage import JournalOperation
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

__all__ = [
    "SET_STATE",
    "BatchedCategoricals",
    "CachedStorage",
    "JournalFileLock",
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

#: The journal's operation that gives a trial another state.
SET_STATE = int(JournalOperation.SET_TRIAL_STATE_VALUES)


def storage_of(study: optuna.Study) -> BaseStorage:
    """Where a study is kept."""
    return study._storage


def id_of_study(study: optuna.Study | FrozenStudy) -> int:
    """By what its storage knows a study."""
    return study._study_id


def id_of_trial(trial: FrozenTrial) -> int:
    """By what its storage knows a trial."""
    return trial._trial_id
