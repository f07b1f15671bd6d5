"""How many trials each sampler needs, on networks that were really trained on ImageNet.

The objective is a surrogate fitted to Accel-NASBench's 5,138 trainings: by default gradient
boosting, which is not the kind of model that the sampler `predictor` uses. Four settings: the
reward's soft and hard form, each without noise and with 0.3 points of noise on every accuracy. A
sampler's value after n trials is the noise-free reward of the best that it *observed*.

`python -m experiments.benchmarks.samplers RECORDS` prints the table and writes
`experiments/results/samplers.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from optuna.trial import FrozenTrial, create_trial

from experiments.evaluators.records import (
    Records,
    Surrogate,
    SurrogateName,
    quality,
    read,
    surrogate,
)
from search import samplers
from search.candidates import Candidates
from search.objective import Objective
from search.samplers.base import Sampler
from space import choices, presets
from space.cost import cost
from space.files import write_file

SPACE = "accel_nasbench"
SAMPLERS = (
    "random",
    "tpe",
    "tpe_multivariate",
    "nsga2",
    "evolution",
    "local",
    "controller",
    "predictor",
)
AT = (50, 100, 200, 500, 1_000)
#: Seeds that no sampler was tuned on: those of tuning were below 100.
SEEDS = tuple(range(100, 120))
NOISE = 0.003
OBJECTIVES = {
    "soft": Objective(target=390_000_000),
    "hard": Objective(target=250_000_000, exponent_below=0.0, exponent_above=-1.0),
}
RESULT = Path(__file__).parents[1] / "results" / "samplers.json"


@dataclass(frozen=True)
class Setting:
    """One objective, with or without noise (a standard deviation of accuracy, a fraction)."""

    form: str
    noise: float

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.form}, noise {100 * self.noise:g}" if self.noise else f"{self.form}, exact"


SETTINGS = tuple(Setting(form, noise) for form, noise in product(OBJECTIVES, (0.0, NOISE)))


@dataclass
class Search:
    """One search of one seed, in memory: what it was told, and what is really so."""

    sampler: Sampler
    noise: np.random.Generator
    trials: list[FrozenTrial] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def ask(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The next row, timed."""
        began = time.perf_counter()
        proposal = self.sampler.propose(self.trials, len(self.trials))
        self.seconds.append(time.perf_counter() - began)
        candidate = proposal.candidate
        trial = create_trial(
            value=0.0,
            params=candidate.choices,
            distributions=self.sampler.candidates.distributions,
            user_attrs={"key": candidate.key},
            system_attrs=dict(proposal.notes),
        )
        trial.number = trial._trial_id = len(self.trials)
        self.trials.append(trial)
        return candidate.row

    def tell(self, accuracy: float, noise: float) -> None:
        """Ends the trial that was asked for."""
        candidate = self.sampler.candidates.at(self.trials[-1].params)
        reward = self.sampler.candidates.objective.reward
        observed = accuracy + noise * float(self.noise.standard_normal())
        self.trials[-1].value = reward(observed, candidate.cost)
        self.true.append(reward(accuracy, candidate.cost))

    def value(self, trials: int) -> float:
        """The noise-free reward of the best observed among the first `trials`."""
        observed = [trial.value or 0.0 for trial in self.trials[:trials]]
        return self.true[int(np.argmax(observed))]


def simulate(
    name: str, setting: Setting, predict: Surrogate, seeds: Sequence[int], trials: int
) -> list[Search]:
    """Searches of all seeds, side by side, so that the surrogate is asked for all at once."""
    candidates = Candidates(choices.load(SPACE), OBJECTIVES[setting.form])
    searches = [
        Search(samplers.create(name, candidates, seed), np.random.default_rng([seed, 1]))
        for seed in seeds
    ]
    for _ in range(trials):
        accuracies = predict(np.array([search.ask() for search in searches]))
        for search, accuracy in zip(searches, accuracies.tolist(), strict=True):
            search.tell(accuracy, setting.noise)
    return searches


