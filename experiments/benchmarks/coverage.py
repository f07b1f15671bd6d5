"""Does the coefficient stage keep what it claims, and how much does its choice lose?

The candidates of a small network get known accuracies: a truth over the shares of growth
(quadratic, linear, peaked, wavy), a slope for cost, and noise of seeds and of training runs that is
the same for all candidates or differs. The real proposers then run on it. What they claim with 95 %
must hold in 95 % of the simulations; the regret is the accuracy at equal cost that the chosen
candidate lies behind the best one.

`python -m experiments.benchmarks.coverage` takes some minutes of one core, prints the result and
writes `experiments/results/coverage.json`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from experiments.runs.environment import environment
from scaling import grid as grids
from scaling.coefficients import PUBLISHED
from scaling.comparison import compare
from scaling.decision import imbalance
from scaling.grid import GridCandidate, realised
from scaling.heats import Heats
from scaling.power import POWER, resolvable
from scaling.race import Race, ladder
from scaling.refine import Refine
from scaling.response_surface import fit_surface, points_of
from scaling.rules import Shares
from space import presets
from space.evaluation import Budget, Measurement, Status
from space.files import write_file

SIMULATIONS, EPOCHS, SEEDS, LEVEL = 500, 12, 3, 0.95

#: From the worst candidate to the best, what a doubling of cost adds, and what a seed does to all.
SPREAD, SLOPE, SEED_NOISE = 0.015, 0.02, 0.005

#: Deviations of a training run; unequal ones are these times a factor from 1/2 to 2.
NOISES = (0.003, 0.01)

RESULT = Path(__file__).parents[1] / "results" / "coverage.json"

Truth = Callable[[Shares], float]


def _bump(top: Shares, width: float) -> Truth:
    return lambda shares: math.exp(-_squared(shares, top) / (2 * width**2))


def _squared(one: Shares, other: Shares) -> float:
    return sum((first - second) ** 2 for first, second in zip(one, other, strict=True))


TOP = Shares(0.15, 0.35, 0.5)
TRUTHS: Mapping[str, Truth] = {
    "quadratic": lambda shares: -_squared(shares, TOP),
    "linear": lambda shares: shares.resolution,
    "peaked": _bump(Shares(0.55, 0.45, 0.0), 0.2),
    "wavy": lambda shares: math.sin(9 * shares.depth) + math.cos(11 * shares.width + 1),
}


class World(NamedTuple):
    """One simulation: what each network is worth at equal cost, and how its runs vary."""

    worth: Mapping[str, float]
    expected: Mapping[str, float]
    deviations: Mapping[str, float]
    draw: np.random.Generator
    seeds: dict[tuple[int, int], float]

    def accuracy(self, candidate: GridCandidate, budget: Budget) -> float:
        """One training run; differences are smaller where it is short."""
        when = (budget.epochs, budget.seed)
        shared = self.seeds.setdefault(when, SEED_NOISE * float(self.draw.standard_normal()))
        learned = (1 - math.exp(-budget.epochs / 4)) / (1 - math.exp(-EPOCHS / 4))
        own = self.deviations[candidate.label] * float(self.draw.standard_normal())
        return 0.7 + learned * self.expected[candidate.label] + shared + own


class Case(NamedTuple):
    """What is simulated many times."""

    truth: str
    noise: float
    unequal: bool

    def world(self, networks: Sequence[GridCandidate], number: int) -> World:
        """A simulation of the case, the same for the same number."""
        draw = np.random.default_rng([number, list(TRUTHS).index(self.truth), self.unequal])
        raw = {each.label: TRUTHS[self.truth](each.shares) for each in networks}
        scale = SPREAD / (max(raw.values()) - min(raw.values()))
        worth = {label: scale * value for label, value in raw.items()}
        factors = 2.0 ** draw.uniform(-1, 1, len(networks)) if self.unequal else [1.0] * len(raw)
        return World(
            worth,
            {
                each.label: worth[each.label] + SLOPE * (math.log2(each.realised_ratio) - 1)
                for each in networks
            },
            {
                each.label: self.noise * float(factor)
                for each, factor in zip(networks, factors, strict=True)
            },
            draw,
            {},
        )


def main() -> None:
    """Simulates, and writes and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    found = result(arguments.simulations)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_file(arguments.result, text)
    print(text)


def networks() -> tuple[tuple[GridCandidate, ...], GridCandidate]:
    """The default grid around a small MnasNet at 112 pixels, and the published coefficients."""
    baseline = replace(presets.load("mnasnet_small", num_classes=10), resolution=112)
    (guest,) = grids.candidates(baseline, [PUBLISHED])
    return realised(baseline, step=0.1, tolerance=0.2), guest


def result(simulations: int) -> dict[str, Any]:
    """Coverage of every claim, and regret of every way to choose, for each case."""
    candidates, guest = networks()
    cases = [Case(*each) for each in _product()]
    return {
        "command": "python -m experiments.benchmarks.coverage",
        "hardware": environment(),
        "simulations": simulations,
        "level": LEVEL,
        "candidates": len(candidates),
        "seeds": SEEDS,
        "spread": SPREAD,
        "cases": [_simulated(case, candidates, guest, simulations) for case in cases],
        "power": _power(simulations),
    }


def _product() -> list[tuple[str, float, bool]]:
    return [(name, noise, odd) for name in TRUTHS for noise in NOISES for odd in (False, True)]


