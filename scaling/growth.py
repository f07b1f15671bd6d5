"""Growth that is not uniform: a model of measured networks chooses which stages grow, and how far.

Scaling all stages equally is suboptimal (EfficientNetV2, section 4.1), but no rule for scaling them
differently was published. Here each target cost has a pool of candidates, compound scaling's first.
One model over all pools, so that a measurement for one target informs the others, says which
candidate to measure next; what it expects most of is then compared with compound scaling over
paired seeds, and taken only where these tell it to be better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.comparison import Difference, compare, paired_difference
from scaling.rules import Shares, Uniform
from scaling.targets import HIT, Measure, resolutions_near
from space.architecture import Architecture, round_channels
from space.evaluation import Budget, Job, Measurement, Proposer, Status
from space.validation import InvalidInput

Floats = NDArray[np.float64]

#: Random candidates measured for each target before the model chooses, beside compound scaling's,
#: and the mean of the exponential distribution from which the weight of one standard deviation is
#: drawn (both measured: `experiments.benchmarks.growth`).
_STARTS = 2
_BOLDNESS = 2.0


@dataclass(frozen=True)
class Candidates:
    """N settings of growth, some of which suit a target.

    `settings` are natural logarithms of multipliers of the baseline, N × K, and `costs` what they
    cost, N. A pool holds a target's candidates, by number; the first is compound scaling's.
    `starts` are measured next in each pool; without them, two random ones are.
    """

    settings: Floats
    costs: Floats
    pools: tuple[tuple[int, ...], ...]
    starts: tuple[tuple[int, ...], ...] = ()


class Request(NamedTuple):
    """A candidate to be measured, by number; seed 0 is the search's."""

    candidate: int
    seed: int = 0


class Expectation(NamedTuple):
    """The accuracies that a model expects, and their standard deviations, N each."""

    accuracy: Floats
    deviation: Floats


#: What a model expects of all candidates, from the numbers and the accuracies of measured ones.
Model = Callable[[Sequence[int], Floats], Expectation]


class Grown(NamedTuple):
    """The answer for a target: the candidate that the search found beside compound scaling's.

    Their accuracies are over the same further seeds, and `difference` is found − compound.
    """

    found: int
    compound: int
    found_accuracies: tuple[float, ...]
    compound_accuracies: tuple[float, ...]
    difference: Difference

    @property
    def shipped(self) -> int:
        """What was found, if its interval is above 0; otherwise compound scaling's."""
        better = self.difference.told_apart and self.difference.difference > 0
        return self.found if better else self.compound

    def to_dict(self, found: Mapping[str, Any], compound: Mapping[str, Any]) -> dict[str, Any]:
        """The answer as JSON, with what is to be said of the two candidates."""
        difference, half_width, told_apart = self.difference
        return {
            "learned": {**found, "accuracies": list(self.found_accuracies)},
            "compound": {**compound, "accuracies": list(self.compound_accuracies)},
            "difference": difference,
            "half_width": half_width if math.isfinite(half_width) else None,
            "told_apart": told_apart,
            "shipped": "compound" if self.shipped == self.compound else "learned",
        }


#: Hands out rounds of requests, and takes the accuracies of those that were measured.
Rounds = Generator[tuple[Request, ...], Mapping[Request, float], tuple[Grown, ...]]


