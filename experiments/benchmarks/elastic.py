"""How far the order of an elastic network's parts is that of networks trained by themselves.

    python -m experiments.benchmarks.elastic order ../shared/data/cifar10
    python -m experiments.benchmarks.elastic search ../shared/data/cifar10
    python -m experiments.benchmarks.elastic coefficients

Each unit of work is written as it ends, and a second start goes on after the last one. All run on
one thread; seconds are of the processor.

- `order`: the networks of `fidelity.json` (three long training runs each) as parts of an elastic
  network, a unit for each number of its epochs and each seed. Printed are Kendall's τ with the
  networks' mean accuracy, its 95 % interval over random choices of the networks, that of the
  networks' short training runs, the difference of both, and the τ of two elastic seeds.
- `search`: what a search finds within so many minutes, a unit for each way, time and seed: the
  `elastic` network, in two thirds of the time, then its parts; or `proxies`, short training runs.
  Either way the predictor proposes, and the best is trained by itself, beyond the time.
- `coefficients`: a grid for α, β and γ on drawn letters whose every candidate is trained five times
  by itself, a unit each, and the candidates as parts of an elastic network that costs as much as so
  many of these training runs, a unit for each cost and seed. Parts are measured on held-out images,
  the training runs on test images. Printed is how far the elastic winner is behind the best of the
  training runs' means, and ahead of balanced growth and of a random candidate, with 95 % intervals
  over elastic seeds and training runs.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import kendalltau, t

from experiments.benchmarks import fidelity
from experiments.benchmarks.cost import hardware
from experiments.config import DataConfig, TrainConfig
from experiments.data.load import load
from experiments.evaluators.training import InitialWeights, TrainingEvaluator
from experiments.runs.environment import environment
from experiments.training.elastic import RANDOM_PARTS
from scaling.decision import imbalance
from scaling.grid import GridCandidate, realised
from search import samplers
from search.executors.local import Local
from search.ledger import job_of
from search.search import Search
from search.study import open_study, ranked
from space.cost import cost
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

#: Of `coefficients`: pixels of the baseline, step and tolerance of the grid, training and held-out
#: images, epochs and seeds of a training run, and what an elastic network costs in such runs.
PIXELS, STEP, TOLERANCE, LETTERS = 16, 0.05, 0.1, (3_000, 2_000)
GRID_EPOCHS, GRID_SEEDS, COSTS, ELASTIC_SEEDS = 8, range(5), (1.5, 6.0), range(10)

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
        parts, training = elastic(evaluate, Elastic(candidates.space), Budget(length, seed=seed))
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
        mean, low, high = difference(every, [*accuracies("proxy").T], truth)
        print(f"{length} epochs − short runs: τ {mean:+.2f} ({low:+.2f} – {high:+.2f})")


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
            pace = replace(evaluate, checkpoints=place / "pace")
            seconds = elastic(pace, form, Budget(1, seed=seed))[1]
            length = max(1, int(60 * limit * TRAINING / seconds))
            measuring, _ = elastic(evaluate, form, Budget(length, seed=seed))
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


@app.command()
def coefficients(
    costs: Annotated[list[float] | None, typer.Option(help="In training runs.")] = None,
    result: Result = RESULT,
) -> None:
    """Chooses α, β and γ by parts, and prints what the choice is worth by the whole grid."""
    baseline = replace(fidelity.networks().space.base, resolution=PIXELS)
    grid = realised(baseline, STEP, TOLERANCE)
    form = Elastic(tuple(each.architecture for each in grid))

    def truth(candidate: GridCandidate, place: Path) -> dict[str, Any]:
        evaluate, began = letters(place, test=True), time.process_time()
        budgets = [Budget(GRID_EPOCHS, seed=seed) for seed in GRID_SEEDS]
        found = [evaluate(candidate.architecture, each, go_on).accuracy for each in budgets]
        return {"accuracies": found, "training": time.process_time() - began}

    def parts(runs: float, seed: int, place: Path) -> dict[str, Any]:
        epochs = runs * GRID_EPOCHS * fmean(each.cost.macs for each in grid) / sandwich(form)
        spent = Budget(math.ceil(epochs), epochs / math.ceil(epochs), seed=seed)
        evaluate, training = elastic(letters(place), form, spent)
        began, budget = time.process_time(), Budget(0, start=evaluate.starts[0].name)
        found = [evaluate(each.architecture, budget, go_on).accuracy for each in grid]
        return {
            "accuracies": found,
            "training": training,
            "measuring": time.process_time() - began,
        }

    names = {each.label: f"coefficients, {each.label}" for each in grid}
    work: dict[str, tuple[Any, ...]] = {names[each.label]: (truth, each) for each in grid}
    lengths = {
        runs: [f"coefficients, {runs:g} training runs, seed {seed}" for seed in ELASTIC_SEEDS]
        for runs in costs or COSTS
    }
    for runs, own in lengths.items():
        work |= {name: (parts, runs, seed) for name, seed in zip(own, ELASTIC_SEEDS, strict=True)}
    units = measured(work, result)
    alone = np.array([units[name]["accuracies"] for name in names.values()])
    balanced = min(range(len(grid)), key=lambda place: round(imbalance(grid[place]), 9))
    others = {"balanced growth": alone[balanced], "a random candidate": alone.mean(axis=0)}
    means = alone.mean(axis=1)
    print(f"{len(grid)} candidates, {100 * np.ptp(means):.1f} points from worst to best")
    for runs, own in lengths.items():
        winners = np.array([units[name]["accuracies"] for name in own]).argmax(axis=1)
        regret = 100 * (means.max() - means[winners].mean())
        print(f"{runs:g} training runs, {len(own)} elastic seeds: {regret:.2f} points of regret")
        for name, other in others.items():
            mean, half = ahead(alone[winners], other)
            print(f"  ahead of {name} by {mean:+.2f} ± {half:.2f} points")


def ahead(winners: Floats, other: Floats) -> tuple[float, float]:
    """How far winners are ahead of another network, in points, and half the 95 % interval.

    `winners` has the accuracies of each elastic seed's winner in the training runs (elastic seeds ×
    runs), `other` those of the other one (runs). The variance is the sum of the mean's over elastic
    seeds and over runs; with the degrees of freedom of the fewer, Student's interval is wide rather
    than narrow (measured: it covers 97 to 99 times in 100).
    """
    differences = 100 * (winners - other)
    variance = sum(
        differences.mean(axis=axis).var(ddof=1) / differences.shape[1 - axis] for axis in (0, 1)
    )
    half = t.isf(0.025, min(differences.shape) - 1) * math.sqrt(variance)
    return float(differences.mean()), float(half)


def sandwich(form: Elastic) -> float:
    """The mean MACs of a step for one image: the largest part, the smallest and random ones."""
    rng = np.random.default_rng(0)
    drawn = fmean(cost(form.draw(rng)).macs for _ in range(RESAMPLES))
    return cost(form.largest).macs + cost(form.smallest).macs + RANDOM_PARTS * drawn


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


def letters(place: Path, *, test: bool = False) -> TrainingEvaluator:
    """What trains on drawn letters, as the demo does; it measures on held-out or on test images."""
    config = DataConfig(source="glyphs", limit=sum(LETTERS), held_out=LETTERS[1])
    data = load(config, resolution=2 * PIXELS, seed=0)
    return TrainingEvaluator(
        train=data.train,
        held_out=data.test if test else data.held_out,
        config=TrainConfig(batch_size=64, learning_rate=1.6, flip=False),
        checkpoints=place / "checkpoints",
        threads=1,
    )


def elastic(
    evaluate: TrainingEvaluator, form: Elastic, budget: Budget
) -> tuple[TrainingEvaluator, float]:
    """What measures parts of `form`, once that has trained, and the seconds of its training."""
    began = time.process_time()
    weights = evaluate.checkpoints / "weights"
    trains = replace(evaluate, elastic=form, weights=weights)
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
    return _bootstrap(lambda rows: tau(one[rows], other[rows]), len(one))


def difference(
    ones: Sequence[Floats], others: Sequence[Floats], truth: Floats
) -> tuple[float, float, float]:
    """The mean τ of `ones` with the `truth` less that of `others`, and its interval as above."""

    def of(rows: NDArray[np.int64]) -> float:
        means = [fmean(tau(each[rows], truth[rows]) for each in group) for group in (ones, others)]
        return means[0] - means[1]

    return of(np.arange(len(truth))), *_bootstrap(of, len(truth))


def _bootstrap(value: Callable[[NDArray[np.int64]], float], count: int) -> tuple[float, float]:
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    low, high = np.nanquantile([value(rows) for rows in draws], (0.025, 0.975))
    return float(low), float(high)


def go_on(_: Epoch) -> bool:
    """Stops nothing."""
    return False


if __name__ == "__main__":
    app()