@cache
def _records(path: Path) -> Records:
    return read(path, choices.load(SPACE))


@cache
def _surrogate(path: Path, kind: SurrogateName) -> Surrogate:
    return surrogate(kind, _records(path))


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    records: Path
    kind: SurrogateName
    sampler: str
    setting: Setting
    seeds: tuple[int, ...]
    trials: int

    def run(self) -> dict[str, Any]:
        """Values per number of trials and seed, and seconds of a suggestion around it."""
        predict = _surrogate(self.records, self.kind)
        searches = simulate(self.sampler, self.setting, predict, self.seeds, self.trials)
        at = [count for count in AT if count <= self.trials]
        return {
            "sampler": self.sampler,
            "setting": self.setting.name,
            "values": {count: [search.value(count) for search in searches] for count in at},
            "best": max(max(search.true) for search in searches),
            "seconds": {
                count: float(np.median([s.seconds[count - 25 : count] for s in searches]))
                for count in at
            },
        }


def references(path: Path, kind: SurrogateName) -> dict[str, Any]:
    """EfficientNet-B0 itself on the surrogate, and how far the surrogate is to be trusted."""
    space = choices.load(SPACE)
    candidates = Candidates(space, OBJECTIVES["soft"])
    b0 = presets.load("efficientnet_b0")
    row = np.array([_b0_choice(name, values) for name, values in space.choices.items()])
    assert candidates.at_row(row).key == b0.key
    accuracy = float(_surrogate(path, kind)(row[None])[0])
    return {
        "efficientnet_b0": {
            "accuracy": accuracy,
            "macs": cost(b0).macs,
            **{form: aim.reward(accuracy, cost(b0)) for form, aim in OBJECTIVES.items()},
        },
        "surrogate": {"kind": kind, **quality(kind, _records(path))._asdict()},
    }


def _b0_choice(name: str, values: tuple[Any, ...]) -> int:
    stage, kind = name.removeprefix("stage").split(".")
    published = presets.load("efficientnet_b0").stages[int(stage) - 1]
    value: Any = {
        "operator": f"inverted_e{published.expansion:g}",
        "kernel": published.kernel,
        "se": 0.25,
        "layers": 0,
    }[kind]
    return values.index(value)


def table(results: list[dict[str, Any]]) -> str:
    """Medians and quartiles as text, a block for each setting."""
    lines = []
    for setting in dict.fromkeys(result["setting"] for result in results):
        mine = [result for result in results if result["setting"] == setting]
        lines.append(f"{setting} (best known {max(result['best'] for result in mine):.5f})")
        for result in mine:
            cells = []
            for values in result["values"].values():
                low, middle, high = np.percentile(values, [25, 50, 75])
                cells.append(f"{middle:.5f} [{low:.5f}, {high:.5f}]")
            slow = max(result["seconds"].values())
            lines.append(f"  {result['sampler']:17} {'  '.join(cells)}  ≤ {1e3 * slow:.0f} ms")
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, help="anb_dataset_jsons.tar.gz")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=samplers.names())
    parser.add_argument("--surrogate", default="boosting", choices=get_args(SurrogateName))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    parser.add_argument("--trials", type=int, default=AT[-1])
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    jobs = [
        Job(given.records, given.surrogate, name, setting, SEEDS[: given.seeds], given.trials)
        for setting in SETTINGS
        for name in given.samplers
    ]
    with ProcessPoolExecutor(given.jobs) as pool:
        results = list(pool.map(Job.run, jobs))
    print(table(results))
    found = {
        **references(given.records, given.surrogate),
        "seeds": SEEDS[: given.seeds],
        "environment": {
            "python": platform.python_version(),
            "optuna": version("optuna"),
            "numpy": np.__version__,
        },
        "results": results,
    }
    write_file(given.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