def search(candidates: Candidates, model: Model, *, runs: int, seeds: int, seed: int) -> Rounds:
    """Searches within `runs` measurements over all targets, comparisons with `seeds` included.

    The requests of a round do not depend on each other. Raises `InvalidInput` where `runs` leave
    nothing to search with.
    """
    pools, rng = candidates.pools, np.random.default_rng(seed)
    starts = candidates.starts or [rng.permutation(each[1:])[:_STARTS].tolist() for each in pools]
    compared, begun = 2 * seeds * len(pools), len(pools) + sum(map(len, starts))
    if runs < compared + begun:
        raise InvalidInput(
            f"family.runs: must be at least {compared + begun} for {len(pools)} targets ({begun} "
            f"to begin and {compared} to compare), but got {runs}"
        )
    known: dict[int, float] = {}
    asked: set[int] = set()

    def round_of(chosen: Sequence[int]) -> tuple[Request, ...]:
        new = list(dict.fromkeys(each for each in chosen if each not in asked))
        new = new[: runs - compared - len(asked)]
        asked.update(new)
        return tuple(map(Request, new))

    def expected() -> Expectation:
        return model(tuple(known), np.array(tuple(known.values())))

    chosen = [*(pool[0] for pool in pools), *(each for some in starts for each in some)]
    while requests := round_of(chosen):
        told = yield requests
        # In the order of asking, which executors do not change.
        known |= {each.candidate: told[each] for each in requests if each in told}
        chosen = []
        if known:
            accuracy, deviation = expected()
            for pool in pools:
                hope = accuracy + rng.exponential(_BOLDNESS) * deviation
                left = [each for each in pool if each not in asked and each not in chosen]
                chosen += [max(left, key=hope.__getitem__)] if left else []
    accuracy = expected().accuracy if known else np.zeros(len(candidates.costs))
    best = [max(pool, key=accuracy.__getitem__) for pool in pools]
    pairs = [(found, pool[0]) for found, pool in zip(best, pools, strict=True)]
    again = dict.fromkeys(each for pair in pairs if pair[0] != pair[1] for each in pair)
    told = yield tuple(Request(*each) for each in product(again, range(1, 1 + seeds)))
    return _answers(pairs, told, seeds)


def _answers(
    pairs: Sequence[tuple[int, int]], told: Mapping[Request, float], seeds: int
) -> tuple[Grown, ...]:
    whole: dict[int, list[float]] = {}
    for candidate in {each for pair in pairs for each in pair}:
        requests = [Request(candidate, number) for number in range(1, 1 + seeds)]
        if requests and all(each in told for each in requests):
            whole[candidate] = [told[each] for each in requests]
    all_together = compare(list(whole.values())) if whole else None
    answers = []
    for found, compound in pairs:
        difference = Difference(0.0, 0.0 if found == compound else math.inf, False)
        if found != compound and found in whole and compound in whole:
            difference = paired_difference(whole[found], whole[compound], all_together)
        ours, theirs = (tuple(whole.get(each, ())) for each in (found, compound))
        answers.append(Grown(found, compound, ours, theirs, difference))
    return tuple(answers)


