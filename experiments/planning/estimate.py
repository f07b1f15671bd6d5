"""How long a recipe will take, in hours and bytes per stage, from short measured training runs.

Seconds per image are measured on networks from the smallest to the largest of a run, and
interpolated by MACs. What is unknown beforehand (which network becomes the baseline, how many
training runs the pruner stops) widens the interval.
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
from experiments.planning.networks import ExpectedNetworks, expected_networks
from experiments.planning.training_speed import SpeedTest, TrainingSpeed, cpu_share
from experiments.runs.opening import largest_resolution
from experiments.stages.elastic import SEED_PARTS
from experiments.train import STATISTICS_BATCHES
from experiments.training import machine
from experiments.training.elastic import RANDOM_PARTS
from scaling.race import ladder
from scaling.refine import FINALISTS
from search.executors.processes import cores
from space.architecture import Architecture
from space.cost import cost
from space.elastic import Elastic
from space.validation import InvalidInput

#: The minimum relative uncertainty of seconds (assumed: other processes, heat, interpolation).
_DOUBT = 0.1

#: The share of the CPU below which a measurement is repeated, and how often it is made (assumed).
_IDLE, _ATTEMPTS = 0.9, 3

#: Random parts whose mean is taken for that of all (assumed).
_ELASTIC_PARTS = 32

#: Bytes of a trial in SQLite, of an empty database, and of a report (measured: 37 trials of the
#: demo take 217 KB, its report 1.0 MB).
_TRIAL_BYTES, _STORAGE_BYTES, _REPORT_BYTES = 6_000, 150_000, 1_000_000

#: Bytes of a parameter, and copies of the parameters in a checkpoint (weights, their average,
#: momentum) and of a finished member (weights, exported twice, kept beside the checkpoints).
_PARAM_BYTES, _CHECKPOINT_COPIES, _MEMBER_COPIES = 4, 3, 3


class Range(NamedTuple):
    """An estimate with the interval in which the quantity is expected."""

    low: float
    middle: float
    high: float

    def __add__(self, other: Range) -> Range:  # type: ignore[override]
        """Adds all three: the intervals of stages are fully correlated."""
        return Range(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class StageEstimate:
    """A stage's training runs, its seconds on this machine and on several such, and its bytes."""

    name: str
    training_runs: int
    seconds: Range
    shared: Range
    bytes: int


@dataclass(frozen=True)
class Estimate:
    """How long a recipe takes.

    `combinations` of the `size` combinations of choices lie within the bounds; `macs` are the
    lowest, median and highest MACs. `workers` is the number of training runs at a time on this
    machine, and `shared` seconds are for `machines` of them. `cpu_share` is the part of the CPU
    that the measurement got.
    """

    space: str
    size: int
    combinations: float
    macs: tuple[int, int, int]
    speeds: tuple[TrainingSpeed, ...]
    stages: tuple[StageEstimate, ...]
    cache_bytes: int
    workers: int
    machines: int
    cpu_share: float

    @property
    def under_load(self) -> bool:
        """Whether other processes used the CPU during the measurement."""
        return self.cpu_share < _IDLE

    @property
    def seconds(self) -> Range:
        """Seconds of all stages on this machine."""
        return sum((stage.seconds for stage in self.stages), Range(0, 0, 0))

    @property
    def shared(self) -> Range:
        """Seconds of all stages on `machines`."""
        return sum((stage.shared for stage in self.stages), Range(0, 0, 0))

    @property
    def bytes(self) -> int:
        """Bytes written in total."""
        return self.cache_bytes + sum(stage.bytes for stage in self.stages)


