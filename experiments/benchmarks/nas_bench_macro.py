"""Regret on NAS-Bench-Macro: all 6,561 networks of a space were trained, so the best is known.

Eight layers, each the identity or an inverted bottleneck of expansion 3 (kernel 3) or 6 (kernel 5),
were trained three times on CIFAR-10 (Su et al. 2021, "Prioritized Architecture Sampling with
Monto-Carlo Tree Search"). A search is shown the test accuracy of one seed, as a search on one's own
images is, within a hard bound on MACs. Its regret is how far the mean accuracy of the network that
measured best lies below that of the best network within the bound.

`python -m experiments.benchmarks.nas_bench_macro FILE` measures what is missing, and writes
`experiments/results/nas_bench_macro.json` after every sampler and bound.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, create_trial

from experiments.benchmarks import outside_samplers
from search.candidates import Candidates
from search.objective import Bounds, Objective
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.choices import Space
from space.cost_table import CostTable, tabulate
from space.files import write_file

RESULT = Path(__file__).parents[1] / "results" / "nas_bench_macro.json"
SAMPLERS = (
    *("predictor", "tpe", "tpe_multivariate", "evolution", "random"),
    *outside_samplers.PACKAGES,
)
#: Most MACs, in millions; the networks have 8 to 106.
BOUNDS = (40, 60, 80)
TRIALS = 50
SEEDS = range(20)

#: What stands for a layer's three choices: our spaces know no identity, and costs are the file's.
_LAYERS = ("separable", "inverted_e3", "inverted_e6")


class Truth:
    """The file: by a network's name, a digit a layer, its accuracies (fractions) and costs."""

    def __init__(self, path: Path) -> None:
        self._records: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self.mean: dict[str, float] = {
            name: each["mean_acc"] / 100 for name, each in self._records.items()
        }

    def macs(self, name: str) -> int:
        """Exact MACs."""
        return int(self._records[name]["flops"])

    def params(self, name: str) -> int:
        """Exact parameters."""
        return int(self._records[name]["params"])

    def look(self, name: str, rng: np.random.Generator) -> float:
        """The accuracy of one seed."""
        return float(rng.choice(self._records[name]["test_acc"])) / 100

    def best(self, most: int) -> float:
        """The greatest mean accuracy within a bound on MACs."""
        return max(mean for name, mean in self.mean.items() if self.macs(name) <= most)


class MacroCandidates(Candidates):
    """The networks of NAS-Bench-Macro, with its costs in place of ours."""

    def __init__(self, truth: Truth, most: int) -> None:
        objective = Objective(
            target=most, exponent_below=0.0, exponent_above=0.0, bounds=Bounds(macs=(1, most))
        )
        super().__init__(_space(), objective)
        self._truth = truth

    @cached_property
    def table(self) -> CostTable:
        """MACs and parameters are sums over layers; those of stem and head are divided evenly.

        The file has no activations: they are given as MACs.
        """
        table, least = tabulate(self.space), "0" * 8
        for layer, stage in enumerate(table.stages):
            for choice in range(3):
                name = least[:layer] + str(choice) + least[layer + 1 :]
                macs = self._truth.macs(name) - self._truth.macs(least) * 7 // 8
                params = self._truth.params(name) - self._truth.params(least) * 7 // 8
                stage.costs[choice :: stage.combinations] = macs, params, macs
        return table


def _space() -> Space:
    stages = tuple(
        Stage(Operator.INVERTED, channels=channels, repeats=1, stride=1, expansion=3)
        for channels in (32, 32, 64, 64, 64, 128, 128, 128)
    )
    base = Architecture(Stem(32), stages, Head(128), resolution=32, num_classes=10)
    return Space(
        "nas_bench_macro", base, {f"stage{layer}.operator": _LAYERS for layer in range(1, 9)}
    )


def search(
    sampler: str, candidates: Candidates, truth: Truth, seed: int, trials: int
) -> list[FrozenTrial]:
    """A search of one seed, in memory."""
    rng = np.random.default_rng([seed, 1])
    made = outside_samplers.create(sampler, candidates, seed, trials=trials)
    told: list[FrozenTrial] = []
    for number in range(trials):
        candidate = made.propose(told, number).candidate
        trial = create_trial(
            value=truth.look(_name(candidate.row), rng),
            params=candidate.choices,
            distributions=candidates.distributions,
            user_attrs={"key": candidate.key},
        )
        trial.number = number
        told.append(trial)
    return told


def regret(trials: Sequence[FrozenTrial], candidates: Candidates, truth: Truth, most: int) -> float:
    """Of the network that measured best, in points of accuracy."""
    answer = max(trials, key=lambda trial: (trial.value or 0.0, -trial.number))
    mean = truth.mean[_name(candidates.row(answer.params))]
    return round(100 * (truth.best(most) - mean), 4)


def _name(row: Any) -> str:
    return "".join(map(str, row.tolist()))


def plan() -> Iterator[tuple[str, int]]:
    """Samplers and bounds, what matters most first."""
    yield from ((sampler, most) for most, sampler in product(BOUNDS, SAMPLERS))


def main() -> None:
    """Measures what is missing, prints mean regrets, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="nas-bench-macro_cifar10.json")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    truth = Truth(given.file)
    found = json.loads(given.out.read_text("utf-8")) if given.out.is_file() else {}
    for sampler, most in plan():
        name = f"{sampler} / {most}M MACs"
        if name not in found and not outside_samplers.installed(sampler):
            continue
        if name not in found:
            macs = most * 1_000_000
            candidates = MacroCandidates(truth, macs)
            searches = (search(sampler, candidates, truth, seed, TRIALS) for seed in SEEDS)
            found[name] = [regret(trials, candidates, truth, macs) for trials in searches]
            write_file(given.out, json.dumps(found, indent=1) + "\n")
        print(name, f"regret: {fmean(found[name]):.3f}", flush=True)


if __name__ == "__main__":
    main()
