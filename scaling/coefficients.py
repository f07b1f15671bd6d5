"""The coefficients of compound scaling: α (depth), β (width), γ (resolution).

EfficientNet, section 3.3: depth α^φ, width β^φ, resolution γ^φ with α·β²·γ² ≈ 2 and α, β, γ >= 1,
so that MACs grow about 2^φ times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


class AllFailed(RuntimeError):
    """No candidate was trained to its end, so none can be chosen."""


class ScalingFactors(NamedTuple):
    """What the repeats, the channels and the resolution of a network are multiplied by."""

    depth: float
    width: float
    resolution: float


@dataclass(frozen=True, slots=True, order=True)
class Coefficients:
    """α, β and γ, each at least 1; raises ValueError otherwise."""

    alpha: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("beta", self.beta), ("gamma", self.gamma)):
            if not 1 <= value < math.inf:
                raise ValueError(f"`{name} >= 1` must hold, but got {name}={value}")

    def __str__(self) -> str:
        return f"α{self.alpha:g} β{self.beta:g} γ{self.gamma:g}"

    @property
    def nominal(self) -> float:
        """α·β²·γ²: what one step of φ multiplies MACs by, before any rounding."""
        return self.alpha * self.beta**2 * self.gamma**2

    def at(self, phi: float) -> ScalingFactors:
        """The factors α^φ, β^φ, γ^φ; below 1 where φ is negative."""
        return ScalingFactors(self.alpha**phi, self.beta**phi, self.gamma**phi)


#: Found for EfficientNet-B0 on ImageNet (section 5.3); their nominal product is 1.92.
PUBLISHED = Coefficients(alpha=1.2, beta=1.1, gamma=1.15)
