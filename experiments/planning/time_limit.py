"""What would make a run fit into a time: fewer or shorter trainings, or more machines."""

from __future__ import annotations

from typing import Any

from experiments.config import Recipe
from experiments.planning.estimate import Estimator


def ways(estimator: Estimator, hours: float) -> list[tuple[str, dict[str, int]]]:
    """Ways to make a run fit into `hours`, each as a sentence and the keys that it changes.

    Each way is judged by its own estimate; none is given where nothing would do.
    """
    recipe, limit = estimator.recipe, 3600 * hours
    found: list[tuple[str, dict[str, int]]] = []
    for words, changed in (
        ("fewer trials alone", ("search.trials",)),
        ("a shorter training of the family alone", ("family.epochs",)),
        (
            "less of everything",
            ("search.trials", "search.final_epochs", "coefficients.epochs", "family.epochs"),
        ),
    ):
        for percent in range(95, 4, -5):
            values = {key: max(1, _value(recipe, key) * percent // 100) for key in changed}
            if estimator.estimate(_changed(recipe, values)).seconds.middle <= limit:
                found.append((words, values))
                break
    return found


def machines_for(estimator: Estimator, hours: float, most: int = 64) -> int | None:
    """How many machines like this one would do it in `hours`; None where not even `most` would."""
    return next(
        (
            count
            for count in range(2, most + 1)
            if estimator.estimate(machines=count).shared.middle <= 3600 * hours
        ),
        None,
    )


def _value(recipe: Recipe, key: str) -> int:
    section, _, name = key.partition(".")
    return int(getattr(getattr(recipe, section), name))


def _changed(recipe: Recipe, values: dict[str, int]) -> Recipe:
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    changed = {
        name: getattr(recipe, name).model_copy(update=update) for name, update in sections.items()
    }
    return recipe.model_copy(update=changed)
