"""Rules of growth: a network and the nominal factor of its MACs in, the grown network out."""

from __future__ import annotations

import math
from collections.abc import Callable

from scaling.coefficients import Coefficients
from scaling.compound import scale
from space.architecture import Architecture
from space.validation import InvalidInput

#: Gives a network that costs nominally (before any rounding) so many times the MACs of the given.
Rule = Callable[[Architecture, float], Architecture]


def compound(coefficients: Coefficients) -> Rule:
    """Depth, width and resolution together (EfficientNet, section 3.3), at the factor's φ."""

    def grow(architecture: Architecture, factor: float) -> Architecture:
        factors = coefficients.at(phi_of(coefficients, factor))
        return scale(architecture, **factors._asdict())

    return grow


def phi_of(coefficients: Coefficients, factor: float) -> float:
    """The φ at which (α·β²·γ²)^φ is `factor`; raises `InvalidInput` for α = β = γ = 1."""
    if coefficients.nominal == 1:
        raise InvalidInput("coefficients: one of α, β, γ must be above 1, or no φ changes the cost")
    return math.log(factor) / math.log(coefficients.nominal)
