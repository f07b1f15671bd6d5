"""What short training runs say of long ones, and what pruners save, on CIFAR-10 photographs.

`python -m experiments.benchmarks.fidelity CIFAR10` trains random small networks at a proxy budget
and at a longer one, with several seeds, and writes `experiments/results/fidelity.json` as it goes;
it goes on where it was stopped. Every number that is printed follows from what is recorded there:

- Kendall's τ between the rewards of the proxy and of the long training, and, as the most that a
  proxy can be expected to reach, between those of long training runs with different seeds;
- for each pruner, epochs and processor seconds until a search that meets the networks in random
  order has trained one of the best to its end. The learning curves are the recorded ones, so that
  no pruner is helped by another draw of the initial weights; the order is shuffled many times.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import kendalltau

from experiments.config import DataConfig, TrainConfig
from experiments.data.load import load
from experiments.evaluators.training import TrainingEvaluator
from experiments.runs.environment import environment
from search import pruning
from search.candidates import Candidates
from search.objective import Bounds, Objective
from search.pruning import PrunerName
from space import choices
from space.architecture import Architecture
from space.cost import Cost
from space.evaluation import Budget, Epoch, Evaluate
from space.files import write_file

Floats = NDArray[np.float64]

SPACE = "mnasnet_small"
RESOLUTION = 24
NETWORKS = 24
OBJECTIVE = Objective(target=1_000_000, bounds=Bounds(macs=(500_000, 1_500_000)))
#: Of the training images, those used and those of them that measure.
IMAGES, HELD_OUT = 4_000, 2_000
PROXY_EPOCHS, LONG_EPOCHS = 3, 12
#: Of the training runs: initial weights, and the order and changes of the images.
SEEDS = (0, 1, 2)
#: A search has arrived when one of this many best networks is trained to its end.
BEST = 3
#: Random orders in which a search meets the networks.
ORDERS = 300
RESULT = Path(__file__).parents[1] / "results" / "fidelity.json"


def networks() -> Candidates:
    """The space, its networks seeing `RESOLUTION` pixels in ten classes."""
    space = choices.load(SPACE).adapted(num_classes=10, resolution=RESOLUTION)
    return Candidates(space, OBJECTIVE)


def measure(source: Path, out: Path) -> None:
    """Trains what is missing, network by network, and writes it down."""
    data = load(
        DataConfig(source=str(source), limit=IMAGES, held_out=HELD_OUT),
        resolution=RESOLUTION,
        seed=0,
    )
    candidates = networks()
    rows = candidates.sample(NETWORKS, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as checkpoints:
        evaluate = TrainingEvaluator(
            train=data.train,
            held_out=data.held_out,
            config=TrainConfig(),
            checkpoints=Path(checkpoints),
            threads=1,
        )
        found = _load(out)
        for number, row in enumerate(rows):
            candidate = candidates.at_row(row)
            if number == len(found["networks"]):
                found["networks"].append(
                    {
                        "key": candidate.key,
                        "choices": candidate.choices,
                        "cost": candidate.cost._asdict(),
                        "training_runs": [],
                    }
                )
            training_runs = found["networks"][number]["training_runs"]
            for seed in SEEDS[len(training_runs) :]:
                training_runs.append(
                    {
                        "proxy": _curve(evaluate, candidate.architecture, PROXY_EPOCHS, seed),
                        "long": _curve(evaluate, candidate.architecture, LONG_EPOCHS, seed),
                    }
                )
                found["environment"] = environment()
                write_file(out, json.dumps(found, indent=1) + "\n")
                print(f"{number + 1}/{NETWORKS}", candidate.key[:12], seed, flush=True)


def _curve(
    evaluate: Evaluate, architecture: Architecture, epochs: int, seed: int
) -> list[dict[str, float]]:
    """Each epoch's accuracy and processor seconds: on one thread, wall-clock of a quiet machine."""
    ends = [time.process_time()]

    def note(_: Epoch) -> bool:
        ends.append(time.process_time())
        return False

    measured = evaluate(architecture, Budget(epochs, seed=seed), note)
    return [
        {"accuracy": epoch.accuracy or 0.0, "seconds": round(end - start, 3)}
        for epoch, (start, end) in zip(measured.epochs, pairwise(ends), strict=True)
    ]


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {"networks": []}


def _recorded(found: dict[str, Any], budget: str, what: str) -> Floats:
    """What each epoch of `budget` ("proxy" or "long") came to: networks × seeds × epochs."""
    return np.array(
        [
            [[epoch[what] for epoch in training[budget]] for training in network["training_runs"]]
            for network in found["networks"]
        ]
    )


