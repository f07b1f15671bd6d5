"""Phrases that the sentences of several sections share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.formatting import minus, number, plural
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


def own_runs_agree(pairs: Sequence[tuple[float, float]]) -> str:
    """How far an elastic order may be trusted, by finalists' accuracies as parts and on their own.

    `pairs` has both for each finalist.
    """
    from scipy.stats import kendalltau

    found = kendalltau(*zip(*pairs, strict=True), alternative="greater")
    if math.isnan(found.statistic):
        return "The finalists' accuracies are equal, which says nothing of the elastic order."
    return (
        "How far the elastic order may be trusted in this run: between the finalists' accuracies "
        "as elastic parts and after training runs of their own, Kendall's τ = "
        f"{minus(f'{found.statistic:.2f}')} over {number(len(pairs), 'network')} (1: the same "
        f"order, −1: reversed). An order by chance has as much with probability "
        f"{found.pvalue:.2g}. Finalists are the best parts, so they lie closer together than the "
        "others."
    )


def seeds_agree(found: Mapping[str, Any]) -> str:
    """How well elastic seeds agree on an order (`scaling.elastic_order.SeedAgreement`)."""
    doubt = "too few for an interval"
    if found["interval"]:
        low, high = (minus(f"{end:.2f}") for end in found["interval"])
        doubt = f"95 % interval {low} to {high}"
    agree = "disagree" if found["tau"] < 0 else "agree"
    return (
        f"Two elastic seeds {agree} on the order of {number(found['networks'], 'part')} with "
        f"Kendall's τ = {minus(format(found['tau'], '.2f'))} ({doubt})."
    )


def images_of(frame: pd.DataFrame) -> int:
    """The number of images that the accuracies of a table were measured on; 0 if unknown."""
    return max((row["images"] or 0 for row in rows(frame)), default=0)
