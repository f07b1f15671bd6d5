"""Values as a recipe writes them, and what all of its sections have in common."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


_MULTIPLES = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


def quantity(value: Any) -> Any:
    """`40M` as 40000000; anything that is not a count with a suffix is left to pydantic."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([\d.]+)\s*([KMGBT]?)\s*", value, re.IGNORECASE)
        if match:
            return round(float(match[1]) * _MULTIPLES[match[2].upper()])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


#: A count that may be written 40M, 1.5G or 4e7.
Quantity = Annotated[int, BeforeValidator(quantity), Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Scale = Annotated[float, Field(gt=0, le=1)]


def _amount(value: Any) -> Any:
    """`5ms` as 0.005; anything else as a count."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([\d.]+)\s*(s|ms|us|µs)\s*", value)):
        return float(match[1]) * _SECONDS[match[2]]
    return quantity(value)


_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}

#: A latency in seconds that may be written 5ms, or 800us.
Seconds = Annotated[float, BeforeValidator(_amount), Field(gt=0)]
#: A count or a latency.
Amount = Annotated[int | float, BeforeValidator(_amount), Field(gt=0)]


def _share(value: float) -> float:
    if value >= 1 and not value.is_integer():
        raise ValueError(f"a fraction below 1 or a whole count is needed, but got {value}")
    return value


#: A part of the images: a fraction where below 1, else a count.
Share = Annotated[float, Field(gt=0), AfterValidator(_share)]


def _workers(value: int | str) -> int | str:
    if value != "auto" and (isinstance(value, str) or value < 1):
        raise ValueError(f"`auto` or a count of at least 1 is needed, but got {value!r}")
    return value


#: How many at a time.
Workers = Annotated[int | str, AfterValidator(_workers)]

CostKind = Literal["macs", "params", "activations", "latency"]
