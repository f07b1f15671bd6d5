"""Makes a run fit into a time by fewer members, a smaller baseline, fewer trials, fewer epochs.

They are reduced in this order, each no more than needed. No stage becomes empty, and finalists are
never trained for fewer epochs than candidates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product
from operator import attrgetter
from typing import Any, NamedTuple

import yaml

from experiments.config import Recipe, value_keys, written
from experiments.planning.draft import Draft
from experiments.planning.estimate import Estimate, Estimator
from experiments.planning.spaces import rounded
from experiments.runs.recipe_changes import changed
from space.validation import InvalidInput, validate

#: The part of the time for training; the rest is for exports and the report (assumed).
_PLANNED = 0.9

#: The minimum number of members of a family, and of trials of a search (assumed).
_LEAST_MEMBERS, _LEAST_TRIALS = 2, 8

#: Factors by which the baseline's MACs shrink, to a quarter at least, and percentages of trials and
#: epochs (assumed).
_BASELINES = tuple(2 ** (-step / 4) for step in range(1, 9))
_PERCENTAGES = tuple(range(95, 4, -5))

#: Keys that are reduced besides members and baseline.
_EPOCHS = ("search.epochs", "search.final_epochs", "coefficients.epochs", "family.epochs")
_REDUCED = ("search.trials", "search.finalists", *_EPOCHS)

Variants = Callable[[Recipe], Iterable[Recipe]]


class Fit(NamedTuple):
    """A variant of a recipe that fits into a time; `changes` are the keys that differ."""

    recipe: Recipe
    changes: Mapping[str, Any]
    estimate: Estimate


def fit(
    estimator: Estimator,
    hours: float,
    baselines: Variants | None = None,
    whole: Recipe | None = None,
) -> Fit | None:
    """The recipe `whole`, reduced until it fits into `hours`; None if nothing is enough.

    `baselines` gives variants with smaller baselines, the largest first; by default bounds, target
    and members shrink together. `whole` is the recipe of `estimator` unless it was measured on a
    reduced one.
    """
    whole = whole or estimator.recipe
    recipe, limit = whole, 3600 * hours * _PLANNED
    steps = (_fewer_members, baselines or smaller_baselines, _fewer_trials, _fewer_epochs)
    for variants in (lambda recipe: [recipe], *steps):
        for variant in variants(recipe):
            try:
                found = estimator.estimate(variant)
            except InvalidInput:  # a stage would have no network
                continue
            recipe = variant
            if found.seconds.middle <= limit:
                return Fit(recipe, differences(whole, recipe), found)
    return None


def machines_for(estimator: Estimator, hours: float, most: int = 64) -> int | None:
    """How many machines like this one need at most `hours`; None if more than `most`."""
    limit = 3600 * hours * _PLANNED
    counts = range(2, most + 1)
    return next((n for n in counts if estimator.estimate(machines=n).shared.middle <= limit), None)


def fitted_draft(
    draft_of: Callable[[int], Draft],
    budget: int,
    hours: float,
    *,
    keep_budget: bool,
    say: Callable[[str], None],
) -> tuple[Draft, Estimate]:
    """A draft of a recipe that fits into `hours`, and its estimate.

    `draft_of` drafts a recipe for a budget, `budget` or, without `keep_budget`, a smaller one.
    Raises `InvalidInput` if nothing is enough.
    """

    def recipe_for(budget: int) -> Recipe:
        return validate(Recipe, yaml.safe_load(draft_of(budget).text), source="the drafted recipe")

    def baselines(recipe: Recipe) -> Iterator[Recipe]:
        smaller = [] if keep_budget else [rounded(factor * budget) for factor in _BASELINES]
        for macs in smaller:
            if macs >= recipe.objective.target:
                continue
            with suppress(InvalidInput):  # no space has networks of so few MACs
                drafted = recipe_for(macs)
                members = drafted.family.targets[: len(recipe.family.targets)]
                reduced = {key: attrgetter(key)(recipe) for key in _REDUCED}
                yield changed(drafted, {"family.targets": members, **reduced})

    whole = recipe_for(budget)

    def fitted(measured: Recipe) -> Fit:
        if found := fit(Estimator(measured, say), hours, baselines, whole):
            return found
        hint = "leave --budget out, or allow more" if keep_budget else "allow more"
        raise InvalidInput(f"--hours {hours:g}: no recipe for these images fits; {hint}")

    found = fitted(whole)
    if found.changes:
        # The networks that the reduced recipe trains are measured, and the whole recipe is reduced
        # once more: what was measured on larger networks may have cut too much.
        found = fitted(found.recipe)
    draft = draft_of(int(found.recipe.objective.target))
    drafted = recipe_for(draft.budget)
    text = with_values(draft.text, differences(drafted, found.recipe))
    return replace(draft, text=text), found.estimate


def differences(before: Recipe, after: Recipe) -> dict[str, Any]:
    """The keys whose values differ, with those of `after`."""
    values = {key: attrgetter(key) for key in value_keys()}
    return {key: of(after) for key, of in values.items() if of(before) != of(after)}


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """The text of a drafted recipe with other values, and with its comments."""
    left, section, lines = dict(values), "", []
    for line in text.splitlines():
        match = re.match(r"( *)(\w+):( [^#]*?)?(\s+# .*)?$", line)
        if match:
            indent, name, _, comment = match.groups()
            section = section if indent else f"{name}."
            key = f"{section}{name}" if indent else name
            if key in left:
                line = f"{indent}{name}: {shown(left.pop(key))}{comment or ''}"
        lines.append(line)
    assert not left, f"not in the draft: {', '.join(left)}"
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    """A value as a recipe and `--set` write it: 40, [1M, 2M]."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    return written(value) if isinstance(value, int) and value >= 1_000 else f"{value}"


