"""What every sampler here keeps: whole candidates, within bounds, never one twice, no state.

A `Method` is a way to search: from what is recorded it gives a few proposals, best first. The
`Sampler` around it takes the first that may be trained, or changes the last until it may. What it
gives follows from seed, number of the trial and recorded trials alone, so that a search goes on
after a kill as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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
    """All that a method may know: what is recorded before the trial `number`, and the seed."""

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


class Method(Protocol):
    """A way to search: a few proposals, each with notes for its trial's system attributes."""

    def __call__(
        self, candidates: Candidates, history: History, rng: np.random.Generator
    ) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
        """Proposals for the trial that comes after `history`, best first."""
        ...


@dataclass(frozen=True, slots=True)
class Proposal:
    """The candidate to train next, and how many the bounds refused before it."""

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

        Raises `search.candidates.Exhausted` where nothing is left, and `InvalidInput` where the
        bounds admit nothing.
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
        """Raises ValueError: nothing outside the space is asked for."""
        raise ValueError(
            f"trial {trial.number} asks for {param_name!r}, which the space "
            f"{self.candidates.space.name} does not offer"
        )
