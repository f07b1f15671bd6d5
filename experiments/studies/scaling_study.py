"""Carries out a scaling study: trains every network with every seed, and saves the results.

    runs/NAME/  recipe.yaml  manifest.json  study.db  study.json
                checkpoints/  predictions/  report/

It may be stopped and started again at any time: what the storage holds is not trained again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from experiments import config
from experiments.conduct import (
    Conductor,
    StudyName,
    driving,
    load_data,
    require_complete,
)
from experiments.data.load import Data
from experiments.evaluators.training import TrainingEvaluator
from experiments.families.predictions import Predictions
from experiments.runs.folder import RecipeFolder
from experiments.runs.opening import recipe_and_folder, with_resolution
from experiments.runs.recipe_changes import changed, prepared, write_recipe
from experiments.studies.recipes import BaselineConfig, StudyRecipe, is_json
from experiments.training import machine
from scaling import study_design
from scaling.jobs import InOrder
from scaling.study_design import StudyPoint
from search.ledger import answer, measurement_of
from space.cost import cost
from space.evaluation import Budget, Job, Measurement, Status

#: Keys that may change between two starts: they ask for more training runs or for fewer, and those
#: that are recorded keep their meaning.
_MAY_CHANGE = (
    *("processes", "seeds", "baselines", "rules", "coefficients", "factors", "targets", "best"),
)


@dataclass(frozen=True)
class OpenStudy(RecipeFolder):
    """The folder of a study, and its recipe."""

    recipe: StudyRecipe


def open_study_run(
    target: str,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    take_over: bool = False,
) -> OpenStudy:
    """The study in folder `target`, or that of the recipe `target`, made ready to be run.

    Raises `InvalidInput` where the folder holds a study whose numbers mean something else, or one
    that another process drives, and whose recipe would change under it.
    """
    load = partial(config.load_as, StudyRecipe)
    recipe, folder = recipe_and_folder(load, target, out, overrides)
    recipe = changed(recipe, {"baselines": tuple(map(_with_absolute_path, recipe.baselines))})
    folder, recipe, before = prepared(folder, recipe)
    run = OpenStudy(folder, with_resolution(recipe, before, _largest_resolution))
    write_recipe(run, before, _MAY_CHANGE, take_over=take_over)
    return run


def _with_absolute_path(baseline: BaselineConfig) -> BaselineConfig:
    network = baseline.network
    if not isinstance(network, str) or not is_json(network):
        return baseline
    return baseline.model_copy(update={"network": str(Path(network).resolve())})


def _largest_resolution(recipe: StudyRecipe) -> int:
    # The number of classes changes the resolution of a network by a pixel at most.
    return max(point.architecture.resolution for point in recipe.points(num_classes=10))


def run(opened: OpenStudy, *, take_over: bool = False) -> dict[str, Any]:
    """Trains what is not trained yet, writes study.json and returns its content.

    One seed follows the other, so that a stopped study has all of its points. Raises
    `StageFailed` where a training run failed, and `InvalidInput` where another process drives the
    study and is not to be taken over.
    """
    recipe = opened.recipe
    with driving(opened, take_over=take_over) as held:
        data = load_data(opened)
        points = recipe.points(len(data.classes))
        budget = Budget(epochs=recipe.epochs, data_fraction=recipe.data_fraction, seed=recipe.seed)
        table = study_design.jobs(points, budget, recipe.seeds)
        in_turn = [job for jobs in zip(*table, strict=True) for job in jobs]
        trained = InOrder(in_turn)
        conductor = Conductor(opened, held, typical=points[0].architecture)
        study = conductor.open_study(StudyName("study", "study", "Scaling study"))
        evaluate = conductor.evaluator(
            data.full_train, None, recipe.metric, test=data.test, keeps_weights=True
        )
        try:
            with opened.timed("study"):
                conductor.conduct(study, trained, evaluate, in_turn, processes=recipe.processes)
        finally:  # also where the study is stopped
            known = _known(study, in_turn)
            found = _content(recipe, points, table, known)
            if any(known.values()):
                opened.write("study.json", found)
    require_complete("study", trained.told)
    _keep_maps(opened, data, points, table, evaluate)
    return found


def _known(study: optuna.Study, jobs: Sequence[Job]) -> dict[str, Measurement | None]:
    """The recorded measurement of each job, by its name."""
    trials = study.get_trials(deepcopy=False)
    found = {job.name: answer(trials, job) for job in jobs}
    return {name: None if trial is None else measurement_of(trial) for name, trial in found.items()}


def _keep_maps(
    opened: OpenStudy,
    data: Data,
    points: Sequence[StudyPoint],
    table: Sequence[Sequence[Job]],
    evaluate: TrainingEvaluator,
) -> None:
    """Saves activation maps of the largest networks on the same images, for the first seed.

    Where rules are compared, they are those of the first baseline, and the baseline itself.
    """
    first = points[0].baseline
    most = max(point.target for point in points if point.baseline == first)
    device = machine.choose_device(opened.recipe.executor.device)
    kept = Predictions(opened.folder / "predictions", data.test, device, data.test_names)
    for point, (job, *_) in zip(points, table, strict=True):
        label = point.rule if opened.recipe.factors else point.baseline
        beside = bool(opened.recipe.factors) and point.baseline != first
        path = evaluate.weights_path(job.architecture, job.budget)
        wanted = point.rule == study_design.UNSCALED or point.target == most
        if wanted and not beside and path.is_file():
            kept.add(label, evaluate.network(job))
    kept.write_images()


def _content(
    recipe: StudyRecipe,
    points: Sequence[StudyPoint],
    table: Sequence[Sequence[Job]],
    known: Mapping[str, Measurement | None],
) -> dict[str, Any]:
    """The content of study.json: the points, with accuracy and seconds of each training run.

    Both are null where a training run is missing. `compared` says whether the study compares rules,
    at each factor of a baseline's MACs, or baselines, at each target.
    """
    return {
        "name": recipe.name,
        "description": recipe.description,
        "data": recipe.data.source,
        "epochs": recipe.epochs,
        "seeds": recipe.seeds,
        "best": recipe.best,
        "compared": "rules" if recipe.factors else "baselines",
        "published": {each.name: each.published for each in recipe.baselines if each.published},
        "points": [
            {
                "baseline": point.baseline,
                "rule": point.rule,
                "factor": point.factor,
                "target": point.target,
                **cost(point.architecture)._asdict(),
                "resolution": point.architecture.resolution,
                "key": point.architecture.key,
                "architecture": point.architecture.to_dict(),
                "training_runs": [_training(job, known.get(job.name)) for job in jobs],
            }
            for point, jobs in zip(points, table, strict=True)
        ],
    }


def _training(job: Job, known: Measurement | None) -> dict[str, Any]:
    complete = known is not None and known.status is Status.COMPLETE
    return {
        "seed": job.budget.seed,
        "accuracy": known.accuracy if known and complete else None,
        "seconds": round(known.train_seconds, 3) if known and complete else None,
    }