def _simulated(
    case: Case, candidates: tuple[GridCandidate, ...], guest: GridCandidate, simulations: int
) -> dict[str, Any]:
    held: defaultdict[str, list[bool]] = defaultdict(list)
    regret: defaultdict[str, list[float]] = defaultdict(list)
    runs: defaultdict[str, list[int]] = defaultdict(list)
    for number in range(simulations):
        world = case.world((*candidates, guest), number)
        for name, (chosen, cost) in _choices(world, candidates, guest, held, case).items():
            best = max(world.worth[each.label] for each in candidates)
            regret[name].append(best - world.worth[chosen.label])
            runs[name].append(cost)
    return {
        "truth": case.truth,
        "noise": case.noise,
        "unequal_variances": case.unequal,
        "coverage": {name: fmean(each) for name, each in held.items()},
        "counted": {name: len(each) for name, each in held.items()},
        "regret": {name: fmean(each) for name, each in regret.items()},
        "runs": {name: fmean(each) for name, each in runs.items()},
    }


def _choices(
    world: World,
    candidates: tuple[GridCandidate, ...],
    guest: GridCandidate,
    held: defaultdict[str, list[bool]],
    case: Case,
) -> dict[str, tuple[GridCandidate, int]]:
    """What each way chooses and in how many full runs; notes in `held` which claims were right."""
    budget = Budget(EPOCHS)
    refine = Refine(candidates, budget, SEEDS, level=LEVEL, guest=guest)
    race = Race(candidates, ladder(len(candidates), EPOCHS, SEEDS), budget, level=LEVEL)
    for name, heats in (("refine", refine), ("race", race)):
        _run(heats, world)
        best = max(heats.finalists, key=lambda each: world.expected[each.label])
        held[f"{name}: best of the finalists is tied"].append(best in heats.tied)
        overall = max(candidates, key=lambda each: world.expected[each.label])
        held[f"{name}: best of all is tied (not claimed)"].append(overall in heats.tied)
    _check_guest(refine, world, held)
    _check_surface(refine, case, held)

    table = [
        [world.accuracy(each, replace(budget, seed=100 + seed)) for seed in range(SEEDS)]
        for each in candidates
    ]
    whole = compare(table, LEVEL)
    index = max(range(len(table)), key=lambda each: world.expected[candidates[each].label])
    held["full grid: best of all is tied"].append(index in whole.tied)

    assert refine.posterior is not None
    expected = refine.trained[int(refine.posterior.means.argmax())]
    count = len(candidates)
    choosing = count + len(refine.finalists) * SEEDS
    means = np.array(table)
    return {
        "refine, as decided": (refine.decision.chosen, choosing),
        "refine, Gaussian process": (
            next(each for each in candidates if each.label == expected),
            choosing,
        ),
        "refine, raw maximum": (refine.ranked(refine.finalists)[0], choosing),
        "race, as decided": (race.decision.chosen, round(race.part * count * SEEDS)),
        "race, raw maximum": (race.ranked(race.finalists)[0], round(race.part * count * SEEDS)),
        "grid, raw maximum of one seed": (candidates[int(means[:, 0].argmax())], count),
        "grid, raw maximum of two seeds": (
            candidates[int(means[:, :2].mean(axis=1).argmax())],
            2 * count,
        ),
        "balanced growth, untrained": (min(candidates, key=imbalance), 0),
    }


def _run(heats: Heats, world: World) -> None:
    labels = {each.label: each for each in heats.candidates}
    labels |= {heats.guest.label: heats.guest} if heats.guest else {}
    while (job := heats.ask()) is not None:
        accuracy = world.accuracy(labels[job.name.split(",")[0]], job.budget)
        heats.tell(job, Measurement(Status.COMPLETE, accuracy=accuracy))


def _check_guest(refine: Refine, world: World, held: defaultdict[str, list[bool]]) -> None:
    found, guest = refine.difference, refine.guest
    if found is None or guest is None:
        return
    true = world.expected[guest.label] - world.expected[refine.decision.chosen.label]
    held["difference to the published"].append(abs(found.difference - true) <= found.half_width)


def _check_surface(refine: Refine, case: Case, held: defaultdict[str, list[bool]]) -> None:
    surface = fit_surface(points_of(refine.results), LEVEL)
    if surface is None:
        return
    held["surface: no lack of fit found (not claimed)"].append(surface.fits)
    if case.truth == "quadratic" and surface.intervals:
        for name, top, (low, high) in zip(
            TOP._fields, TOP, surface.intervals, strict=True
        ):  # to the surface's steps of 0.02
            held[f"surface: {name} of the optimum"].append(low - 0.01 <= top <= high + 0.01)


def _power(simulations: int) -> list[dict[str, Any]]:
    """How often the difference that a design can resolve is found."""
    found = []
    for finalists, seeds in ((2, 3), (4, 3), (4, 5)):
        difference = resolvable(0.01, finalists, seeds, level=LEVEL)
        draw = np.random.default_rng(0)
        tables = draw.normal(0, 0.01, (4 * simulations, finalists, seeds))
        tables[:, 0] += difference
        shown = fmean(1 not in compare(table, LEVEL).tied for table in tables)
        found.append(
            {
                "finalists": finalists,
                "seeds": seeds,
                "difference_in_deviations": difference / 0.01,
                "claimed": POWER,
                "found": shown,
            }
        )
    return found


if __name__ == "__main__":
    main()