def _rewards(found: dict[str, Any], budget: str) -> Floats:
    factors = OBJECTIVE.factors(np.array([Cost(**n["cost"]) for n in found["networks"]]))
    rewards: Floats = _recorded(found, budget, "accuracy") * factors[:, None, None]
    return rewards


def correlations(found: dict[str, Any]) -> dict[str, float]:
    """Kendall's τ of the final reward of the long training with others.

    With shorter ones of the same seed, means over seeds; with itself, over pairs of seeds; and of
    the rewards' means over the seeds.
    """
    long, proxy = (_rewards(found, budget) for budget in ("long", "proxy"))
    final, brief = (rewards[:, :, -1].T for rewards in (long, proxy))
    same = {
        f"epoch {epoch} of the long training": long[:, :, epoch - 1].T
        for epoch in (1, 2, 3, 6, 9)
        if epoch < LONG_EPOCHS
    }
    shorter = {"proxy": brief, **same}
    pairs = {name: list(zip(rewards, final, strict=True)) for name, rewards in shorter.items()}
    pairs["the long training with another seed"] = list(combinations(final, 2))
    pairs["means over the seeds, of the proxy and of the long training"] = [
        (brief.mean(axis=0), final.mean(axis=0))
    ]
    return {
        name: float(np.mean([kendalltau(*pair).statistic for pair in each]))
        for name, each in pairs.items()
    }


class Spread(NamedTuple):
    """Accuracies after the long training: their mean and two standard deviations.

    `networks` is that of the networks' means over the seeds, `seeds` that of one network.
    """

    mean: float
    networks: float
    seeds: float


def spread(found: dict[str, Any]) -> Spread:
    """How much networks differ, and how much seeds do."""
    accuracy = _recorded(found, "long", "accuracy")[:, :, -1]
    return Spread(
        float(accuracy.mean()),
        float(accuracy.mean(axis=1).std(ddof=1)),
        float(np.sqrt(accuracy.var(axis=1, ddof=1).mean())),
    )


class Saving(NamedTuple):
    """What a search with a pruner spends in the median, and how often it misses all of the best.

    `epochs` and processor `seconds` until one of the best is trained; `whole_seconds` for all.
    """

    epochs: float
    seconds: float
    never: float
    whole_seconds: float


def savings(found: dict[str, Any]) -> dict[str, Saving]:
    """What each pruner saves, over random orders of the networks, each with the next seed."""
    rewards = _rewards(found, "long")
    spent = np.cumsum(_recorded(found, "long", "seconds"), axis=2)
    goals = np.sort(rewards[:, :, -1], axis=0)[-BEST]
    rng = np.random.default_rng(0)
    orders = [(rng.permutation(len(rewards)), n % len(goals)) for n in range(ORDERS)]
    results = {}
    for kind in get_args(PrunerName):
        searches = []
        for order, seed in orders:
            epochs, ends = map(np.array, zip(*_replay(rewards[order, seed], kind), strict=True))
            each = spent[order, seed, epochs - 1]
            reached = np.flatnonzero(ends >= goals[seed])
            upto = slice(reached[0] + 1 if len(reached) else 0)
            missed = 0.0 if len(reached) else np.inf
            searches.append((epochs[upto].sum() + missed, each[upto].sum() + missed, each.sum()))
        epochs, until, whole = np.array(searches, float).T
        results[kind] = Saving(
            float(np.median(epochs)),
            float(np.median(until)),
            float(np.isinf(until).mean()),
            float(np.median(whole)),
        )
    return results


def _replay(rewards: Floats, kind: PrunerName) -> Iterator[tuple[int, float]]:
    """Epochs trained of each network in turn, and its final reward; −∞ for a pruned one."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = pruning.create(kind, epochs=LONG_EPOCHS)
    study = optuna.create_study(study_name="search", direction="maximize", pruner=pruner)
    for curve in rewards.tolist():
        trial = study.ask()
        for epoch, reward in enumerate(curve, 1):
            trial.report(reward, epoch)
            if epoch < LONG_EPOCHS and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                yield epoch, -np.inf
                break
        else:
            study.tell(trial, curve[-1])
            yield LONG_EPOCHS, curve[-1]


def main() -> None:
    """Measures what is missing, and prints what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="CIFAR-10; without it, only print")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.data:
        measure(given.data, given.out)
    found = _load(given.out)
    print(f"{len(found['networks'])} networks")
    for name, tau in correlations(found).items():
        print(f"Kendall's tau of {name} and {LONG_EPOCHS} epochs: {tau:.2f}")
    for kind, saving in savings(found).items():
        print(kind, saving)


if __name__ == "__main__":
    main()
