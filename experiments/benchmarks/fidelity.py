"""What short trainings say of long ones, and what pruners save, on real CIFAR-10 photographs.

`python -m experiments.benchmarks.fidelity CIFAR10` trains random small networks twice, at a proxy
budget and at a longer one, and writes `experiments/results/fidelity.json` as it goes; it goes on
where it was stopped. Every number that is printed follows from what is recorded there:

- Kendall's τ between the rewards of the proxy and of the long training;
- for each pruner, the epochs until a search that meets the networks in random order has trained one
  of the best to its end. The learning curves are the recorded ones, so that no pruner is helped by
  another draw of the initial weights; the order is shuffled many times.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import kendalltau

from experiments.config import DataConfig, TrainConfig
from experiments.data.load import load
from experiments.evaluators.training import TrainingEvaluator
from experiments.run import environment
from search import pruning
from search.candidates import Candidates
from search.objective import Bounds, Objective
from search.pruning import PrunerName
from space import choices
from space.cost import Cost
from space.evaluation import Budget, Measurement
from space.files import write_file

Floats = NDArray[np.float64]

SPACE = "mnasnet_small"
RESOLUTION = 24
NETWORKS = 24
OBJECTIVE = Objective(target=1_000_000, bounds=Bounds(macs=(500_000, 1_500_000)))
#: Of the training images, those used and those of them that measure.
IMAGES, HELD_OUT = 4_000, 2_000
PROXY_EPOCHS, LONG_EPOCHS = 3, 12
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
        for row in rows[len(found["networks"]) :]:
            candidate = candidates.at_row(row)
            proxy, long = (
                evaluate(candidate.architecture, Budget(epochs), lambda _: False)
                for epochs in (PROXY_EPOCHS, LONG_EPOCHS)
            )
            found["networks"].append(
                {
                    "key": candidate.key,
                    "choices": candidate.choices,
                    "cost": candidate.cost._asdict(),
                    "proxy": _curve(proxy),
                    "long": _curve(long),
                }
            )
            found["environment"] = environment()
            write_file(out, json.dumps(found, indent=1) + "\n")
            print(f"{len(found['networks'])}/{NETWORKS}", candidate.key[:12], flush=True)


def _curve(measured: Measurement) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in asdict(epoch).items() if name in ("accuracy", "seconds")}
        for epoch in measured.epochs
    ]


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {"networks": []}


def _rewards(found: dict[str, Any], budget: str) -> Floats:
    """Networks × epochs of `budget` ("proxy" or "long")."""
    factors = np.array([OBJECTIVE.factor(Cost(**n["cost"])) for n in found["networks"]])
    accuracies = [[epoch["accuracy"] for epoch in n[budget]] for n in found["networks"]]
    rewards: Floats = np.array(accuracies) * factors[:, None]
    return rewards


def correlations(found: dict[str, Any]) -> dict[str, float]:
    """Kendall's τ of the final reward of the long training with shorter ones."""
    long = _rewards(found, "long")
    same = {
        f"epoch {epoch} of the long training": long[:, epoch - 1]
        for epoch in (1, 2, 3, 6, 9)
        if epoch < LONG_EPOCHS
    }
    shorter = {"proxy": _rewards(found, "proxy")[:, -1], **same}
    return {
        name: float(kendalltau(rewards, long[:, -1]).statistic) for name, rewards in shorter.items()
    }


def savings(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """For each pruner: epochs in the median until one of the best is trained, and how often never.

    `whole` are the epochs of all networks in the median.
    """
    rewards = _rewards(found, "long")
    goal = np.sort(rewards[:, -1])[-BEST]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(rewards)) for _ in range(ORDERS)]
    results = {}
    for kind in get_args(PrunerName):
        replays = [list(_replay(rewards[order], kind)) for order in orders]
        reached = [_until(replay, goal) for replay in replays]
        results[kind] = {
            "epochs": float(np.median(reached)),
            "never": float(np.mean(np.isinf(reached))),
            "whole": float(np.median([sum(epochs for epochs, _ in r) for r in replays])),
        }
    return results


def _replay(rewards: Any, kind: PrunerName) -> Iterator[tuple[int, float]]:
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


def _until(replay: list[tuple[int, float]], goal: float) -> float:
    spent = 0
    for epochs, reward in replay:
        spent += epochs
        if reward >= goal:
            return spent
    return np.inf


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
    for kind, each in savings(found).items():
        print(f"{kind}: {each}")


if __name__ == "__main__":
    main()