class Estimator:
    """Measures how fast a recipe's networks train, and estimates any variant of the recipe.

    A variant may differ in trials, epochs, bounds, target and members. `say` is told of progress.

    Raises:
        InvalidInput: if the recipe trains no networks.
    """

    def __init__(self, recipe: Recipe, say: Callable[[str], None] = lambda _: None) -> None:
        if recipe.evaluator.kind == "records":
            raise InvalidInput(
                "evaluator.kind: `records` trains no networks, so there is nothing to estimate"
            )
        self.recipe = recipe
        pixels = recipe.data.resolution or largest_resolution(recipe)
        self.data = load(recipe.data, resolution=pixels, seed=recipe.seed)
        executor = recipe.executor
        processes = executor.kind == "processes"
        self._workers = len(machine.worker_variables(executor)) if processes else 1
        say("drawing networks within the bounds")
        self._known: dict[object, ExpectedNetworks] = {}
        self.networks = self._networks_of(recipe)
        self.speeds, self.cpu_share = self._measured(say)

    def estimate(self, recipe: Recipe | None = None, machines: int = 1) -> Estimate:
        """The estimate of the recipe, or of a variant of it.

        Raises:
            InvalidInput: if a stage of the variant would have no network.
        """
        networks = self._networks_of(recipe or self.recipe)
        low, *_, high = networks.macs
        return Estimate(
            space=networks.recipe.space,
            size=networks.candidates.space.size,
            combinations=networks.combinations,
            macs=(low, int(np.median(networks.macs)), high),
            speeds=self.speeds,
            stages=tuple(self._stages(networks, recipe or self.recipe, machines)),
            cache_bytes=self.data.summary.bytes,
            workers=self._workers,
            machines=machines,
            cpu_share=self.cpu_share,
        )

    def _networks_of(self, recipe: Recipe) -> ExpectedNetworks:
        """The networks of a variant; cached, as they do not depend on trials and epochs."""
        family = recipe.family
        key = (recipe.objective, recipe.space, recipe.resolution, family.phi, family.targets)
        if key not in self._known:
            self._known[key] = expected_networks(recipe, self.data)
        return self._known[key]

    # ---------------------------------------------------------------------------------- measuring

    def _measured(self, say: Callable[[str], None]) -> tuple[tuple[TrainingSpeed, ...], float]:
        """The speeds and the share of the CPU of the attempt with the largest share."""
        attempts: list[tuple[float, tuple[TrainingSpeed, ...]]] = []
        for left in reversed(range(_ATTEMPTS)):
            attempts.append(self._attempt(say))
            share = attempts[-1][0]
            if share >= _IDLE:
                break
            if left:
                say(f"other processes use about {1 - share:.0%} of the CPU; measuring again")
        share, speeds = max(attempts, key=lambda attempt: attempt[0])
        return speeds, share

    def _attempt(self, say: Callable[[str], None]) -> tuple[float, tuple[TrainingSpeed, ...]]:
        drawn = self.networks.drawn
        chosen = {
            "smallest candidate": drawn[0],
            "median candidate": drawn[len(drawn) // 2],
            "largest candidate": drawn[-1],
            "largest member": max(self.networks.families[1], key=lambda each: cost(each).macs),
        }
        test, speeds = SpeedTest(self.recipe, self.data, self._workers), []
        threads = min(cores(), self._workers * (self.recipe.executor.threads or 10**6))
        shares = [cpu_share(threads)]
        with tempfile.TemporaryDirectory() as folder:
            for name, network in chosen.items():
                say(f"training the {name} for some seconds")
                speeds.append(test.measure(name, network, Path(folder)))
                shares.append(cpu_share(threads))
        return fmean(shares), tuple(sorted(speeds, key=lambda speed: speed.macs))

    # ------------------------------------------------------------------------------------- stages

    def _training(
        self, networks: Iterable[Architecture], epochs: int, fraction: float, *, final: bool = False
    ) -> list[float]:
        """Seconds of a training run of each."""
        data = self.data
        everything = final and self.recipe.data.return_held_out
        images = len(data.full_train if everything else data.train) * fraction
        validated = 0 if everything else len(data.held_out)
        tested = len(data.test) if final else 0
        start = fmean(speed.start for speed in self.speeds)
        looks = epochs * validated + tested
        return [self._seconds(each, epochs * images, looks) + start for each in networks]

    def _seconds(self, network: Architecture, trained: float, looks: float) -> float:
        """Seconds in which a network trains on so many images and only looks at others.

        By its MACs, interpolated between the measured networks.
        """
        macs = cost(network).macs
        training = [(speed.macs, speed.train) for speed in self.speeds]
        validation = [(speed.macs, speed.validation) for speed in self.speeds]
        return trained * _interpolated(macs, training) + looks * _interpolated(macs, validation)

    def _stages(
        self, networks: ExpectedNetworks, recipe: Recipe, machines: int
    ) -> Iterable[StageEstimate]:
        doubt = 1 + max(_DOUBT, *(speed.spread for speed in self.speeds))

        def elapsed(groups: Sequence[tuple[int, Range]], workers: int) -> Range:
            low, middle, high = (_makespan(groups, place, workers) for place in range(3))
            return Range(low / doubt, middle, high * doubt)

        def stage(
            name: str, groups: Sequence[tuple[int, Range]], size: int, *, in_turn: bool = False
        ) -> StageEstimate:
            here = elapsed(groups, 1 if in_turn else self._workers)
            shared = elapsed(groups, 1 if in_turn else self._workers * machines)
            return StageEstimate(name, sum(count for count, _ in groups), here, shared, size)

        search, fraction = recipe.search, recipe.search.data_fraction
        checkpoint = cost(networks.baselines[1]).params * _PARAM_BYTES * _CHECKPOINT_COPIES
        if recipe.evaluator.kind == "elastic":
            elastic, seeds = Elastic(networks.candidates.space), recipe.evaluator.seeds
            proxy = self._parts(networks.drawn, recipe, recipe.evaluator.refine, fraction)
            again = (seeds - 1) * min(SEED_PARTS, search.trials)
            whole = seeds * self._elastic(elastic, recipe.evaluator.epochs, fraction)
            spent = [(seeds, whole), (again, again * fmean(proxy))]
            jobs = [(count, Range(seconds, seconds, seconds)) for count, seconds in spent]
            written = cost(elastic.largest).params * _PARAM_BYTES * (_CHECKPOINT_COPIES + seeds)
            yield stage("elastic network", jobs, written + again * _TRIAL_BYTES)
        else:
            proxy = self._training(networks.drawn, search.epochs, fraction)
        low, high = np.quantile(proxy, (0.25, 0.75))
        each = np.array([low, fmean(proxy), high]) * _kept_by_pruner(recipe)
        trials = Range(*(search.trials * each).tolist())
        written = search.trials * _TRIAL_BYTES + _STORAGE_BYTES + checkpoint
        if search.continue_finalists:
            kept = fmean(cost(each).params for each in networks.drawn) * _PARAM_BYTES
            written += round((search.trials + search.finalists) * kept)
        yield stage("search", [(search.trials, trials)], written)

        finals = sorted(self._training(networks.baselines, search.final_epochs, fraction))
        finalists = Range(*(search.finalists * each for each in finals))
        written = search.finalists * _TRIAL_BYTES
        yield stage("finalists", [(search.finalists, finalists)], written)

        jobs = list(self._coefficient_jobs(networks, recipe))
        yield stage("coefficients", jobs, sum(count for count, _ in jobs) * _TRIAL_BYTES)

        if recipe.family.rule == "learned":
            runs, grid = recipe.family.runs, recipe.coefficients
            means = sorted(
                fmean(self._training(family, grid.epochs, grid.data_fraction))
                for family in networks.families
            )
            growth = Range(*(runs * each for each in means))
            yield stage("growth", [(runs, growth)], runs * _TRIAL_BYTES)

        weights = sum(cost(each).params for each in networks.families[1]) * _PARAM_BYTES
        members = list(self._member_jobs(networks, recipe))
        members *= 1 + len(recipe.family.rivals)  # each at the members' MACs
        written = weights * _MEMBER_COPIES + _REPORT_BYTES
        # A growing member waits for the next smaller one (or for none, if `start` is nearer).
        yield stage("family", members, written, in_turn=recipe.family.grow)

    def _elastic(self, elastic: Elastic, epochs: int, fraction: float) -> float:
        """Seconds of an elastic network's training run, in which four parts take every step."""
        rng = np.random.default_rng(self.recipe.seed)
        drawn = [elastic.draw(rng) for _ in range(_ELASTIC_PARTS)]
        ends = self._training([elastic.largest, elastic.smallest], epochs, fraction)
        return sum(ends) + RANDOM_PARTS * fmean(self._training(drawn, epochs, fraction))

    def _parts(
        self, parts: Sequence[Architecture], recipe: Recipe, epochs: int, fraction: float
    ) -> list[float]:
        """Seconds in which parts are refined, and see images for statistics and accuracy."""
        batches = STATISTICS_BATCHES * recipe.train.batch_size
        looks = min(batches, fraction * len(self.data.train)) + len(self.data.held_out)
        refined = self._training(parts, epochs, fraction)
        return [
            own + self._seconds(part, 0, looks) for own, part in zip(refined, parts, strict=True)
        ]

    def _member_jobs(
        self, networks: ExpectedNetworks, recipe: Recipe
    ) -> Iterable[tuple[int, Range]]:
        """The training run of each member; its cost depends on the unknown coefficients."""
        settings = recipe.family
        product = 1 + recipe.coefficients.tolerance / recipe.coefficients.factor
        powers = [0.0] * len(settings.targets) or [abs(phi) for phi in settings.phi]
        members = zip(*networks.families, strict=True)
        for number, (phi, versions) in enumerate(zip(powers, members, strict=True)):
            seconds = self._training(versions, settings.epochs, settings.data_fraction, final=True)
            if settings.teacher not in (None, f"b{number}"):
                taught = self._teaching(networks, recipe)
                seconds = [own + more for own, more in zip(seconds, taught, strict=True)]
            low, middle, high = sorted(seconds)
            yield 1, Range(low / product**phi, middle, high * product**phi)

    def _teaching(self, networks: ExpectedNetworks, recipe: Recipe) -> list[float]:
        """Seconds in which the teacher looks at a member's training images, as in validation."""
        settings, data = recipe.family, self.data
        assert settings.teacher is not None
        place = int(settings.teacher.removeprefix("b"))
        images = len(data.full_train if self.recipe.data.return_held_out else data.train)
        looks = settings.epochs * settings.data_fraction * images
        return [self._seconds(family[place], 0, looks) for family in networks.families]

    def _coefficient_jobs(
        self, networks: ExpectedNetworks, recipe: Recipe
    ) -> Iterable[tuple[int, Range]]:
        """Groups of equally long training runs: their number, and seconds of the whole group."""
        settings, grid = recipe.coefficients, networks.grid
        if not grid:
            return
        own = cost(networks.baselines[1]).macs
        scale = [cost(each).macs / own for each in networks.baselines]
        count, confirmed = len(grid), (2 * settings.seeds, settings.epochs)
        match settings.method:
            case "grid":
                rungs = [(count, settings.epochs)]
            case "race":
                steps = ladder(count, settings.epochs, settings.seeds)
                rungs = [(rung.entrants * rung.seeds, rung.epochs) for rung in steps]
                rungs.append(confirmed)
            case "elastic":
                yield from self._elastic_jobs(grid, recipe, scale)
                most = min(FINALISTS, count)
                rungs = [(most + most * settings.seeds, settings.epochs), confirmed]
            case "refine":
                again = min(FINALISTS, count) * settings.seeds if count > 1 else 0
                rungs = [(count + again, settings.epochs), confirmed]
        for count, epochs in rungs:
            each = fmean(self._training(grid, epochs, settings.data_fraction))
            yield count, Range(*(count * each * factor for factor in scale))

    def _elastic_jobs(
        self, grid: Sequence[Architecture], recipe: Recipe, scale: Sequence[float]
    ) -> Iterable[tuple[int, Range]]:
        """The elastic networks of the coefficients, and the measurements of their parts."""
        settings, seeds = recipe.coefficients, recipe.coefficients.seeds
        fraction = settings.data_fraction
        whole = self._elastic(Elastic(tuple(grid)), recipe.evaluator.epochs, fraction)
        parts = sum(self._parts(grid, recipe, 0, fraction))
        for count, seconds in ((1, whole), (len(grid), parts)):
            yield seeds * count, Range(*(seeds * seconds * factor for factor in scale))


def _interpolated(macs: int, known: Sequence[tuple[int, float]]) -> float:
    """Seconds at `macs`: log-linear between the known points, proportional beyond both ends."""
    (least, first), (most, last) = known[0], known[-1]
    if macs <= least:
        return first * macs / least
    if macs >= most:
        return last * macs / most
    places = [math.log(each) for each, _ in known]
    seconds = [math.log(max(each, 1e-12)) for _, each in known]
    return float(np.exp(np.interp(math.log(macs), places, seconds)))


def _kept_by_pruner(recipe: Recipe) -> tuple[float, float, float]:
    """The fraction of the search's epochs that the pruner leaves: minimum, estimate, maximum.

    At the minimum, half of the trials after its start-up end at its first decision (the rule of the
    median pruner). The estimate is half of that saving (assumed).
    """
    search = recipe.search
    epochs = recipe.evaluator.refine if recipe.evaluator.kind == "elastic" else search.epochs
    if search.pruner.kind == "none" or epochs < 2:
        return 1.0, 1.0, 1.0
    judged = max(0, search.trials - search.pruner.startup_trials) / search.trials
    first = min(epochs, search.pruner.warmup_epochs + 1)
    saved = judged * 0.5 * (1 - first / epochs)
    return 1 - saved, 1 - saved / 2, 1.0


def _makespan(groups: Sequence[tuple[int, Range]], place: int, workers: int) -> float:
    """Seconds until all training runs end: the longest first, each on the first free worker."""
    every = [total[place] / count for count, total in groups for _ in range(count) if count]
    free = [0.0] * workers
    for seconds in sorted(every, reverse=True):
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)
