"""What a search maximises, and the bounds that it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from space.architecture import Architecture
from space.cost import Cost, cost
from space.device import Precision
from space.evaluation import Job

CostName = Literal["macs", "params", "activations", "latency"]

Direction = Literal["maximize", "minimize"]

#: The unit of each cost, as shown; those behind latency are bounds only.
UNITS: dict[str, str] = {
    "macs": "MACs (multiply–adds)",
    "params": "parameters",
    "activations": "activations",
    "latency": "seconds",
    "sram": "bytes of SRAM",
    "flash": "bytes of flash",
}


class Price(NamedTuple):
    """The costs of a network: exact counts, and what else is bounded, 0 if not asked for.

    Latency is in seconds, SRAM and flash in bytes.
    """

    macs: int
    params: int
    activations: int
    latency: float = 0.0
    sram: int = 0
    flash: int = 0


#: Counts, or a price.
Costs = Cost | Price


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the most of each cost, inclusive, or the most bytes; None for no bound."""

    macs: tuple[int, int] | None = None
    params: tuple[int, int] | None = None
    activations: tuple[int, int] | None = None
    latency: tuple[float, float] | None = None
    sram: int | None = None
    flash: int | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in self.given.items():
            if not 0 < least <= most:
                raise ValueError(f"`0 < least <= most` must hold for {name}, but got {least, most}")

    @property
    def given(self) -> dict[str, tuple[float, float]]:
        """The bounds that are set."""
        pairs = {name: getattr(self, name) for name in get_args(CostName)}
        sizes = {"sram": self.sram, "flash": self.flash}
        pairs |= {name: (1, most) for name, most in sizes.items() if most is not None}
        return {name: pair for name, pair in pairs.items() if pair is not None}

    @property
    def sums(self) -> dict[str, tuple[int, int]]:
        """The bounds that are set on what stages add up to: on all but latency and SRAM."""
        return {
            name: (math.ceil(least), math.floor(most))
            for name, (least, most) in self.given.items()
            if name not in ("latency", "sram")
        }

    def admits(self, cost: Costs) -> bool:
        """Whether `cost` lies within every bound."""
        return self.why_not(cost) is None

    def why_not(self, cost: Costs) -> str | None:
        """A clause on each bound that `cost` violates; None if it lies within all."""
        violated = [
            f"{getattr(cost, name):,} {UNITS[name]} are not within {least:,} to {most:,}"
            for name, (least, most) in self.given.items()
            if not least <= getattr(cost, name) <= most
        ]
        return "; ".join(violated) or None


@dataclass(frozen=True, slots=True)
class Objective:
    """The reward accuracy · (cost / target)^w, and hard bounds.

    w is `exponent_below` if cost <= target, else `exponent_above`: equal exponents are the soft
    form (−0.07, −0.07), whose ranking does not depend on the target; (0, −1) is the hard form.
    Source: MnasNet, section 3.1, equations 2 and 3.

    If `pareto` names costs, accuracy is maximised and each of them minimised, and the reward only
    selects among the results. `seconds` gives a network's latency, required if latency is a cost: a
    sum over stem, stages and head, each of which depends on the others only by its input channels.
    `precision` is that of the bounded SRAM and flash.

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
    precision: Precision = Precision.FLOAT32

    def __post_init__(self) -> None:
        if self.target <= 0:
            raise ValueError(f"`target > 0` must hold, but got target={self.target}")
        for name in (self.cost, *self.pareto):
            if name not in get_args(CostName):
                valid = ", ".join(get_args(CostName))
                raise ValueError(f"a cost must be one of {valid}, but got {name!r}")
        if "latency" in (self.cost, *self.pareto, *self.bounds.given) and self.seconds is None:
            raise ValueError("latency is a cost where `seconds` gives it, but it is None")

    def price(self, architecture: Architecture, cost: Cost) -> Price:
        """The price of a network whose exact `cost` is known."""
        return Price(*cost, self.seconds(architecture) if self.seconds else 0.0)

    def reward(self, accuracy: float, cost: Costs) -> float:
        """The reward of a network with this `accuracy` (a fraction) and exact `cost`."""
        return accuracy * float(self.factors(np.array([cost]))[0])

    def factors(self, costs: NDArray[np.generic]) -> NDArray[np.float64]:
        """(cost / target)^w of N costs or prices, a row each; N."""
        ratio = costs[:, Price._fields.index(self.cost)].astype(float) / self.target
        exponent = np.where(ratio <= 1, self.exponent_below, self.exponent_above)
        return np.asarray(ratio**exponent)

    def value(self, accuracy: float, job: Job) -> float:
        """The reward of a job's network with this `accuracy`."""
        return self.reward(accuracy, self._price_of(job))

    def values(self, accuracy: float, job: Job) -> tuple[float, ...]:
        """The values that a study records: the reward, or accuracy and each Pareto cost."""
        if not self.pareto:
            return (self.value(accuracy, job),)
        price = self._price_of(job)
        return (accuracy, *(float(getattr(price, name)) for name in self.pareto))

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions of a study of this objective."""
        minimised: list[Direction] = ["minimize"] * len(self.pareto)
        return ("maximize", *minimised)

    def _price_of(self, job: Job) -> Price:
        return self.price(job.architecture, cost(job.architecture, job.budget.resolution))
