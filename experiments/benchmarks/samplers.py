"""How many trials each sampler needs, on networks that were really trained on ImageNet.

The objective is a surrogate fitted to Accel-NASBench's 5,138 trainings: gradient boosting, which is
not the kind of model that the sampler `predictor` uses, and once a Gaussian process, which is. Four
settings: the reward's soft and hard form, each without noise and with 0.3 points of noise on every
accuracy. A sampler's value after n trials is the noise-free reward of the best that it *observed*.

`python -m experiments.benchmarks.samplers RECORDS` measures, the headline first, and goes on where
it was stopped; every search is written to `experiments/results/samplers.json` as it ends. With
`--write` it puts what is there so far into docs/search.md, as tables and a figure.
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
from space.encoding import Encoder
from space.files import write_file

SPACE = "accel_nasbench"
AT = (50, 100, 200, 500, 1_000)
#: Seeds that no sampler was tuned on (those of tuning were below 100), in blocks.
BLOCKS = tuple(tuple(range(first, first + 5)) for first in range(100, 120, 5))
NOISE = 0.003
OBJECTIVES = {
    "soft": Objective(target=390_000_000),
    "hard": Objective(target=250_000_000, exponent_below=0.0, exponent_above=-1.0),
}
#: Samplers and the trials of each of their searches, as many as can be afforded.
HEADLINE = {
    "predictor": 200,
    "tpe": 1_000,
    "tpe_multivariate": 1_000,
    "random": 1_000,
    "evolution": 1_000,
    "local": 1_000,
}
OTHERS = {"controller": 1_000, "nsga2": 1_000, "nsga3": 1_000}
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


@dataclass(frozen=True)
class Job:
    """Searches of some seeds by one sampler, side by side."""

    kind: SurrogateName
    sampler: str
    setting: Setting
    seeds: tuple[int, ...]
    trials: int


def plan() -> Iterator[Job]:
    """All there is to measure, what matters most first."""
    for block in BLOCKS[:2]:
        yield from _jobs("boosting", HEADLINE, block)
    yield from _jobs("boosting", OTHERS, BLOCKS[0])
    yield from _jobs("gaussian_process", HEADLINE, BLOCKS[0])
    yield from _jobs("boosting", {"predictor": 1_000}, BLOCKS[0])
    yield from _jobs("boosting", {"gp": 100}, BLOCKS[0][:3])
    for block in BLOCKS[2:]:
        yield from _jobs("boosting", HEADLINE, block)
    for block in BLOCKS[1:]:
        yield from _jobs("boosting", OTHERS, block)


def _jobs(kind: SurrogateName, trials: Mapping[str, int], seeds: tuple[int, ...]) -> Iterator[Job]:
    for sampler, setting in product(trials, SETTINGS):
        yield Job(kind, sampler, setting, seeds, trials[sampler])


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
        began = time.process_time()
        proposal = self.sampler.propose(self.trials, len(self.trials))
        self.seconds.append(time.process_time() - began)
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


def _name(job: Job, seed: int) -> str:
    return f"{job.kind} / {job.setting.name} / {job.sampler} / {seed}"


def measure(job: Job, predict: Surrogate) -> dict[str, Any]:
    """Each search of the job by name.

    A search holds its `values` at numbers of trials, the CPU `seconds` of a suggestion around each
    of them (median of 25), and the `best` network that it ever proposed, by its true reward.
    """
    at = [count for count in AT if count <= job.trials]
    searches = simulate(job.sampler, job.setting, predict, job.seeds, job.trials)
    return {
        _name(job, seed): {
            "surrogate": job.kind,
            "setting": job.setting.name,
            "sampler": job.sampler,
            "seed": seed,
            "values": {str(n): round(search.value(n), 6) for n in at},
            "seconds": {str(n): round(float(np.median(search.seconds[n - 25 : n])), 5) for n in at},
            "best": round(max(search.true), 6),
        }
        for seed, search in zip(job.seeds, searches, strict=True)
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
            **{form: aim.reward(accuracy, cost(b0)) for form, aim in OBJECTIVES.items()},
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
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


def _load(path: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"references": {}, "searches": {}}
    return json.loads(path.read_text("utf-8")) if path.is_file() else empty


def _missing(job: Job, searches: Mapping[str, Any]) -> bool:
    known = [searches.get(_name(job, seed), {"values": {}}) for seed in job.seeds]
    return any(str(job.trials) not in search["values"] for search in known)


def main() -> None:
    """Measures what is missing and writes it, or writes the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, nargs="?", help="anb_dataset_jsons.tar.gz")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    for job in plan():
        found = _load(given.out)
        if not _missing(job, found["searches"]):
            continue
        if job.kind not in found["references"]:
            found["references"][job.kind] = references(given.records, job.kind)
        found["searches"] |= measure(job, _surrogate(given.records, job.kind))
        found["environment"] = environment()
        write_file(given.out, json.dumps(found, indent=1) + "\n")
        print(job.kind, job.setting.name, job.sampler, job.seeds, flush=True)


if __name__ == "__main__":
    main()
