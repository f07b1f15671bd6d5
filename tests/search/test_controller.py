import numpy as np
import torch

from search.samplers import controller
from search.samplers.controller import Policy, ppo_loss

SIZES = np.array([3, 2, 4])
ROWS = np.array([[0, 1, 2], [2, 0, 3], [1, 1, 0]])


def _chances(policy: Policy) -> list[np.ndarray]:
    """The probabilities of each choice along `ROWS`, written out."""
    weights = {name: weight.detach().numpy() for name, weight in policy.named_parameters()}
    hidden, before, chances = np.zeros((3, 48)), np.zeros(3, int), []
    for place, size in enumerate(SIZES):
        read = weights["embeddings"][place][before] + weights["bias"]
        hidden = np.tanh(read + hidden @ weights["recurrent"])
        logits = hidden @ weights["outputs"][place] + weights["offsets"][place]
        chance = np.exp(logits[:, :size])
        chances.append(chance / chance.sum(axis=1, keepdims=True))
        before = ROWS[:, place]
    return chances


def test_loss_is_ppos_with_an_entropy_bonus() -> None:
    policy, other = (Policy(SIZES, np.random.default_rng(seed)) for seed in (0, 1))
    with torch.no_grad():
        for each in (policy, other):
            each.outputs *= 20  # far enough from each other to be clipped
    advantage, total, clips = np.array([1.0, -0.5, 2.0]), 0.0, 0
    for place, (chance, old) in enumerate(zip(_chances(policy), _chances(other), strict=True)):
        for index, row in enumerate(ROWS):
            ratio = chance[index, row[place]] / old[index, row[place]]
            clipped = min(max(ratio, 0.8), 1.2)
            clips += clipped != ratio
            total -= min(ratio * advantage[index], clipped * advantage[index])
            total -= 0.01 * -(chance[index] * np.log(chance[index])).sum()
    rows = torch.from_numpy(ROWS)
    with torch.no_grad():
        before, _ = other(rows)
    loss = ppo_loss(policy, rows, before, torch.from_numpy(advantage))
    assert np.isclose(loss.item(), total / len(ROWS))
    assert 0 < clips < ROWS.size


def test_draws_follow_the_policys_chances() -> None:
    policy = Policy(SIZES, np.random.default_rng(0))
    rows = policy.draw(20_000, np.random.default_rng(1))
    drawn = np.bincount(rows[:, 0], minlength=3) / len(rows)
    assert np.allclose(drawn, _chances(policy)[0][0], atol=0.015)
    assert (rows < SIZES).all()


def test_policy_learns_what_is_rewarded() -> None:
    learner = controller._Learner(Policy(SIZES, np.random.default_rng(0)))
    rng = np.random.default_rng(1)
    for _ in range(40):
        rows = learner.policy.draw(16, rng)
        learner.learn(rows, (rows == [2, 1, 3]).mean(axis=1))
    assert ((learner.policy.draw(100, rng) == [2, 1, 3]).mean(axis=0) > 0.9).all()
