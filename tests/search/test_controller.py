import numpy as np

from search.samplers import controller
from search.samplers.controller import Policy

SIZES = np.array([3, 2, 4])
ROWS = np.array([[0, 1, 2], [2, 0, 3], [1, 1, 0]])


def _loss(policy: Policy, old: list[np.ndarray], advantage: np.ndarray) -> float:
    """PPO's clipped loss less the weighted entropy, written out, independently of the gradients."""
    _, chances = policy.unroll(ROWS)
    total = 0.0
    for place, chance in enumerate(chances):
        for index, row in enumerate(ROWS):
            ratio = chance[index, row[place]] / old[place][index]
            clipped = min(max(ratio, 0.8), 1.2)
            total -= min(ratio * advantage[index], clipped * advantage[index])
            total -= 0.01 * -(chance[index] * np.log(chance[index])).sum()
    return total / len(ROWS)


def test_gradients_are_those_of_the_loss() -> None:
    policy = Policy.fresh(SIZES, np.random.default_rng(0))
    advantage = np.array([1.0, -0.5, 2.0])
    other = Policy.fresh(SIZES, np.random.default_rng(1))
    old = [c[np.arange(3), ROWS[:, place]] for place, c in enumerate(other.unroll(ROWS)[1])]
    hidden, chances = policy.unroll(ROWS)
    logits = [
        controller._logit_gradient(chance, ROWS[:, place], old[place], advantage)
        for place, chance in enumerate(chances)
    ]
    gradients = policy.gradients(ROWS, hidden, logits)
    rng = np.random.default_rng(2)
    for name, weight in policy.weights.items():
        place = tuple(rng.integers(0, weight.shape))
        values = []
        for step in (1e-6, -1e-6):
            weight[place] += step
            values.append(_loss(policy, old, advantage))
            weight[place] -= step
        assert np.isclose((values[0] - values[1]) / 2e-6, gradients[name][place], atol=1e-7), name


def test_draws_follow_the_policys_chances() -> None:
    policy = Policy.fresh(SIZES, np.random.default_rng(0))
    rows = policy.draw(20_000, np.random.default_rng(1))
    _, chances = policy.unroll(np.zeros((1, 3), np.int64))
    drawn = np.bincount(rows[:, 0], minlength=3) / len(rows)
    assert np.allclose(drawn, chances[0][0], atol=0.015)


def test_policy_learns_what_is_rewarded() -> None:
    learner = controller._Learner(Policy.fresh(SIZES, np.random.default_rng(0)))
    rng = np.random.default_rng(1)
    for _ in range(40):
        rows = learner.policy.draw(16, rng)
        learner.learn(rows, (rows == [2, 1, 3]).mean(axis=1))
    assert ((learner.policy.draw(100, rng) == [2, 1, 3]).mean(axis=0) > 0.9).all()
