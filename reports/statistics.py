"""How sure a measured accuracy is."""

from __future__ import annotations

import math


def wilson(accuracy: float, images: int, z: float = 1.959964) -> tuple[float, float]:
    """The binomial interval of an accuracy measured on `images` images, 95 % at the default z.

    It covers the choice of images alone, not the variation between trainings. Source: Wilson 1927.
    """
    centre = accuracy + z * z / (2 * images)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / images + (z / (2 * images)) ** 2)
    scale = 1 + z * z / images
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def interval(accuracy: float | None, images: int | None) -> dict[str, float | int | None]:
    """The columns accuracy, images, low and high of a row; the ends only where both are known."""
    row: dict[str, float | int | None] = {"accuracy": accuracy, "images": images}
    if accuracy is None or not images:
        return row
    low, high = wilson(accuracy, images)
    return row | {"low": low, "high": high}
