"""Whether scores of untrained networks foretell their accuracy, and help a search to begin.

Three scores, each from one pass through a network as it is initialised (Abdelfattah et al. 2021,
"Zero-Cost Proxies for Lightweight NAS", section 3; Mellor et al. 2021, "Neural Architecture Search
without Training", section 3). What decides is whether one says more than the exact costs, which are
free, and than a model of the few networks that any search trains first.

`python -m experiments.benchmarks.zero_cost CIFAR10 RECORDS` scores the networks of `fidelity`,
which were trained on photographs, and networks that Accel-NASBench trained on ImageNet; then it
searches, as `samplers` does, with the first trials ordered by each score. It goes on where it was
stopped, and writes `experiments/results/zero_cost.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import kendalltau
from torch import Tensor, nn

from experiments.benchmarks import fidelity, samplers
from experiments.config import DataConfig
from experiments.data.load import load
from experiments.evaluators.records import NetworkRecords, read, surrogate
from experiments.runs.environment import environment
from experiments.training import augment, machine
from search.accuracy_model import AccuracyModel, Features
from search.candidates import Candidates, Rows
from search.samplers.base import History, Method, Sampler
from search.samplers.predictor import Predictor
from space import choices
from space.architecture import Architecture
from space.blocks import ACTIVATIONS
from space.cost_table import tabulate
from space.files import write_file
from space.network import build

Floats = NDArray[np.float64]

#: Networks of Accel-NASBench that are scored, drawn from its records.
NETWORKS = 240
#: Photographs that a score sees, and their pixels for Accel-NASBench's networks.
IMAGES, RESOLUTION = 32, 224
#: First trials that a score orders, and the random networks from which it takes the best.
FIRST, POOL = 16, 48
TRIALS = 100
SEEDS = tuple(range(100, 120))
#: Training runs from which a model learns that the scores are compared with, and draws of them.
KNOWN, DRAWS = 16, 50
COSTS = ("macs", "params")
SCORES = ("grad-norm", "naswot", "synflow")
#: What orders the first trials of a search.
STARTS = ("random order", *COSTS, *SCORES)
RESULT = Path(__file__).parents[1] / "results" / "zero_cost.json"


def scores(architecture: Architecture, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Each score of `architecture`, initialised with seed 0; greater is said to be better.

    `images` are N × C × H × W, normalised; `labels` are N.
    """
    torch.manual_seed(0)
    network = build(replace(architecture, dropout=0.0, stochastic_depth=0.0))
    found = (
        grad_norm(network, images, labels),
        naswot(network, images),
        synflow(network, images.shape[1:]),
    )
    return dict(zip(SCORES, found, strict=True))


