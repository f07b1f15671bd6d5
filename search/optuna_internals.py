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
- `split_trials`, `MixtureOfProducts`, `default_gamma`, `default_gamma_multiobjective`:
  `search.samplers.from_optuna` proposes by TPE in 13 ms instead of 144 after 1,000 trials.
- `SET_STATE`: `search.journal` finds the end of a lease in the journal.
- `compute_hypervolume`: exact for any number of objectives; publicly Optuna only plots it.
"""

from __future__ import annotations

import optuna
from optuna._hypervolume import compute_hypervolume as compute_hypervolume
from optuna.samplers._tpe import probability_distributions, sampler
from optuna.storages import BaseStorage, _cached_storage
from optuna.storages._rdb import models as models
from optuna.storages._rdb import storage as rdb
from optuna.storages.journal._storage import JournalOperation
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

CachedStorage = _cached_storage._CachedStorage
StudyInfo = _cached_storage._StudyInfo
scoped_session = rdb._create_scoped_session

MixtureOfProducts = probability_distributions._MixtureOfProductDistribution
split_trials = sampler._split_trials
default_gamma = sampler.default_gamma
default_gamma_multiobjective = sampler.default_gamma_multiobjective

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
