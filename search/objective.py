"""What a search maximises, and what it may not exceed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from space.architecture import Architecture
from space.cost import Cost, cost
from space.evaluation import Job

CostName = Literal["macs", "params", "activations", "latency"]

#: What is to become of a study's value.
Direction = Literal["maximize", "minimize"]

#: What people call each cost.
UNITS: dict[str, str] = {
    "macs": "MACs (multiply–adds)",
    "params": "parameters",
    "activations": "activations",
    "latency": "seconds",
}


class Price(NamedTuple):
    """All that a network costs: exact counts, and its latency in seconds, 0 where none is asked."""

    macs: int
    params: int
    activations: int
    latency: float = 0.0


#: Counts, or a price.
Costs = Cost | Price


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and most of each cost, both included; None leaves a cost free."""

    macs: tuple[int, int] | None = None
    params: tuple[int, int] | None = None
    activations: tuple[int, int] | None = None
    latency: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in self.given.items():
            if not 0 < least <= most:
                raise ValueError(f"`0 < least <= most` must hold for {name}, but got {least, most}")

    @property
    def given(self) -> dict[str, tuple[float, float]]:
        """The bounds that are set."""
        pairs = {name: getattr(self, name) for name in get_args(CostName)}
        return {name: pair for name, pair in pairs.items() if pair is not None}

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """The bounds that are set on what is counted, and not measured."""
        return {
            name: (math.ceil(least), math.floor(most))
            for name, (least, most) in self.given.items()
            if name != "latency"
        }

    def admits(self, cost: Costs) -> bool:
        """Whether `cost` lies within every bound."""
        return all(
            least <= getattr(cost, name) <= most for name, (least, most) in self.given.items()
        )

    def why_not(self, cost: Costs) -> str | None:
        """A clause on each bound that `cost` breaks; None where it lies within all."""
        broken = [
            f"{getattr(cost, name):,} {UNITS[name]} are not within {least:,} to {most:,}"
            for name, (least, most) in self.given.items()
            if not least <= getattr(cost, name) <= most
        ]
        return "; ".join(broken) or None


@dataclass(frozen=True, slots=True)
class Objective:
    """The reward accuracy · (cost / target)^w, and hard bounds beside it.

    w is `exponent_below` where cost <= target and `exponent_above` where it is greater: equal
    exponents are the soft form (−0.07, −0.07), which ranks the same whatever the target; (0, −1) is
    the hard form. Source: MnasNet, section 3.1, equations 2 and 3.

    Where `pareto` names costs, accuracy is maximised and each of them minimised, and the reward
    only chooses among what was found. `seconds` gives a network's latency, where that is a cost: a
    sum over stem, stages and head, each of which knows of the others only the channels that it is
    given.

    Example:
        >>> from search.objective import Bounds, Objective
        >>> from space.cost import Cost
        >>> objective = Objective(target=100, bounds=Bounds(macs=(50, 200)))
        >>> round(objective.reward(0.9, Cost(macs=200, params=10, activations=5)), 4)
        0.8574
    """

    target: float
    cost: CostName = "macs"
    exponent_below: float = -0.07
    exponent_above: float = -0.07
    bounds: Bounds = Bounds()
    pareto: tuple[CostName, ...] = ()
    seconds: Callable[[Architecture], float] | None = None

    def __post_init__(self) -> None:
        if self.target <= 0:
            raise ValueError(f"`target > 0` must hold, but got target={self.target}")
        for name in (self.cost, *self.pareto):
            if name not in UNITS:
                raise ValueError(f"a cost must be one of {', '.join(UNITS)}, but got {name!r}")
        if "latency" in (self.cost, *self.pareto, *self.bounds.given) and self.seconds is None:
            raise ValueError("latency is a cost where `seconds` gives it, but it is None")

    def price(self, architecture: Architecture, cost: Cost) -> Price:
        """The price of a network whose exact `cost` is known."""
        return Price(*cost, self.seconds(architecture) if self.seconds else 0.0)

    def reward(self, accuracy: float, cost: Costs) -> float:
        """The reward of a network with this `accuracy` (a fraction) and exact `cost`."""
        return accuracy * self.factor(cost)

    def factor(self, cost: Costs) -> float:
        """What the reward multiplies accuracy by: (cost / target)^w."""
        return float(self.factors(np.array([cost]))[0])

    def factors(self, costs: NDArray[np.generic]) -> NDArray[np.float64]:
        """The same for N costs or prices, a row each; N."""
        ratio = costs[:, Price._fields.index(self.cost)].astype(float) / self.target
        exponent = np.where(ratio <= 1, self.exponent_below, self.exponent_above)
        factors: NDArray[np.float64] = ratio**exponent
        return factors

    def admits(self, cost: Costs) -> bool:
        """Whether a network of this cost may be trained at all."""
        return self.bounds.admits(cost)

    def value(self, accuracy: float, job: Job) -> float:
        """The reward of a job's network with this `accuracy`."""
        return self.reward(accuracy, self._price_of(job))

    def values(self, accuracy: float, job: Job) -> tuple[float, ...]:
        """What a study of this objective records: the reward, or accuracy and each cost."""
        if not self.pareto:
            return (self.value(accuracy, job),)
        price = self._price_of(job)
        return (accuracy, *(float(getattr(price, name)) for name in self.pareto))

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Whether each of `values` is to `maximize` or to `minimize`."""
        minimised: list[Direction] = ["minimize"] * len(self.pareto)
        return ("maximize", *minimised)

    def _price_of(self, job: Job) -> Price:
        return self.price(job.architecture, cost(job.architecture, job.budget.resolution))
