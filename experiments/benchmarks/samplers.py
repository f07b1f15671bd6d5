"""How many trials each sampler needs, on networks that were really trained on ImageNet.

The objective is a surrogate of Accel-NASBench's 5,138 training runs: gradient boosting, which is
not the kind of model that the sampler `predictor` uses, and once a Gaussian process, which is. Six
settings: the reward's soft and hard form, each without noise and with 0.3 or 1.3 points of noise on
every accuracy. A sampler's value after n trials is the noise-free reward of the best that it
*observed*.
A seventh setting has two objectives, accuracy and MACs, and its value is the front's hypervolume.

`python -m experiments.benchmarks.samplers RECORDS` measures, the headline first, and goes on where
it was stopped; every search is written to `experiments/results/samplers.json` as it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, create_trial

from experiments.benchmarks import outside_samplers
from experiments.evaluators.records import (
    NetworkRecords,
    Surrogate,
    SurrogateName,
    quality,
    read,
    surrogate,
)
from search.candidates import Candidates
from search.objective import Objective
from search.pareto import hypervolume
from search.samplers.base import Sampler
from search.samplers.observations import Observations, combined, observe
from space import choices, presets
from space.cost import cost
from space.encoding import Encoder
from space.evaluation import Budget, Job
from space.files import write_file

SPACE = "accel_nasbench"
AT = (25, 50, 100, 200, 500, 1_000)
#: Lengths of short searches, and the numbers of trials at which they are compared.
SHORT = (10, 20, 30)
COMPARED = (10, 20, 30, 50, 100)
#: Seeds that no sampler was tuned on (those of tuning were below 100), in blocks.
BLOCKS = tuple(tuple(range(first, first + 5)) for first in range(100, 120, 5))
NOISE, MUCH_NOISE = 0.003, 0.013
OBJECTIVES = {
    "soft": Objective(target=390_000_000),
    "hard": Objective(target=250_000_000, exponent_below=0.0, exponent_above=-1.0),
    "two objectives": Objective(target=390_000_000, pareto=("macs",)),
}
#: Samplers and the trials of each of their searches, as many as can be afforded.
HEADLINE = {
    "predictor": 1_000,
    "tpe": 1_000,
    "tpe_multivariate": 1_000,
    "random": 1_000,
    "evolution": 1_000,
    "local": 1_000,
}
OTHERS = {"controller": 1_000, "nsga2": 1_000, "nsga3": 1_000}
SLOW = {"gp": 100, "brute_force": 200}
#: Samplers of others, which are measured where they are installed.
OUTSIDE = dict.fromkeys(outside_samplers.PACKAGES, 100)
OF_TWO = dict.fromkeys(("predictor", "tpe", "nsga2", "random"), 200)
#: Short searches of the predictor, which is told their length, by the name that results give them.
SHORT_PREDICTOR = {f"predictor, {trials} trials": trials for trials in SHORT}
#: The predictor whatever the length of the search, as it begins from 50 trials on.
RANDOM_START = "predictor, 16 random first"
BASELINES = dict.fromkeys(("tpe", "tpe_multivariate", "random"), 100)
#: The predictor that is given what a search of another seed for the other reward observed.
WARM = "predictor, warm"
WARM_TRIALS = 200
RESULT = Path(__file__).parents[1] / "results" / "samplers.json"


@dataclass(frozen=True)
class SamplerSetting:
    """One objective, with or without noise (a standard deviation of accuracy, a fraction)."""

    form: str
    noise: float

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.form}, noise {100 * self.noise:g}" if self.noise else f"{self.form}, exact"


SETTINGS = tuple(
    SamplerSetting(form, noise) for form, noise in product(("soft", "hard"), (0.0, NOISE))
)
NOISY = tuple(SamplerSetting(form, MUCH_NOISE) for form in ("soft", "hard"))
TWO = SamplerSetting("two objectives", 0.0)


@dataclass(frozen=True)
class SamplerTask:
    """Searches of some seeds by one sampler, side by side."""

    kind: SurrogateName
    sampler: str
    setting: SamplerSetting
    seeds: tuple[int, ...]
    trials: int


def plan() -> Iterator[SamplerTask]:
    """All there is to measure, what matters most first."""
    for block in BLOCKS[:2]:
        yield from _jobs("boosting", HEADLINE, block)
        yield from _jobs("boosting", OF_TWO, block, (TWO,))
        yield from _jobs("boosting", {WARM: 100}, block)
    yield from _jobs("boosting", OTHERS, BLOCKS[0])
    for block in BLOCKS[:2]:
        yield from _jobs("gaussian_process", HEADLINE | {"predictor": 200}, block)
    for block in BLOCKS[2:]:
        yield from _jobs("boosting", HEADLINE, block)
    for block in BLOCKS[1:]:
        yield from _jobs("boosting", OTHERS, block)
    for block in BLOCKS:
        yield from _jobs("boosting", SLOW, block)
    noisy = [setting for setting in SETTINGS if setting.noise]
    for block in BLOCKS[:2]:
        yield from _jobs("boosting", OUTSIDE, block, noisy)
    short = SHORT_PREDICTOR | {RANDOM_START: max(SHORT)}
    for block in BLOCKS:
        yield from _jobs("boosting", short, block, (*SETTINGS, *NOISY))
    for block in BLOCKS[:2]:
        yield from _jobs("boosting", BASELINES, block, NOISY)
        yield from _jobs("gaussian_process", short, block, (*SETTINGS, *NOISY))


def _jobs(
    kind: SurrogateName,
    trials: Mapping[str, int],
    seeds: tuple[int, ...],
    settings: Sequence[SamplerSetting] = SETTINGS,
) -> Iterator[SamplerTask]:
    for sampler, setting in product(trials, settings):
        yield SamplerTask(kind, sampler, setting, seeds, trials[sampler])


@dataclass
class SimulatedSearch:
    """One search of one seed, in memory: what it was told, and what is really so."""

    sampler: Sampler
    noise: np.random.Generator
    trials: list[FrozenTrial] = field(default_factory=list)
    true: list[tuple[float, ...]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def ask(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The next row, timed."""
        began = time.process_time()
        proposal = self.sampler.propose(self.trials, len(self.trials))
        self.seconds.append(time.process_time() - began)
        candidate = proposal.candidate
        trial = create_trial(
            values=[0.0 for _ in self.sampler.candidates.objective.directions],
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
        values = self.sampler.candidates.objective.values
        job = Job(candidate.key, candidate.architecture, Budget(epochs=1))
        observed = accuracy + noise * float(self.noise.standard_normal())
        self.trials[-1].values = list(values(observed, job))
        self.true.append(values(accuracy, job))

    def value(self, trials: int) -> float:
        """The noise-free reward of the best observed among the first `trials`.

        With several objectives the hypervolume of their front; those have no noise here.
        """
        candidates = self.sampler.candidates
        if candidates.objective.pareto:
            most = [candidates.most(name) for name in candidates.objective.pareto]
            return hypervolume(np.array(self.true[:trials]), most)
        observed = [trial.value or 0.0 for trial in self.trials[:trials]]
        return self.true[int(np.argmax(observed))][0]

    @property
    def best(self) -> float:
        """The best network ever proposed by its noise-free reward, or the last hypervolume."""
        several = self.sampler.candidates.objective.pareto
        return self.value(len(self.true)) if several else max(self.true)[0]


def simulate(
    name: str, setting: SamplerSetting, predict: Surrogate, seeds: Sequence[int], trials: int
) -> list[SimulatedSearch]:
    """Searches of all seeds, side by side, so that the surrogate is asked for all at once."""
    candidates = Candidates(choices.load(SPACE), OBJECTIVES[setting.form])
    priors = _priors(setting, predict, seeds) if name == WARM else [None for _ in seeds]
    method = name.partition(",")[0]
    length = SHORT_PREDICTOR.get(name)  # others are not told: they search as in a long search
    searches = [
        SimulatedSearch(
            outside_samplers.create(method, candidates, seed, prior, length), noise(seed)
        )
        for seed, prior in zip(seeds, priors, strict=True)
    ]
    run(searches, predict, setting, trials)
    return searches


def noise(seed: int) -> np.random.Generator:
    """What a search's accuracies are disturbed by."""
    return np.random.default_rng([seed, 1])


def run(
    searches: Sequence[SimulatedSearch], predict: Surrogate, setting: SamplerSetting, trials: int
) -> None:
    """Runs `searches` for so many trials, each in turn."""
    for _ in range(trials):
        accuracies = predict(np.array([search.ask() for search in searches]))
        for search, accuracy in zip(searches, accuracies.tolist(), strict=True):
            search.tell(accuracy, setting.noise)


def _priors(
    setting: SamplerSetting, predict: Surrogate, seeds: Sequence[int]
) -> list[Observations | None]:
    """What earlier searches observed: each of another seed, for the other reward."""
    other = SamplerSetting("hard" if setting.form == "soft" else "soft", setting.noise)
    earlier = simulate("predictor", other, predict, [1_000 + seed for seed in seeds], WARM_TRIALS)
    return [combined([observe(search.sampler.candidates, search.trials)]) for search in earlier]


@cache
def _records(path: Path) -> NetworkRecords:
    return read(path, choices.load(SPACE))


@cache
def _surrogate(path: Path, kind: SurrogateName) -> Surrogate:
    return surrogate(kind, _records(path))


def _name(task: SamplerTask, seed: int) -> str:
    return f"{task.kind} / {task.setting.name} / {task.sampler} / {seed}"


def measure(task: SamplerTask, predict: Surrogate) -> dict[str, Any]:
    """Each search of the task by name.

    A search holds its `values` at numbers of trials, the CPU `seconds` of a suggestion before each
    of them (median of the last 25), and the `best` network that it ever proposed, by its true
    reward.
    """
    at = [count for count in sorted({*AT, *COMPARED}) if count <= task.trials]
    searches = simulate(task.sampler, task.setting, predict, task.seeds, task.trials)
    return {
        _name(task, seed): {
            "surrogate": task.kind,
            "setting": task.setting.name,
            "sampler": task.sampler,
            "seed": seed,
            "values": {str(n): round(search.value(n), 6) for n in at},
            "seconds": {
                str(n): round(float(np.median(search.seconds[max(n - 25, 0) : n])), 5) for n in at
            },
            "best": round(search.best, 6),
        }
        for seed, search in zip(task.seeds, searches, strict=True)
    }


def references(path: Path, kind: SurrogateName) -> dict[str, Any]:
    """EfficientNet-B0 itself on the surrogate, and how far the surrogate is to be trusted."""
    space, b0 = choices.load(SPACE), presets.load("efficientnet_b0")
    chosen = Encoder(space)(b0)
    assert chosen is not None  # the space contains B0
    row = Candidates(space, OBJECTIVES["soft"]).row(chosen)
    accuracy = float(_surrogate(path, kind)(row[None])[0])
    return {
        "efficientnet_b0": {
            "accuracy": accuracy,
            "macs": cost(b0).macs,
            **{form: OBJECTIVES[form].reward(accuracy, cost(b0)) for form in ("soft", "hard")},
        },
        "quality": quality(kind, _records(path))._asdict(),
    }


def environment() -> dict[str, str]:
    """Where the CPU seconds were measured, and with what."""
    return {
        "processor": _processor(),
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("optuna", "numpy", "scipy", "scikit-learn")},
        **{
            package: version(package)
            for name, package in outside_samplers.PACKAGES.items()
            if outside_samplers.installed(name)
        },
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


def _load(path: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"references": {}, "searches": {}}
    return json.loads(path.read_text("utf-8")) if path.is_file() else empty


def _missing(task: SamplerTask, searches: Mapping[str, Any]) -> bool:
    known = [searches.get(_name(task, seed), {"values": {}}) for seed in task.seeds]
    return any(str(task.trials) not in search["values"] for search in known)


def main() -> None:
    """Measures what is missing and writes it, or writes the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, nargs="?", help="anb_dataset_jsons.tar.gz")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    for task in plan():
        found = _load(given.out)
        if not outside_samplers.installed(task.sampler) or not _missing(task, found["searches"]):
            continue
        if task.kind not in found["references"]:
            found["references"][task.kind] = references(given.records, task.kind)
        found["searches"] |= measure(task, _surrogate(given.records, task.kind))
        found["environment"] = environment()
        write_file(given.out, json.dumps(found, indent=1) + "\n")
        print(task.kind, task.setting.name, task.sampler, task.seeds, flush=True)


if __name__ == "__main__":
    main()