def grad_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over layers of the norm of the loss's gradient (Abdelfattah et al., section 3.2)."""
    network.train().zero_grad()
    torch.autograd.backward(F.cross_entropy(network(images), labels))
    layers = (m.weight.grad for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return sum(float(gradient.norm()) for gradient in layers if gradient is not None)


@torch.no_grad()
def naswot(network: nn.Module, images: Tensor) -> float:
    """log|det K|, where K counts activations that two images have on the same side of 0.

    Source: Mellor et al., equations 2 and 3.
    """
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        active = (given[0] > 0).flatten(1).float()
        kernel.add_(active @ active.T + (1 - active) @ (1 - active).T)

    kinds = tuple(ACTIVATIONS.values())
    hooks = [m.register_forward_pre_hook(count) for m in network.modules() if isinstance(m, kinds)]
    network.train()(images)
    for hook in hooks:
        hook.remove()
    return float(torch.linalg.slogdet(kernel).logabsdet)


def synflow(network: nn.Module, shape: Sequence[int]) -> float:
    """The logarithm of Σ θ · ∂R/∂θ, R the sum of outputs for an image of ones with all weights |θ|.

    Source: Tanaka et al. 2020, equation 1; Abdelfattah et al., equation 2. Batch norm passes its
    input on: evaluated as initialised, it is the identity. Leaves the network with those weights.
    """
    network.double().eval().zero_grad()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    torch.autograd.backward(network(torch.ones(1, *shape, dtype=torch.float64)).sum())
    flow = sum(
        float((p.detach() * p.grad).sum()) for p in network.parameters() if p.grad is not None
    )
    return float(np.log(flow))


def measure(photographs: Path, records: Path, out: Path) -> None:
    """Scores what is missing, then searches with what is missing, and writes it down."""
    found = _load(out)
    for name, architectures in (("cifar10", _photographed()), ("imagenet", _recorded(records))):
        scored = found["networks"].setdefault(name, {})
        images, labels = _batch(photographs, fidelity.RESOLUTION if name == "cifar10" else None)
        for key, (architecture, facts) in architectures.items():
            if key not in scored:
                scored[key] = facts | {"scores": scores(architecture, images, labels)}
                _write(found, out)
                print(name, f"{len(scored)}/{len(architectures)}", flush=True)
    networks = _read_back(found["networks"]["imagenet"], records)
    found["model"] = of_a_model(networks)
    predict = surrogate("boosting", networks.records)
    for setting in samplers.SETTINGS:
        for start in STARTS:
            name = f"{setting.name} / {start}"
            if name not in found["searches"]:
                found["searches"][name] = _searches(networks, start, setting, predict)
                _write(found, out)
                print(name, flush=True)


def _photographed() -> dict[str, tuple[Architecture, dict[str, Any]]]:
    """The networks of `fidelity`, their mean accuracy on CIFAR-10 after its long training runs."""
    candidates = fidelity.networks()
    trained = json.loads(fidelity.RESULT.read_text("utf-8"))["networks"]
    return {
        network["key"]: (
            candidates.at(network["choices"]).architecture,
            {"accuracy": fmean(each["long"][-1]["accuracy"] for each in network["training_runs"])}
            | {cost: network["cost"][cost] for cost in COSTS},
        )
        for network in trained
    }


def _recorded(path: Path) -> dict[str, tuple[Architecture, dict[str, Any]]]:
    """Some networks of the records, their accuracy on ImageNet, by their number there."""
    records = read(path, choices.load(samplers.SPACE))
    candidates = Candidates(records.space, samplers.OBJECTIVES["soft"])
    drawn = np.random.default_rng(0).permutation(len(records))[:NETWORKS].tolist()
    found = {}
    for number in drawn:
        candidate = candidates.at_row(records.rows[number])
        facts = {cost: getattr(candidate.cost, cost) for cost in COSTS}
        accuracy = float(records.accuracy[number])
        found[str(number)] = candidate.architecture, {"accuracy": accuracy} | facts
    return found


def _batch(photographs: Path, resolution: int | None) -> tuple[Tensor, Tensor]:
    """Images and labels of CIFAR-10; for Accel-NASBench's networks enlarged to their pixels."""
    data = load(
        DataConfig(source=str(photographs), limit=fidelity.IMAGES, held_out=fidelity.HELD_OUT),
        resolution=resolution or 32,
        seed=0,
    )
    drawn = np.random.default_rng(0).choice(len(data.train), IMAGES, replace=False)
    images = augment.normalise(torch.from_numpy(data.train.read(drawn)).permute(0, 3, 1, 2))
    if resolution is None:
        images = F.interpolate(images, (RESOLUTION, RESOLUTION), mode="bilinear")
    return images, torch.from_numpy(data.train.labels[drawn]).long()


@dataclass(frozen=True)
class Scored:
    """The records, the scored ones (N rows), their accuracy and what orders them (N)."""

    records: NetworkRecords
    rows: Rows
    accuracy: Floats
    orders: Mapping[str, Floats]


def _read_back(scored: Mapping[str, Any], path: Path) -> Scored:
    records = read(path, choices.load(samplers.SPACE))
    rows = records.rows[[int(number) for number in scored]]
    accuracy = np.array([network["accuracy"] for network in scored.values()])
    orders = {STARTS[0]: np.zeros(len(rows))} | values(scored)
    return Scored(records, rows, accuracy, orders)


def values(scored: Mapping[str, Any]) -> dict[str, Floats]:
    """By name of a cost or a score, its values of all networks."""
    costs = {name: np.array([float(n[name]) for n in scored.values()]) for name in COSTS}
    return costs | {name: np.array([n["scores"][name] for n in scored.values()]) for name in SCORES}


def _searches(
    networks: Scored,
    start: str,
    setting: samplers.SamplerSetting,
    predict: Callable[[Rows], Floats],
) -> dict[str, list[float]]:
    """By number of trials, the value of the predictor's search for each seed.

    Its first trials are those that `start` puts first of `POOL` networks within the target.
    """
    candidates = Candidates(networks.records.space, samplers.OBJECTIVES[setting.form])
    macs, target = networks.orders["macs"], candidates.objective.target
    affordable = np.flatnonzero(macs <= target)
    searches = []
    for seed in SEEDS:
        pool = np.random.default_rng([seed, 2]).permutation(affordable)[:POOL]
        order = np.argsort(-networks.orders[start][pool], kind="stable")
        method = begun(networks.rows[pool[order][:FIRST]])
        searches.append(
            samplers.SimulatedSearch(Sampler(method, candidates, seed), samplers.noise(seed))
        )
    samplers.run(searches, predict, setting, TRIALS)
    at = [count for count in samplers.AT if count <= TRIALS]
    return {str(count): [round(search.value(count), 6) for search in searches] for count in at}


def begun(first: Rows) -> Method:
    """The predictor, which is given its first trials."""
    predictor = Predictor()

    def method(
        candidates: Candidates, history: History, rng: np.random.Generator
    ) -> Iterator[tuple[Rows, Mapping[str, Any]]]:
        if history.number < len(first):
            yield first[history.number], {}
        else:
            yield from predictor(candidates, history, rng)

    return method


def correlations(scored: Mapping[str, Any]) -> dict[str, float]:
    """Kendall's τ of each cost and each score with the accuracy of the trained network."""
    accuracy = [network["accuracy"] for network in scored.values()]
    return {n: float(kendalltau(each, accuracy).statistic) for n, each in values(scored).items()}


def of_a_model(networks: Scored) -> float:
    """Kendall's τ of what the predictor's model expects, once `KNOWN` networks are trained.

    The median over draws of those; the τ is that of the other networks.
    """
    accuracy = networks.accuracy
    design = Features(tabulate(networks.records.space))(networks.rows)
    rng = np.random.default_rng(0)
    taus = []
    for _ in range(DRAWS):
        order = rng.permutation(len(accuracy))
        known, new = order[:KNOWN], order[KNOWN:]
        model = AccuracyModel(design[known], accuracy[known])
        taus.append(kendalltau(model.expect(design[new]), accuracy[new]).statistic)
    return float(np.median(taus))


def _load(path: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"networks": {}, "searches": {}}
    return json.loads(path.read_text("utf-8")) if path.is_file() else empty


def _write(found: dict[str, Any], out: Path) -> None:
    found["environment"] = environment()
    write_file(out, json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Measures what is missing, and prints what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path, help="CIFAR-10")
    parser.add_argument("records", type=Path, help="anb_dataset_jsons.tar.gz")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    with machine.prepared(1):
        measure(given.photographs, given.records, given.out)
    found = _load(given.out)
    for data, scored in found["networks"].items():
        for name, tau in correlations(scored).items():
            print(f"{data}: Kendall's tau of {name} and accuracy: {tau:.2f}")
    print(f"imagenet: of a model of {KNOWN} training runs: {found['model']:.2f}")
    for name, searches in found["searches"].items():
        print(name, {count: round(float(np.median(v)), 4) for count, v in searches.items()})


if __name__ == "__main__":
    main()
