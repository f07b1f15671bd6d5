"""What a recipe will take, measured: seconds of short trainings, then hours and bytes of stages.

What a training takes per image is measured on networks from the smallest to the largest that the
run can meet, and interpolated in between by their MACs. What is not known beforehand (which network
becomes the baseline, how many trainings the pruner ends) widens the interval.
"""

from __future__ import annotations

import heapq
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from experiments.config import Recipe
from experiments.data.load import load
from experiments.planning.networks import (
    coefficient_grid,
    count_combinations,
    draw_candidates,
    family_members,
)
from experiments.planning.training_speed import Probe, Stand
from experiments.runs.opening import largest_resolution
from experiments.training import machine
from scaling.race import ladder
from scaling.refine import FINALISTS
from space.architecture import Architecture
from space.cost import cost
from space.validation import InvalidInput

#: The least relative uncertainty of seconds (assumed: other work, heat, and what three networks say
#: of others).
_DOUBT = 0.1

#: Bytes of a trial in SQLite, of an empty database, and of a report (measured: 37 trials of the
#: demo take 217 KB, its report 1.0 MB).
_TRIAL_BYTES, _STORAGE_BYTES, _REPORT_BYTES = 6_000, 150_000, 1_000_000

#: Bytes of a parameter, and copies of the parameters in a checkpoint (weights, their average,
#: momentum) and of a finished member (weights, exported twice, kept beside the checkpoints).
_PARAM_BYTES, _CHECKPOINT_COPIES, _MEMBER_COPIES = 4, 3, 3


