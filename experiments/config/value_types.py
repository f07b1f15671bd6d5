"""Types of the values in a recipe, and the base class of its sections.

Every number has an upper limit: a typing error is refused at once, with its key, and no later
computation overflows.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from reports.formatting import short


class Section(BaseModel):
    """A section of a recipe. Unknown keys are refused, and values never change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


_SUFFIXES = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}


def quantity(value: Any) -> Any:
    """`40M` as 40000000. Any value that is not a finite count with a suffix comes back as it is."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGBT]?)\s*", value, re.IGNORECASE)
        count = float(match[1]) * _SUFFIXES[match[2].upper()] if match else math.inf
        return round(count) if math.isfinite(count) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def written(count: int) -> str:
    """A count as recipes and `--set` have it: 300M where that is exact."""
    text = short(count)
    return text if quantity(text) == count else str(count)


def _amount(value: Any) -> Any:
    """`5ms` as 0.005, and any other value as `quantity` reads it."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|ms|us|µs)\s*", value)
        if match:
            return float(match[1]) * _SECONDS[match[2]]
    found = quantity(value)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"must be a count, such as 40M, or a time, such as 5ms, but got {value!r}")
    return found


def _share(value: float) -> float:
    if value >= 1 and not value.is_integer():
        raise ValueError(f"must be a fraction below 1 or a whole count, but got {value}")
    return value


def _workers(value: int | str) -> int | str:
    if value != "auto" and (isinstance(value, str) or not 1 <= value <= _MOST_WORKERS):
        raise ValueError(f"must be `auto` or a count from 1 to {_MOST_WORKERS}, but got {value!r}")
    return value


_MOST = 10**15
_MOST_WORKERS = 10_000

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Epochs = Annotated[int, Field(ge=1, le=10**6)]
Pixels = Annotated[int, Field(ge=8, le=4096)]
#: A count that may be written 40M, 1.5G or 4e7.
Quantity = Annotated[int, BeforeValidator(quantity), Field(gt=0, le=_MOST)]
#: A fraction that may be 0 but not 1.
Fraction = Annotated[float, Field(ge=0, lt=1)]
#: A part that may be everything but not nothing.
Scale = Annotated[float, Field(gt=0, le=1)]
#: A fraction of the images where below 1, and a count of images otherwise.
Share = Annotated[float, Field(gt=0, le=10**9), AfterValidator(_share)]
Positive = Annotated[float, Field(gt=0, le=10**9)]
NonNegative = Annotated[float, Field(ge=0, le=10**9)]
#: A latency in seconds that may be written 5ms or 800us.
Seconds = Annotated[float, BeforeValidator(_amount), Field(gt=0, le=10**9)]
#: A count, or a latency in seconds.
Amount = Annotated[int | float, BeforeValidator(_amount), Field(gt=0, le=_MOST)]
#: How many run at a time.
Workers = Annotated[int | str, AfterValidator(_workers)]

CostKind = Literal["macs", "params", "activations", "latency"]
