"""What the sentences of several sections have in common."""

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
    """How many images the accuracies of a table were measured on; 0 if that is unknown."""
    return max((row["images"] or 0 for row in rows(frame)), default=0)


def looked_up(run: Run) -> bool:
    """Whether the search looked up recorded training runs and trained nothing."""
    return bool(run.recipe.get("evaluator", {}).get("kind") == "records")
