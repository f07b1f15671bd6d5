"""What sentences of several parts of the page say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.load import Run
from reports.schema import rows

if TYPE_CHECKING:
    import pandas as pd


def trained_for(run: Run, study: str) -> str:
    """`5 epochs`: the most that a study trained for."""
    budgets = [trial.budget["epochs"] for trial in run.study(study) if "epochs" in trial.budget]
    most = max(budgets, default=0)
    return f"{most} epoch" + ("" if most == 1 else "s")


def images_of(frame: pd.DataFrame) -> int:
    """How many images the accuracies of a table are on; 0 where it says nothing."""
    return max((row["images"] or 0 for row in rows(frame)), default=0)


def looked_up(run: Run) -> bool:
    """Whether the search asked records of trainings, and trained nothing."""
    return bool(run.recipe.get("evaluator", {}).get("kind") == "records")
