"""A study in memory with given trials, for Optuna's own samplers and pruners.

They write notes to the storage as they work. Here the notes are collected, so that the caller can
write them together with its decision.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class Snapshot(InMemoryStorage):
    """A storage of one study with `trials`; `notes` are the attributes set on the open trial."""

    def __init__(self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> None:
        super().__init__()
        self._given = trials
        self._directions = list(directions)
        self._study_notes: dict[str, Any] = {}
        self.notes: dict[str, Any] = {}

    def study(self, name: str, sampler: BaseSampler | None = None) -> optuna.Study:
        """The one study; `name` matters to Hyperband."""
        return optuna.Study(name, self, sampler=sampler)

    def get_study_id_from_name(self, study_name: str) -> int:  # noqa: ARG002
        """The one study has id 0."""
        return 0

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:  # noqa: ARG002
        """The directions given."""
        return self._directions

    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002
        deepcopy: bool = True,  # noqa: ARG002
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """The trials given, never copied."""
        return [trial for trial in self._given if states is None or trial.state in states]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:  # noqa: ARG002
        """Notes on the study, which last as long as the snapshot."""
        return self._study_notes

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:  # noqa: ARG002
        """Keeps a note on the study."""
        self._study_notes[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:  # noqa: ARG002
        """Collects a note on the open trial."""
        self.notes[key] = value
