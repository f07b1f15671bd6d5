"""Rules of growth: a network and the nominal factor of its MACs in, the grown network out.

Compound scaling and its rivals. MACs grow with depth, and with the squares of width and resolution;
a uniform rule gives each of them a share of the factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scaling.coefficients import Coefficients, ScalingFactors
from scaling.compound import scale
from space.architecture import Architecture
from space.validation import InvalidInput, one_of


class Shares(NamedTuple):
    """The parts of a factor's logarithm, together 1, that depth, width and resolution take."""

    depth: float
    width: float
    resolution: float


@dataclass(frozen=True, slots=True)
class Uniform:
    """A rule that scales all stages alike, by `shares`."""

    shares: Shares
    name: str = field(default="compound", compare=False)

    def __call__(self, architecture: Architecture, factor: float) -> Architecture:
        """The network grown to nominally `factor` times the MACs of `architecture`."""
        return scale(architecture, **self.factors(factor)._asdict())

    def factors(self, factor: float) -> ScalingFactors:
        """What depth, width and resolution are multiplied by; d · w² · r² is `factor`."""
        depth, width, resolution = self.shares
        return ScalingFactors(factor**depth, factor ** (width / 2), factor ** (resolution / 2))


def compound(coefficients: Coefficients) -> Uniform:
    """Compound scaling (EfficientNet, section 3.3): at the factor (α·β²·γ²)^φ it is α^φ, β^φ, γ^φ.

    Raises `InvalidInput` for α = β = γ = 1, which change nothing.
    """
    total = _logarithm(coefficients)
    return Uniform(
        Shares(
            depth=math.log(coefficients.alpha) / total,
            width=2 * math.log(coefficients.beta) / total,
            resolution=2 * math.log(coefficients.gamma) / total,
        )
    )


def phi_of(coefficients: Coefficients, factor: float) -> float:
    """The φ at which (α·β²·γ²)^φ is `factor`; raises `InvalidInput` for α = β = γ = 1."""
    return math.log(factor) / _logarithm(coefficients)


def _logarithm(coefficients: Coefficients) -> float:
    if coefficients.nominal == 1:
        raise InvalidInput("coefficients: one of α, β, γ must be above 1, or no φ changes the cost")
    return math.log(coefficients.nominal)


#: pycls' fast scaling, d1_w8_g8_r1 ("Fast and Accurate Model Scaling", section 5): mostly wider, so
#: that activations, and with them time, grow with little more than the root of MACs.
FAST = Shares(0.1, 0.8, 0.1)

WIDTH = Uniform(Shares(0, 1, 0), "width")
RESOLUTION = Uniform(Shares(0, 0, 1), "resolution")

_RULES: Mapping[str, Uniform] = {
    "depth": Uniform(Shares(1, 0, 0), "depth"),
    "width": WIDTH,
    "resolution": RESOLUTION,
    "fast": Uniform(FAST, "fast"),
}

NAMES = ("compound", *_RULES)


def load(name: str, coefficients: Coefficients) -> Uniform:
    """The rule of a name in `NAMES`; the compound one scales by `coefficients`.

    Raises `InvalidInput` for an unknown name, with the nearest that is known.
    """
    if name == "compound":
        return compound(coefficients)
    if name not in _RULES:
        raise one_of("family.rule", name, NAMES)
    return _RULES[name]
