"""How far the order of an elastic network's parts is that of networks trained by themselves.

    python -m experiments.benchmarks.elastic order ../shared/data/cifar10
    python -m experiments.benchmarks.elastic search ../shared/data/cifar10

Each unit of work is written as it ends, and a second start goes on after the last one. All run on
one thread; seconds are of the processor.

- `order`: the networks of `fidelity.json` (three long training runs each) as parts of an elastic
  network, a unit for each number of its epochs and each seed. Printed are Kendall's τ with the
  networks' mean accuracy, its 95 % interval over random choices of the networks, that of the
  networks' short training runs, and the τ of two elastic seeds with each other.
- `search`: what a search finds within so many minutes, a unit for each way, time and seed: the
  `elastic` network, in two thirds of the time, then its parts; or `proxies`, short training runs.
  Either way the predictor proposes, and the best is trained by itself, beyond the time.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import kendalltau

from experiments.benchmarks import fidelity
from experiments.benchmarks.cost import hardware
from experiments.config import DataConfig, TrainConfig
from experiments.data.load import load
from experiments.evaluators.training import InitialWeights, TrainingEvaluator
from experiments.runs.environment import environment
from search import samplers
from search.executors.local import Local
from search.ledger import job_of
from search.search import Search
from search.study import open_study, ranked
from space.elastic import Elastic
from space.evaluation import Budget, Epoch, Job, Measurement, Status
from space.files import write_file

RESULT = Path(__file__).parents[1] / "results" / "elastic.json"
EPOCHS, SEEDS = (30, 100), (0, 1, 2)
MINUTES = (30, 60, 120)
#: Of a search's time, what the elastic network trains for (assumed).
TRAINING = 2 / 3
#: Random choices of networks for an interval.
RESAMPLES = 1_000

app = typer.Typer(help=__doc__.splitlines()[0])
Floats = NDArray[np.float64]
Source = Annotated[Path, typer.Argument(help="CIFAR-10.")]
Result = Annotated[Path, typer.Option(help="The JSON file to write.")]


@app.command()
def order(
    source: Source,
    epochs: Annotated[list[int] | None, typer.Option(help="Of the elastic network.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Of the elastic network.")] = None,
    result: Result = RESULT,
) -> None:
    """Measures the networks of `fidelity.json` as parts, and prints the agreement."""
    lengths, draws = epochs or EPOCHS, seeds or SEEDS
    candidates = fidelity.networks()
    networks = [candidates.space.decode(each["choices"]) for each in known()]

    def unit(length: int, seed: int, place: Path) -> dict[str, Any]:
        evaluate = evaluator(source, place)
        parts, training = elastic(evaluate, Elastic(candidates.space), length, seed)
        began, budget = time.process_time(), Budget(0, start=parts.starts[0].name)
        found = [parts(network, budget, go_on).accuracy for network in networks]
        measuring = time.process_time() - began
        return {"accuracies": found, "training": training, "measuring": measuring}

    work = {
        f"order, {length} epochs, seed {seed}": (unit, length, seed)
        for length, seed in product(lengths, draws)
    }
    units = measured(work, result)
    truth = accuracies().mean(axis=1)
    for seed, found in enumerate(accuracies("proxy").T):
        low, high = interval(found, truth)
        print(f"short runs, seed {seed}: τ {tau(found, truth):.2f} ({low:.2f} – {high:.2f})")
    for length in lengths:
        every = [
            np.array(units[f"order, {length} epochs, seed {seed}"]["accuracies"]) for seed in draws
        ]
        for seed, found in zip(draws, every, strict=True):
            low, high = interval(found, truth)
            print(
                f"{length} epochs, seed {seed}: τ {tau(found, truth):.2f} ({low:.2f} – {high:.2f})"
            )
        for one, other in combinations(every, 2):
            print(f"{length} epochs, two elastic seeds: τ {tau(one, other):.2f}")


@app.command()
def search(
    source: Source,
    minutes: Annotated[list[int] | None, typer.Option(help="Of a search.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Of a search.")] = None,
    result: Result = RESULT,
) -> None:
    """Searches with an elastic network and with proxies in equal time, and prints both winners."""

    def unit(way: str, limit: int, seed: int, place: Path) -> dict[str, Any]:
        began = time.process_time()
        evaluate, candidates = evaluator(source, place), fidelity.networks()
        measuring, spent = evaluate, Budget(fidelity.PROXY_EPOCHS, seed=seed)
        if way == "elastic":
            form = Elastic(candidates.space)
            seconds = elastic(replace(evaluate, checkpoints=place / "pace"), form, 1, seed)[1]
            length = max(1, int(60 * limit * TRAINING / seconds))
            measuring, _ = elastic(evaluate, form, length, seed)
            spent = Budget(0, seed=seed, start=measuring.starts[0].name)
        study = open_study(f"sqlite:///{place / 'study.db'}", "search")
        sampler = samplers.create("predictor", candidates, seed, None, 10**6)
        proposer = Timed(Search(study, sampler, spent, trials=10**6), began + 60 * limit)
        Local().run(proposer, measuring)
        best = ranked(study)[0]
        final = Budget(fidelity.LONG_EPOCHS, seed=seed)
        told = evaluate(job_of(best).architecture, final, go_on)
        return {
            "accuracy": told.accuracy,
            "trials": len(ranked(study)),
            "cost": best.user_attrs["cost"],
        }

    ways = ("elastic", "proxies")
    work = {
        f"search, {way}, {limit} minutes, seed {seed}": (unit, way, limit, seed)
        for way, limit, seed in product(ways, minutes or MINUTES, seeds or SEEDS)
    }
    for name, found in measured(work, result).items():
        if name in work:
            print(f"{name}: {100 * found['accuracy']:.1f} % after {found['trials']} trials")


def known() -> list[dict[str, Any]]:
    """The networks of `fidelity.json`."""
    networks: list[dict[str, Any]] = json.loads(fidelity.RESULT.read_text("utf-8"))["networks"]
    return networks


def accuracies(budget: str = "long") -> Floats:
    """Their accuracies after training runs of a `budget`, long or proxy (24 × 3 seeds)."""
    runs = [[run[budget][-1] for run in network["training_runs"]] for network in known()]
    return np.array([[end["accuracy"] for end in each] for each in runs])


def measured(work: Mapping[str, tuple[Any, ...]], result: Path) -> dict[str, dict[str, Any]]:
    """The units by name, as recorded in `result`; those that are missing are measured first."""
    torch.set_num_threads(1)
    found = json.loads(result.read_text("utf-8")) if result.is_file() else {"units": {}}
    for name, (unit, *arguments) in work.items():
        if name not in found["units"]:
            with tempfile.TemporaryDirectory() as place:
                found["units"][name] = unit(*arguments, Path(place))
            found |= {"about": hardware() | environment()}
            write_file(result, json.dumps(found, indent=1) + "\n")
            print(name, flush=True)
    units: dict[str, dict[str, Any]] = found["units"]
    return units


def evaluator(source: Path, place: Path) -> TrainingEvaluator:
    """What trains on the images that `fidelity.json` was measured on."""
    config = DataConfig(source=str(source), limit=fidelity.IMAGES, held_out=fidelity.HELD_OUT)
    data = load(config, resolution=fidelity.RESOLUTION, seed=0)
    return TrainingEvaluator(
        train=data.train,
        held_out=data.held_out,
        config=TrainConfig(),
        checkpoints=place / "checkpoints",
        threads=1,
    )


def elastic(
    evaluate: TrainingEvaluator, form: Elastic, epochs: int, seed: int
) -> tuple[TrainingEvaluator, float]:
    """What measures parts of `form`, once that has trained, and the seconds of its training."""
    began = time.process_time()
    weights = evaluate.checkpoints / "weights"
    trains, budget = replace(evaluate, elastic=form, weights=weights), Budget(epochs, seed=seed)
    told = trains(form.largest, budget, go_on)
    assert told.status is Status.COMPLETE, told.reason
    path = trains.weights_path(form.largest, budget)
    initial = InitialWeights("elastic", form.largest, path, elastic=form)
    return replace(evaluate, starts=(initial,)), time.process_time() - began


class Timed:
    """A search that proposes nothing after `end`, in seconds of the processor."""

    def __init__(self, inner: Search, end: float) -> None:
        self._inner, self._end = inner, end

    def ask(self) -> Job | None:
        """The next job, if there is time."""
        return self._inner.ask() if time.process_time() < self._end else None

    def report(self, job: Job, epoch: Epoch) -> bool:
        """Passes an epoch on."""
        return self._inner.report(job, epoch)

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Passes a result on."""
        self._inner.tell(job, measurement)


def tau(one: Floats, other: Floats) -> float:
    """Kendall's τ."""
    return float(kendalltau(one, other).statistic)


def interval(one: Floats, other: Floats) -> tuple[float, float]:
    """The 95 % interval of τ over networks drawn with replacement (percentile bootstrap)."""
    rng, count = np.random.default_rng(0), len(one)
    draws = rng.integers(count, size=(RESAMPLES, count))
    low, high = np.nanquantile([tau(one[rows], other[rows]) for rows in draws], (0.025, 0.975))
    return float(low), float(high)


def go_on(_: Epoch) -> bool:
    """Stops nothing."""
    return False


if __name__ == "__main__":
    app()