class LearnedGrowth(Proposer):
    """A `Proposer` of the training runs of a `search` over `networks`.

    In the end `grown` holds its answers and `runs` the number of training runs.
    """

    def __init__(self, rounds: Rounds, networks: Sequence[Architecture], budget: Budget) -> None:
        self.grown: tuple[Grown, ...] = ()
        self.runs = 0
        self._rounds, self._networks, self._budget = rounds, networks, budget
        self._waiting: list[Request] = []
        self._running: dict[str, Request] = {}
        self._told: dict[Request, float] = {}
        self._begun = False
        self._advance()

    def ask(self) -> Job | None:
        """The next job of this round; None while results are missing, and at the end."""
        if not self._waiting:
            return None
        request = self._waiting.pop(0)
        name = f"candidate {request.candidate}, seed {self._budget.seed + request.seed}"
        self._running[name] = request
        budget = replace(self._budget, seed=self._budget.seed + request.seed)
        return Job(name, self._networks[request.candidate], budget)

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Keeps a result; the last of a round starts the next round."""
        request = self._running.pop(job.name)
        self.runs += 1
        if measurement.status is Status.COMPLETE and measurement.accuracy is not None:
            self._told[request] = measurement.accuracy
        if not self._running and not self._waiting:
            self._advance()

    def _advance(self) -> None:
        """Goes on to the next round that asks for something."""
        while not self._waiting:
            told, self._told = self._told, {}
            try:
                self._waiting = list(self._rounds.send(told) if self._begun else next(self._rounds))
            except StopIteration as end:
                self.grown = end.value
                return
            self._begun = True


#: Candidates of a target's pool, and mixtures of depth, width and resolution from which they
#: deviate stage by stage; factors of a stage's channels, changes of its repeats, and the part of
#: stages that are left alone (all assumed).
_POOL, _MIXTURES = 600, 16
_WIDTHS = (0.5, 0.625, 0.75, 0.875, 1.125, 1.25, 1.5, 2.0)
_REPEATS = (-2, -1, 1, 2)
_LAST_CHANGE = 0.3

#: How far below its target a candidate may cost, as a fraction (assumed).
_BELOW = 0.05


def pool(
    baseline: Architecture,
    compound: Architecture,
    target: float,
    *,
    measure: Measure,
    multiple: int,
    finest: int,
    rng: np.random.Generator,
) -> list[Architecture]:
    """Networks of about `target`, the first of which is `compound`, the uniformly scaled baseline.

    The others begin at it, or at other mixtures of depth, width and resolution; some stages of each
    are made wider or narrower, deeper or shallower, and its pixels, `finest` at most or as many as
    compound scaling's, meet the target.
    """
    factor = target / measure(baseline)
    found = {compound.key: compound}
    bases = [compound]
    for shares in rng.dirichlet(np.ones(3), _MIXTURES):
        try:
            bases.append(Uniform(Shares(*shares.tolist()))(baseline, factor))
        except ValueError:  # beyond the bounds of an architecture
            continue
    for number in range(4 * _POOL):
        base = compound if number % 2 else bases[int(rng.integers(len(bases)))]
        changed = _changed(base, rng)
        for network in resolutions_near(changed, target, measure, multiple):
            allowed = network.resolution <= max(finest, compound.resolution)
            if allowed and -_BELOW <= measure(network) / target - 1 <= HIT:
                found.setdefault(network.key, network)
        if len(found) >= _POOL:
            break
    return list(found.values())


def _changed(base: Architecture, rng: np.random.Generator) -> Architecture:
    stages = list(base.stages)
    changes = min(int(rng.geometric(_LAST_CHANGE)), len(stages))
    for place in rng.choice(len(stages), changes, replace=False):
        stage = stages[place]
        if rng.random() < 0.5:
            wider = stage.channels * rng.choice(_WIDTHS)
            scaling = base.scaling
            channels = round_channels(wider, scaling.divisor, scaling.round_limit)
            stages[place] = replace(stage, channels=channels)
        else:
            repeats = max(1, stage.repeats + int(rng.choice(_REPEATS)))
            stages[place] = replace(stage, repeats=repeats)
    return replace(base, stages=tuple(stages))


def extremes(growth: Floats, pool: Sequence[int]) -> tuple[int, ...]:
    """The candidates of a pool with the most layers, channels and pixels, without its first.

    From them a model learns which dimension pays. `growth` are the `settings` of networks.
    """
    stages = growth.shape[1] // 2
    means = (growth[:, :stages].mean(1), growth[:, stages:-1].mean(1), growth[:, -1])
    found = dict.fromkeys(max(pool, key=mean.__getitem__) for mean in means)
    return tuple(each for each in found if each != pool[0])


def settings(baseline: Architecture, networks: Sequence[Architecture]) -> Floats:
    """Logarithms of what multiplies the baseline's depth and width, stage by stage, and resolution.

    N × (2 · stages + 1), in this order.
    """

    def row(network: Architecture) -> list[float]:
        pairs = list(zip(network.stages, baseline.stages, strict=True))
        return [
            *(math.log(new.repeats / old.repeats) for new, old in pairs),
            *(math.log(new.channels / old.channels) for new, old in pairs),
            math.log(network.resolution / baseline.resolution),
        ]

    return np.array([row(network) for network in networks])
