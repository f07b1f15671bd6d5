"""Phrases that the sentences of several sections share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reports.formatting import plural
from reports.load import Run
from reports.schema import rows

if TYPE_CHECKING:
    import pandas as pd

#: The coefficients: sign, key, and what they scale.
LETTERS = (("α", "alpha", "depth"), ("β", "beta", "width"), ("γ", "gamma", "resolution"))


def letters(found: Mapping[str, Any]) -> str:
    """`α 1.2, β 1.1, γ 1.15`."""
    return ", ".join(f"{sign} {found[name]:.4g}" for sign, name, _ in LETTERS)


def trained_for(run: Run, study: str) -> str:
    """`5 epochs`: the longest training run of a study."""
    most = max((trial.budget.get("epochs", 0) for trial in run.study(study)), default=0)
    return f"{most} {plural(most, 'epoch')}"


def images_of(frame: pd.DataFrame) -> int:
    """The number of images that the accuracies of a table were measured on; 0 if unknown."""
    return max((row["images"] or 0 for row in rows(frame)), default=0)
