"""A search that looks networks up: records of earlier training runs, and a surrogate of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from experiments.config import EvaluatorConfig, Recipe
from experiments.evaluators.records import (
    WHERE,
    ExpectedAccuracy,
    RecordsEvaluator,
    SurrogateQuality,
    UnknownNetwork,
    quality,
    read,
    surrogate,
)
from search.objective import Objective
from space import choices, presets
from space.architecture import Architecture
from space.cost import cost
from space.validation import InvalidInput

#: The network that a found one is compared with, where the records know of it.
REFERENCE = "efficientnet_b0"

#: Parts of the cross-validation.
_FOLDS = 5


@dataclass(frozen=True)
class Lookup:
    """An evaluator of records, and how far what it predicts is to be trusted."""

    settings: EvaluatorConfig
    evaluate: RecordsEvaluator
    quality: SurrogateQuality | None

    def about(
        self, found: Architecture, objective: Objective, trials: Sequence[FrozenTrial]
    ) -> dict[str, Any]:
        """What is to be known of the accuracy of `found`: by which model, how good, against B0."""
        records = self.evaluate.records
        details = [trial.user_attrs["measurement"]["details"] for trial in trials]
        return {
            "looked_up": sum(bool(each["recorded"]) for each in details),
            "predicted": sum(not each["recorded"] for each in details),
            "extrapolated": sum(bool(each.get("extrapolated")) for each in details),
            "records": len(records),
            "surrogate": self.settings.surrogate,
            "noise": self.settings.noise,
            "cross_validation": self.quality and {"folds": _FOLDS, **self.quality._asdict()},
            "expected": self.evaluate.expected(found)._asdict(),
            "reference": self._reference(objective),
        }

    def _reference(self, objective: Objective) -> dict[str, Any] | None:
        network = presets.load(REFERENCE)
        try:
            expected: ExpectedAccuracy = self.evaluate.expected(network)
        except UnknownNetwork:
            return None
        return {
            "name": REFERENCE,
            "cost": cost(network)._asdict(),
            "reward": objective.reward(expected.accuracy, objective.price(network, cost(network))),
            **expected._asdict(),
        }


def lookup(recipe: Recipe) -> Lookup:
    """What the recipe's records answer; fitting a surrogate and judging it takes half a minute.

    Raises `InvalidInput` where there are no records, or where they are of other networks.
    """
    settings = recipe.evaluator
    if settings.records is None:
        raise InvalidInput(f"evaluator.records: must be a file of records; {WHERE}")
    space = choices.load(recipe.space)
    if recipe.resolution != space.base.resolution:
        raise InvalidInput(
            f"resolution: must be {space.base.resolution}, as of the recorded networks, but got "
            f"{recipe.resolution}"
        )
    records = read(settings.records, space)
    if settings.surrogate == "none":
        return Lookup(settings, RecordsEvaluator(records), None)
    judged = quality(settings.surrogate, records, _FOLDS)
    predict = surrogate(settings.surrogate, records)
    evaluate = RecordsEvaluator(records, predict, settings.noise, judged.rmse)
    return Lookup(settings, evaluate, judged)
