"""What a search maximises, and what it may not exceed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from space.cost import Cost

CostName = Literal["macs", "params", "activations"]

#: What people call each cost.
UNITS: dict[str, str] = {
    "macs": "MACs (multiply–adds)",
    "params": "parameters",
    "activations": "activations",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and most of each cost, both included; None leaves a cost free."""

    macs: tuple[int, int] | None = None
    params: tuple[int, int] | None = None
    activations: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in self.given.items():
            if not 0 < least <= most:
                raise ValueError(f"`0 < least <= most` must hold for {name}, but got {least, most}")

    @property
    def given(self) -> dict[str, tuple[int, int]]:
        """The bounds that are set."""
        pairs: dict[str, tuple[int, int] | None] = {
            "macs": self.macs,
            "params": self.params,
            "activations": self.activations,
        }
        return {name: pair for name, pair in pairs.items() if pair is not None}

    def admits(self, cost: Cost) -> bool:
        """Whether `cost` lies within every bound."""
        return all(
            least <= getattr(cost, name) <= most for name, (least, most) in self.given.items()
        )

    def violation(self, cost: Cost) -> float:
        """How far outside `cost` lies: |log(cost / bound)| summed over broken bounds; 0 within."""
        return sum(
            max(0.0, math.log(least / getattr(cost, name)), math.log(getattr(cost, name) / most))
            for name, (least, most) in self.given.items()
        )

    def why_not(self, cost: Cost) -> str | None:
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
    """

    target: int
    cost: CostName = "macs"
    exponent_below: float = -0.07
    exponent_above: float = -0.07
    bounds: Bounds = Bounds()

    def __post_init__(self) -> None:
        if self.target < 1:
            raise ValueError(f"`target >= 1` must hold, but got target={self.target}")
        if self.cost not in UNITS:
            raise ValueError(f"`cost` must be one of {', '.join(UNITS)}, but got {self.cost!r}")

    def reward(self, accuracy: float, cost: Cost) -> float:
        """The reward of a network with this `accuracy` (a fraction) and exact `cost`."""
        return accuracy * self.factor(cost)

    def factor(self, cost: Cost) -> float:
        """What the reward multiplies accuracy by: (cost / target)^w."""
        return float(self.factors(np.array([cost]))[0])

    def factors(self, costs: NDArray[np.integer]) -> NDArray[np.float64]:
        """The same for N × 3 costs, N."""
        ratio = costs[:, Cost._fields.index(self.cost)] / self.target
        exponent = np.where(ratio <= 1, self.exponent_below, self.exponent_above)
        factors: NDArray[np.float64] = ratio**exponent
        return factors

    def admits(self, cost: Cost) -> bool:
        """Whether a network of this cost may be trained at all."""
        return self.bounds.admits(cost)
