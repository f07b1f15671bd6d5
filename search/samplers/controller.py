"""MnasNet's own method: a recurrent policy writes the choices down, and PPO teaches it by reward.

Sources: Tan et al. 2019 (MnasNet), section 4.2, which names the method; Zoph and Le 2017, section
3.2, for the recurrent controller that reads what it wrote last; Schulman et al. 2017 (PPO),
equation 7. The sizes are assumed, for hundreds of trials and not MnasNet's 8,000.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.candidates import Candidates, Rows
from search.samplers.base import History

Floats = NDArray[np.float64]
Weights = dict[str, Floats]

#: Units of the recurrent layer.
_HIDDEN = 48

#: Trials of one update, passes over them, PPO's clipping range, and the weight of entropy.
_BATCH = 16
_PASSES = 6
_CLIP = 0.2
_ENTROPY = 0.01

#: Trials whose mean reward is the baseline.
_BASELINE = 100

#: Adam's rate and decays.
_RATE = 0.01
_DECAYS = (0.9, 0.999)

#: Draws from the policy for one trial, most of which are for where it has nearly made up its mind.
_DRAWS = 100


class Controller:
    """A `Method`. The policy is that of as many updates as there are whole batches of trials.

    It keeps the last policy, which follows from seed and trials and is learnt again where they are
    others.
    """

    def __init__(self) -> None:
        self._known: tuple[bytes, _Learner] | None = None

    def __call__(
        self, candidates: Candidates, history: History, rng: np.random.Generator
    ) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
        """Draws from the policy."""
        policy = self._taught(candidates, history).policy
        for _ in range(_DRAWS // _BATCH):
            for row in policy.draw(_BATCH, rng):
                yield row, {}

    def _taught(self, candidates: Candidates, history: History) -> _Learner:
        trials = history.valued
        updates = len(trials) // _BATCH
        rewards = np.array([trial.value for trial in trials[: updates * _BATCH]], float)
        rows = candidates.rows(trial.params for trial in trials[: updates * _BATCH])
        learner = _Learner(Policy.fresh(candidates.sizes, np.random.default_rng(history.seed)))
        done = 0
        if self._known is not None:
            name, known = self._known
            if name == _name(history.seed, rows[: known.seen], rewards[: known.seen]):
                learner, done = known, known.seen // _BATCH
        for update in range(done, updates):
            batch = slice(update * _BATCH, (update + 1) * _BATCH)
            learner.learn(rows[batch], rewards[batch])
        self._known = (_name(history.seed, rows, rewards), learner)
        return learner


def _name(seed: int, rows: Rows, rewards: Floats) -> bytes:
    return b"%d " % seed + rows.tobytes() + rewards.tobytes()


@dataclass(frozen=True, slots=True)
class Policy:
    """hₜ = tanh(eₜ[choice before] + hₜ₋₁ W + b); chances of choice t are softmax(hₜ Oₜ + oₜ)."""

    sizes: Rows
    weights: Weights

    @classmethod
    def fresh(cls, sizes: Rows, rng: np.random.Generator) -> Policy:
        """A policy that hardly prefers anything yet."""
        weights = {"recurrent": rng.standard_normal((_HIDDEN, _HIDDEN)) / np.sqrt(_HIDDEN)}
        weights["bias"] = np.zeros(_HIDDEN)
        for place, size in enumerate(sizes.tolist()):
            before = int(sizes[place - 1]) if place else 1
            weights[f"embedding{place}"] = 0.1 * rng.standard_normal((before, _HIDDEN))
            weights[f"output{place}"] = 0.1 * rng.standard_normal((_HIDDEN, size))
            weights[f"offset{place}"] = np.zeros(size)
        return cls(sizes, weights)

    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        """`count` rows from the policy."""
        rows = np.zeros((count, len(self.sizes)), np.int64)
        hidden = np.zeros((count, _HIDDEN))
        for place in range(len(self.sizes)):
            before = rows[:, place - 1] if place else np.zeros(count, np.int64)
            hidden, chances = self._step(place, before, hidden)
            reached = chances.cumsum(axis=1) < rng.random((count, 1))
            rows[:, place] = np.minimum(reached.sum(axis=1), self.sizes[place] - 1)
        return rows

    def unroll(self, rows: Rows) -> tuple[list[Floats], list[Floats]]:
        """Hidden states, from the zeros before the first on, and chances, along `rows`."""
        hidden, chances = [np.zeros((len(rows), _HIDDEN))], []
        for place in range(len(self.sizes)):
            before = rows[:, place - 1] if place else np.zeros(len(rows), np.int64)
            state, chance = self._step(place, before, hidden[-1])
            hidden.append(state)
            chances.append(chance)
        return hidden, chances

    def gradients(self, rows: Rows, hidden: list[Floats], logits: list[Floats]) -> Weights:
        """Gradients of the weights from those of the logits, back through all choices."""
        found = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        back = np.zeros_like(hidden[0])
        for place in reversed(range(len(self.sizes))):
            state, logit = hidden[place + 1], logits[place]
            found[f"output{place}"] = state.T @ logit
            found[f"offset{place}"] = logit.sum(axis=0)
            inner = (logit @ self.weights[f"output{place}"].T + back) * (1 - state**2)
            before = rows[:, place - 1] if place else np.zeros(len(rows), np.int64)
            np.add.at(found[f"embedding{place}"], before, inner)
            found["recurrent"] += hidden[place].T @ inner
            found["bias"] += inner.sum(axis=0)
            back = inner @ self.weights["recurrent"].T
        return found

    def _step(self, place: int, before: Rows, hidden: Floats) -> tuple[Floats, Floats]:
        weights = self.weights
        state: Floats = np.tanh(
            weights[f"embedding{place}"][before] + hidden @ weights["recurrent"] + weights["bias"]
        )
        logits = state @ weights[f"output{place}"] + weights[f"offset{place}"]
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return state, chances / chances.sum(axis=1, keepdims=True)


@dataclass(slots=True)
class _Learner:
    """Teaches a policy batch by batch, by PPO with Adam; the baseline is the mean reward so far."""

    policy: Policy
    seen: int = 0
    rewards: list[float] = field(default_factory=list)
    steps: int = 0
    moments: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)

    def learn(self, rows: Rows, rewards: Floats) -> None:
        """One update: some passes over a batch that the policy as it is has drawn."""
        self.rewards += rewards.tolist()
        recent = np.array(self.rewards[-_BASELINE:])
        advantage = (rewards - recent.mean()) / max(float(recent.std()), 1e-9)
        picked = np.arange(len(rows))
        _, chances = self.policy.unroll(rows)
        old = [chance[picked, rows[:, place]] for place, chance in enumerate(chances)]
        for _ in range(_PASSES):
            hidden, chances = self.policy.unroll(rows)
            logits = [
                _logit_gradient(chance, rows[:, place], old[place], advantage)
                for place, chance in enumerate(chances)
            ]
            self._descend(self.policy.gradients(rows, hidden, logits))
        self.seen += len(rows)

    def _descend(self, gradients: Weights) -> None:
        self.steps += 1
        for name, gradient in gradients.items():
            first, second = self.moments.get(name, (0.0 * gradient, 0.0 * gradient))
            first = _DECAYS[0] * first + (1 - _DECAYS[0]) * gradient
            second = _DECAYS[1] * second + (1 - _DECAYS[1]) * gradient**2
            self.moments[name] = first, second
            mean, spread = (
                moment / (1 - decay**self.steps)
                for moment, decay in zip((first, second), _DECAYS, strict=True)
            )
            self.policy.weights[name] = self.policy.weights[name] - _RATE * mean / (
                np.sqrt(spread) + 1e-8
            )


def _logit_gradient(chances: Floats, chosen: Rows, old: Floats, advantage: Floats) -> Floats:
    """Of PPO's clipped loss and the entropy bonus, per row, averaged over the batch."""
    picked = np.arange(len(chosen))
    ratio = chances[picked, chosen] / np.maximum(old, 1e-12)
    clipped = np.where(advantage > 0, ratio > 1 + _CLIP, ratio < 1 - _CLIP)
    weight = np.where(clipped, 0.0, ratio * advantage)
    one_hot = np.eye(chances.shape[1])[chosen]
    policy = -weight[:, None] * (one_hot - chances)
    logs = np.log(np.maximum(chances, 1e-12))
    entropy = -(chances * logs).sum(axis=1, keepdims=True)
    gradient: Floats = (policy + _ENTROPY * chances * (logs + entropy)) / len(chosen)
    return gradient
