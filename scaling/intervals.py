"""Intervals of measured accuracies, without numpy: every command starts with them."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(accuracy: float, images: int, level: float = 0.95) -> tuple[float, float]:
    """The binomial interval of an accuracy measured on `images` images (Wilson 1927).

    It covers the choice of images alone, not the variation between training runs.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = accuracy + z**2 / (2 * images)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / images + (z / (2 * images)) ** 2)
    scale = 1 + z**2 / images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