class Range(NamedTuple):
    """A quantity with the interval that it is expected in."""

    low: float
    middle: float
    high: float

    def __add__(self, other: Range) -> Range:  # type: ignore[override]
        """Sums of all three: what makes one stage long makes all long."""
        return Range(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class StageEstimate:
    """A stage's trainings, its seconds on this machine and on several such, and its bytes."""

    name: str
    trainings: int
    seconds: Range
    shared: Range
    bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a recipe will take; `combinations` of choices lie within the bounds, of `size` in all.

    `workers` is what this machine trains at a time, `machines` how many such machines `shared`
    seconds are for.
    """

    space: str
    size: int
    combinations: float
    macs: tuple[int, int, int]
    probes: tuple[Probe, ...]
    stages: tuple[StageEstimate, ...]
    cache_bytes: int
    workers: int
    machines: int

    @property
    def seconds(self) -> Range:
        """All stages here."""
        return sum((stage.seconds for stage in self.stages), Range(0, 0, 0))

    @property
    def shared(self) -> Range:
        """All stages on `machines`."""
        return sum((stage.shared for stage in self.stages), Range(0, 0, 0))

    @property
    def bytes(self) -> int:
        """All that is written."""
        return self.cache_bytes + sum(stage.bytes for stage in self.stages)


class Estimator:
    """A recipe with its images and measured speed, ready to say what any variant of it takes.

    `baselines` stand for the baseline that is not known yet: candidates of which a quarter, half
    and three quarters are cheaper. `told` hears what is being done.
    """

    def __init__(self, recipe: Recipe, told: Callable[[str], None] = lambda _: None) -> None:
        if recipe.evaluator.kind == "records":
            raise InvalidInput(
                "evaluator.kind: `records` looks networks up and trains none, so there is nothing "
                "to estimate; run it"
            )
        self.recipe = recipe
        pixels = recipe.data.resolution or largest_resolution(recipe)
        self.data = load(recipe.data, resolution=pixels, seed=recipe.seed)
        self._workers = (
            len(machine.worker_variables(recipe.executor))
            if recipe.executor.kind == "processes"
            else 1
        )
        told("drawing networks within the bounds")
        self._candidates, self._drawn = draw_candidates(recipe, self.data)
        self._macs = np.array([cost(each).macs for each in self._drawn])
        self.baselines = tuple(
            self._drawn[round(place * (len(self._drawn) - 1))] for place in (0.25, 0.5, 0.75)
        )
        self._combinations = count_combinations(self._candidates)
        self._families = tuple(family_members(recipe, each) for each in self.baselines)
        self._grid = coefficient_grid(recipe, self.baselines[1])
        self.probes = self._measured(told)

    def estimate(self, recipe: Recipe | None = None, machines: int = 1) -> Estimate:
        """What the recipe takes, or a variant that differs in trials and epochs alone."""
        recipe = recipe or self.recipe
        low, *_, high = self._macs
        return Estimate(
            space=recipe.space,
            size=self._candidates.space.size,
            combinations=self._combinations,
            macs=(int(low), int(np.median(self._macs)), int(high)),
            probes=self.probes,
            stages=tuple(self._stages(recipe, machines)),
            cache_bytes=self.data.summary.bytes,
            workers=self._workers,
            machines=machines,
        )

    # ----------------------------------------------------------------------------------- measuring

    def _measured(self, told: Callable[[str], None]) -> tuple[Probe, ...]:
        places = {"smallest": 0, "median": len(self._drawn) // 2, "largest": len(self._drawn) - 1}
        networks = {f"{name} candidate": self._drawn[place] for name, place in places.items()}
        networks["largest member"] = max(self._families[1], key=lambda each: cost(each).macs)
        stand, probes = Stand(self.recipe, self.data, self._workers), []
        with tempfile.TemporaryDirectory() as folder:
            for name, network in networks.items():
                told(f"training the {name} for a moment")
                probes.append(stand.measure(name, network, Path(folder)))
        return tuple(sorted(probes, key=lambda probe: probe.macs))

    # ------------------------------------------------------------------------------------- stages

    def training(self, network: Architecture, epochs: int, fraction: float, final: bool) -> float:
        """Seconds of one training, by the measured networks around it in MACs."""
        data = self.data
        everything = final and self.recipe.data.return_held_out
        images = len(data.full_train if everything else data.train) * fraction
        measured = len(data.test if final else data.held_out)
        macs = cost(network).macs
        train = _interpolated(macs, [(probe.macs, probe.train) for probe in self.probes])
        validation = _interpolated(macs, [(probe.macs, probe.validation) for probe in self.probes])
        start = fmean(probe.start for probe in self.probes)
        return epochs * (images * train + measured * validation) + start

    def _stages(self, recipe: Recipe, machines: int) -> Iterable[StageEstimate]:
        search = recipe.search
        fraction = search.data_fraction
        proxy = [self.training(each, search.epochs, fraction, False) for each in self._drawn]
        each = (float(np.quantile(proxy, 0.25)), fmean(proxy), float(np.quantile(proxy, 0.75)))
        kept = zip(each, _kept(recipe), strict=True)
        trials = Range(*(search.trials * seconds * part for seconds, part in kept))
        params = cost(self.baselines[1]).params * _PARAM_BYTES
        yield self._stage(
            "search",
            [(search.trials, trials)],
            machines,
            search.trials * _TRIAL_BYTES + _STORAGE_BYTES + params * _CHECKPOINT_COPIES,
        )
        finals = self._alike(self.baselines, search.final_epochs, fraction, False)
        yield self._stage(
            "finalists",
            [(search.finalists, Range(*(search.finalists * each for each in finals)))],
            machines,
            search.finalists * _TRIAL_BYTES,
        )
        jobs = list(self._coefficient_jobs(recipe))
        yield self._stage("coefficients", jobs, machines, sum(n for n, _ in jobs) * _TRIAL_BYTES)
        trained = list(self._member_jobs(recipe))
        weights = sum(cost(each).params for each in self._families[1]) * _PARAM_BYTES
        yield self._stage("family", trained, machines, weights * _MEMBER_COPIES + _REPORT_BYTES)

    def _member_jobs(self, recipe: Recipe) -> Iterable[tuple[int, Range]]:
        """Each member's training. At φ it grows by whatever product the coefficients will have."""
        settings = recipe.family
        product = 1 + recipe.coefficients.tolerance / recipe.coefficients.factor
        powers = [0.0] * len(settings.targets) or [abs(phi) for phi in settings.phi]
        for phi, versions in zip(powers, zip(*self._families, strict=True), strict=True):
            low, middle, high = self._alike(versions, settings.epochs, settings.data_fraction, True)
            yield 1, Range(low / product**phi, middle, high * product**phi)

    def _alike(
        self, networks: Sequence[Architecture], epochs: int, fraction: float, final: bool
    ) -> list[float]:
        return sorted(self.training(each, epochs, fraction, final) for each in networks)

    def _coefficient_jobs(self, recipe: Recipe) -> Iterable[tuple[int, Range]]:
        """Groups of equally long trainings: how many, and the seconds of all of them."""
        settings, found = recipe.coefficients, self._grid
        if not found:
            return
        own = cost(self.baselines[1]).macs
        scale = [cost(each).macs / own for each in self.baselines]
        count, confirmed = len(found), (2 * settings.seeds, settings.epochs)
        match settings.method:
            case "grid":
                rungs = [(count, settings.epochs)]
            case "race":
                steps = ladder(count, settings.epochs, settings.seeds)
                rungs = [(rung.entrants * rung.seeds, rung.epochs) for rung in steps]
                rungs.append(confirmed)
            case "refine":
                again = min(FINALISTS, count) * settings.seeds if count > 1 else 0
                rungs = [(count + again, settings.epochs), confirmed]
        for count, epochs in rungs:
            each = fmean(
                self.training(network, epochs, settings.data_fraction, False) for network in found
            )
            yield count, Range(*(count * each * factor for factor in scale))

    def _stage(
        self, name: str, groups: Sequence[tuple[int, Range]], machines: int, size: int
    ) -> StageEstimate:
        doubt = 1 + max(_DOUBT, *(probe.spread for probe in self.probes))
        here, there = (
            _doubted([_makespan(groups, place, workers) for place in range(3)], doubt)
            for workers in (self._workers, self._workers * machines)
        )
        return StageEstimate(name, sum(count for count, _ in groups), here, there, size)


def _interpolated(macs: int, known: Sequence[tuple[int, float]]) -> float:
    """Seconds at `macs`, by straight lines between logarithms; in proportion beyond both ends."""
    (least, first), (most, last) = known[0], known[-1]
    if macs <= least:
        return first * macs / least
    if macs >= most:
        return last * macs / most
    places = [math.log(each) for each, _ in known]
    seconds = [math.log(max(each, 1e-12)) for _, each in known]
    return float(np.exp(np.interp(math.log(macs), places, seconds)))


def _kept(recipe: Recipe) -> tuple[float, float, float]:
    """The part of the search's training that the pruner leaves: at least, about, at most.

    At least: half of the trials after its start end at the first judgement (the median pruner's
    own rule). About: half of that saving (assumed).
    """
    search = recipe.search
    if search.pruner.kind == "none" or search.epochs < 2:
        return 1.0, 1.0, 1.0
    judged = max(0, search.trials - search.pruner.startup_trials) / search.trials
    first = min(search.epochs, search.pruner.warmup_epochs + 1)
    saved = judged * 0.5 * (1 - first / search.epochs)
    return 1 - saved, 1 - saved / 2, 1.0


def _makespan(groups: Sequence[tuple[int, Range]], place: int, workers: int) -> float:
    """Seconds until all trainings are done: each group's, the longest first, on a free worker."""
    every = [total[place] / count for count, total in groups for _ in range(count) if count]
    free = [0.0] * workers
    for seconds in sorted(every, reverse=True):
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _doubted(seconds: Sequence[float], doubt: float) -> Range:
    low, middle, high = seconds
    return Range(low / doubt, middle, high * doubt)