def _fewer_members(recipe: Recipe) -> Iterator[Recipe]:
    """Without the most expensive members, one more each time."""
    key = "family.targets" if recipe.family.targets else "family.phi"
    members = list(attrgetter(key)(recipe))
    while len(members) > _LEAST_MEMBERS:
        members.remove(max(members))
        yield changed(recipe, {key: tuple(members)})


def smaller_baselines(recipe: Recipe) -> Iterator[Recipe]:
    """With bounds, target and members at a part of the MACs; none if MACs are not bounded."""
    bounds = recipe.objective.bounds.macs
    if bounds is None or recipe.objective.cost != "macs":
        return
    for factor in _BASELINES:
        changes: dict[str, Any] = {
            "objective.target": rounded(factor * recipe.objective.target),
            "objective.bounds.macs": tuple(rounded(factor * end) for end in bounds),
        }
        if recipe.family.targets and recipe.family.cost == "macs":
            targets = tuple(rounded(factor * target) for target in recipe.family.targets)
            changes["family.targets"] = targets
        yield changed(recipe, changes)


def _fewer_trials(recipe: Recipe) -> Iterator[Recipe]:
    search = recipe.search
    for percent in _PERCENTAGES:
        trials = search.trials * percent // 100
        if trials >= _LEAST_TRIALS:
            finalists = min(search.finalists, trials)
            yield changed(recipe, {"search.trials": trials, "search.finalists": finalists})


def _fewer_epochs(recipe: Recipe) -> Iterator[Recipe]:
    """Each time one key is reduced: halving two epochs of a search at once would cut too much."""
    whole = {key: int(attrgetter(key)(recipe)) for key in _EPOCHS}
    left = dict(whole)
    pinned = {"coefficients.epochs"} if recipe.coefficients.pinned else set()
    for percent, key in product(_PERCENTAGES, reversed(_EPOCHS)):
        fewer = max(1, round(whole[key] * percent / 100))
        if key == "search.final_epochs":
            fewer = max(left["search.epochs"], fewer)
        if fewer < left[key] and key not in pinned:
            left[key] = fewer
            yield changed(recipe, left)
