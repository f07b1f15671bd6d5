"""MnasNet's own method: a recurrent policy makes the choices in turn, and PPO trains it on rewards.

Sources: Tan et al. 2019 (MnasNet), section 4.2, which names the method; Zoph and Le 2017, section
3.2, for the recurrent controller; Schulman et al. 2017 (PPO), equation 7. The sizes are assumed,
for hundreds of trials and not MnasNet's 8,000.

This module needs torch, and is imported at first use.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from torch import Tensor, nn

from search.candidates import Candidates, Floats, Rows
from search.samplers.base import History, Proposals

#: Units of the recurrent layer.
_HIDDEN = 48

#: Trials of one update, passes over them, PPO's clipping range, and the weight of entropy.
_BATCH = 16
_PASSES = 6
_CLIP = 0.2
_ENTROPY = 0.01

#: Trials whose mean reward is the baseline.
_BASELINE = 100

#: Adam's learning rate.
_RATE = 0.01

#: Draws from the policy per trial; many are needed only where it has nearly converged.
_DRAWS = 100


class Controller:
    """A `Method`. The policy has had as many updates as there are whole batches of trials.

    It keeps the last policy, which follows from the seed and the trials, and trains it again from
    the start if they are others.
    """

    def __init__(self) -> None:
        self._known: tuple[bytes, _Learner] | None = None

    def __call__(
        self, candidates: Candidates, history: History, rng: np.random.Generator
    ) -> Proposals:
        """Draws from the policy."""
        policy = self._trained(candidates, history).policy
        for _ in range(_DRAWS // _BATCH):
            for row in policy.draw(_BATCH, rng):
                yield row, {}

    def _trained(self, candidates: Candidates, history: History) -> _Learner:
        trials = history.valued
        updates = len(trials) // _BATCH
        rewards = np.array([trial.value for trial in trials[: updates * _BATCH]], float)
        rows = candidates.rows(trial.params for trial in trials[: updates * _BATCH])
        name, learner = self._known or (b"", None)
        if learner is None or name != _name(
            history.seed, rows[: learner.seen], rewards[: learner.seen]
        ):
            learner = _Learner(Policy(candidates.sizes, np.random.default_rng(history.seed)))
        for start in range(learner.seen, updates * _BATCH, _BATCH):
            learner.learn(rows[start : start + _BATCH], rewards[start : start + _BATCH])
        self._known = (_name(history.seed, rows, rewards), learner)
        return learner


def _name(seed: int, rows: Rows, rewards: Floats) -> bytes:
    return b"%d " % seed + rows.tobytes() + rewards.tobytes()


class Policy(nn.Module):
    """hₜ = tanh(eₜ[choice t−1] + b + hₜ₋₁ W); the logits of choice t are hₜ Oₜ + oₜ.

    Choices with fewer values than others are padded, and the padding is masked.
    """

    def __init__(self, sizes: Rows, rng: np.random.Generator) -> None:
        super().__init__()
        self.sizes = sizes
        count, most = len(sizes), int(sizes.max())
        recurrent = rng.standard_normal((_HIDDEN, _HIDDEN)) / math.sqrt(_HIDDEN)
        embeddings, outputs = np.zeros((count, most, _HIDDEN)), np.zeros((count, _HIDDEN, most))
        for place, (before, size) in enumerate(zip([1, *sizes[:-1]], sizes, strict=True)):
            embeddings[place, :before] = 0.1 * rng.standard_normal((before, _HIDDEN))
            outputs[place, :, :size] = 0.1 * rng.standard_normal((_HIDDEN, size))
        self.recurrent = nn.Parameter(torch.from_numpy(recurrent))
        self.embeddings = nn.Parameter(torch.from_numpy(embeddings))
        self.outputs = nn.Parameter(torch.from_numpy(outputs))
        self.bias = nn.Parameter(torch.zeros(_HIDDEN, dtype=torch.float64))
        self.offsets = nn.Parameter(torch.zeros(count, most, dtype=torch.float64))
        self._mask = torch.from_numpy(np.where(np.arange(most) < sizes[:, None], 0.0, -1e9))

    @torch.no_grad()
    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        """`count` rows from the policy."""
        rows = np.zeros((count, len(self.sizes)), np.int64)
        hidden, before = self._start(count), torch.zeros(count, dtype=torch.int64)
        for place, size in enumerate(self.sizes.tolist()):
            hidden = self._step(self.embeddings[place, before], hidden)
            logits = hidden @ self.outputs[place] + self.offsets[place] + self._mask[place]
            passed = logits.softmax(1).cumsum(1).numpy() < rng.random((count, 1))
            rows[:, place] = np.minimum(passed.sum(axis=1), size - 1)
            before = torch.from_numpy(rows[:, place])
        return rows

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probability and the entropy of each choice along `rows`, N × choices each."""
        before = nn.functional.pad(rows[:, :-1], (1, 0))
        inputs = self.embeddings[torch.arange(rows.shape[1]), before]
        states = [self._start(len(rows))]
        for place in range(rows.shape[1]):
            states.append(self._step(inputs[:, place], states[-1]))
        logits = torch.einsum("tnh,thv->ntv", torch.stack(states[1:]), self.outputs)
        logs = (logits + self.offsets + self._mask).log_softmax(2)
        return logs.gather(2, rows[..., None])[..., 0], -(logs.exp() * logs).sum(2)

    def _start(self, count: int) -> Tensor:
        return torch.zeros(count, _HIDDEN, dtype=torch.float64)

    def _step(self, embedded: Tensor, hidden: Tensor) -> Tensor:
        return torch.tanh(torch.addmm(embedded + self.bias, hidden, self.recurrent))


def ppo_loss(policy: Policy, rows: Tensor, old: Tensor, advantage: Tensor) -> Tensor:
    """The clipped loss less the entropy bonus; `old` are the log-probabilities before the update.

    Of N rows, N × choices and N; summed over choices, averaged over rows.
    """
    chosen, entropy = policy.forward(rows)
    ratio, advantage = (chosen - old).exp(), advantage[:, None]
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - _CLIP, 1 + _CLIP) * advantage)
    return -(gain + _ENTROPY * entropy).sum(1).mean()


class _Learner:
    """Trains a policy batch by batch; the baseline is the mean of the last rewards."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.seen = policy, 0
        self._adam = torch.optim.Adam(policy.parameters(), lr=_RATE)
        self._rewards: deque[float] = deque(maxlen=_BASELINE)

    def learn(self, rows: Rows, rewards: Floats) -> None:
        """One update: some passes over a batch drawn from the policy as it is."""
        self._rewards.extend(rewards.tolist())
        recent = np.array(self._rewards)
        advantage = torch.from_numpy((rewards - recent.mean()) / max(float(recent.std()), 1e-9))
        batch = torch.from_numpy(rows)
        with torch.no_grad():
            old, _ = self.policy(batch)
        for _ in range(_PASSES):
            self._adam.zero_grad()
            loss = ppo_loss(self.policy, batch, old, advantage)
            loss.backward()  # type: ignore[no-untyped-call]
            self._adam.step()
        self.seen += len(rows)
