"""What all samplers share: whole candidates within the bounds, none of them twice.

A `Method` is a way to search: from what is recorded it makes some proposals, best first. The
`Sampler` around it takes the first that may be trained, or changes the last until it may. The
result follows from the seed, the trial's number and the recorded trials alone, so that a killed
search continues as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.candidates import Candidate, Candidates, Rows
from search.optuna_internals import id_of_trial, storage_of
from search.study import FINISHED
from space import moves


@dataclass(frozen=True, slots=True)
class History:
    """What a method may know: the trials recorded before trial `number`, and the seed."""

    trials: Sequence[FrozenTrial]
    number: int
    seed: int

    @property
    def valued(self) -> list[FrozenTrial]:
        """Complete and pruned trials, by number; a pruned one has its last epoch's value."""
        return [trial for trial in self.trials if trial.state in FINISHED and trial.values]

    def rows(self, candidates: Candidates, state: TrialState) -> Rows:
        """The choices of the trials in `state`, N × choices."""
        names = candidates.space.choices.keys()
        own = (trial.params for trial in self.trials if trial.state is state)
        return candidates.rows(params for params in own if params.keys() == names)


#: Rows of choices, best first, each with notes for its trial's system attributes.
Proposals = Iterator[tuple[Rows, Mapping[str, Any]]]

#: A way to search: makes proposals for the trial that follows the history.
Method = Callable[[Candidates, History, np.random.Generator], Proposals]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The candidate to train next, and how many proposals the bounds rejected before it."""

    candidate: Candidate
    rejected: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)


class Sampler(BaseSampler):
    """An Optuna sampler that proposes whole candidates by a method.

    `propose` needs no trial in the storage; as an Optuna sampler it works in `study.ask` too.
    """

    def __init__(self, method: Method, candidates: Candidates, seed: int) -> None:
        self.candidates = candidates
        self._method = method
        self._seed = seed

    def propose(self, trials: Sequence[FrozenTrial], number: int) -> Proposal:
        """The proposal for trial `number`, after `trials`.

        Raises `search.candidates.Exhausted` if no network is left, and `InvalidInput` if the bounds
        admit none.
        """
        earlier = [trial for trial in trials if trial.number != number]
        seen = {key for trial in earlier if (key := self._key(trial))}
        rng = np.random.default_rng([self._seed, number])
        history = History(earlier, number, self._seed)
        rejected, last = 0, None
        for row, notes in self._method(self.candidates, history, rng):
            last = self.candidates.at_row(row)
            if not self.candidates.admits(last):
                rejected += 1
            elif last.key not in seen:
                return Proposal(last, rejected, notes)
        near = last.row if last else moves.uniform(self.candidates.sizes, 1, rng)[0]
        return Proposal(self.candidates.unseen(seen, near, rng), rejected)

    def _key(self, trial: FrozenTrial) -> str | None:
        if "key" in trial.user_attrs:
            return str(trial.user_attrs["key"])
        if trial.params.keys() == self.candidates.space.choices.keys():
            return self.candidates.at(trial.params).key
        return None

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """The whole space."""
        return self.candidates.distributions

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """All choices of one candidate."""
        proposal = self.propose(study.get_trials(deepcopy=False), trial.number)
        for name, note in proposal.notes.items():
            storage_of(study).set_trial_system_attr(id_of_trial(trial), name, note)
        return dict(proposal.candidate.choices)

    def sample_independent(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:
        """Raises ValueError: the space has no such choice."""
        raise ValueError(
            f"trial {trial.number} asks for {param_name!r}, which the space "
            f"{self.candidates.space.name} does not offer"
        )
