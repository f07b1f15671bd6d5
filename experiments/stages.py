"""The four stages of a run: each binds a proposer, an evaluator, an executor and a study.

A stage may be started again at any time: trainings that the storage holds are answered from it, so
a stage that had ended only writes its result once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.trial import FrozenTrial
from safetensors.torch import load_file

from experiments.config import CoefficientsConfig, Recipe
from experiments.data.images import Images
from experiments.data.load import Data, load
from experiments.evaluators.training import TrainingEvaluator
from experiments.progress import Watched, console
from experiments.run import Run, environment
from experiments.training.augment import normalisation, normalise, resize
from scaling import coefficients as grids
from scaling import evidence, export, rules
from scaling.coefficients import AllFailed, Answer, Candidate, Coefficients
from scaling.family import Preprocessing
from scaling.jobs import InOrder
from scaling.members import Family, family_at, family_for
from scaling.race import Race, ladder
from scaling.realised import equal_cost, realised
from scaling.targets import MEASURES
from search import pruning, samplers
from search.candidates import Candidates
from search.executors.local import Local
from search.ledger import job_of, measurement_of
from search.objective import Bounds, Objective
from search.recorded import Recorded, accuracy
from search.search import Search, SearchFailed
from search.study import open_study, ranked, value_of
from space import choices
from space.architecture import Architecture
from space.cost import Cost
from space.evaluation import Budget, Job, Measurement, Proposer, Status
from space.network import Network, build

NAMES = ("search", "coefficients", "family", "report")

#: Test images on which a member on disk must put out what the trained one does (assumed).
_PROOF_IMAGES = 16

#: The part of a target cost by which a member may miss it unremarked.
_NOTED_MISS = 0.01


class StageFailed(Exception):
    """A stage cannot go on; the message says why, in a sentence."""


#: What ends a stage with a sentence; everything recorded is kept.
FAILURES = (StageFailed, SearchFailed, AllFailed, export.ExportMismatch)


def run(opened: Run, names: Iterable[str] = NAMES) -> dict[str, Any]:
    """Runs the named stages in order and gives what each found, by its name.

    Raises `InvalidInput` where a stage needs the result of one that has not ended, and
    `StageFailed` where trainings failed that it cannot do without.
    """
    stages = Stages(opened)
    found: dict[str, Any] = {}
    for name in names:
        with opened.timed(name):
            found[name] = getattr(stages, name)()
    return found


@dataclass(frozen=True)
class Stages:
    """The stages of one run, and what they share: its data and its environment."""

    run: Run

    @property
    def recipe(self) -> Recipe:
        """What the run is to do."""
        return self.run.recipe

    @cached_property
    def data(self) -> Data:
        """The images, divided; what they are is noted in the manifest."""
        resolution = self.recipe.data.resolution
        assert resolution is not None  # settled when the run was opened
        data = load(self.recipe.data, resolution=resolution, seed=self.recipe.seed)
        self.run.note(data=data.summary.to_dict())
        for line in data.summary.warnings:
            console.print(line, markup=False)
        return data

    @cached_property
    def environment(self) -> dict[str, str]:
        """Where trainings run; recorded with each."""
        return environment()

    def search(self) -> dict[str, Any]:
        """Stage 1: the baseline, found by short trainings and chosen by longer ones."""
        recipe, objective = self.recipe, self._objective()
        space = choices.load(recipe.space).adapted(
            num_classes=len(self.data.classes),
            resolution=recipe.resolution,
            in_channels=recipe.data.channels,
        )
        pruner = pruning.create(epochs=recipe.search.epochs, **recipe.search.pruner.model_dump())
        study = open_study(self.run.storage, "search", pruner)
        sampler = samplers.create(recipe.search.sampler, Candidates(space, objective), recipe.seed)
        search = Search(
            study,
            sampler,
            self._budget(recipe.search.epochs, recipe.search.data_fraction),
            trials=recipe.search.trials,
            environment=self.environment,
        )
        _carry(search, "search", recipe.search.trials, objective.reward, self._evaluator())
        if search.exhausted:
            console.print(search.exhausted, markup=False)

        best = ranked(study)[: recipe.search.finalists]
        if not best:
            raise StageFailed("search: no trial was trained to its end, so there is no baseline")
        winner, searched = self._final(best, objective.reward)
        baseline = _result(winner) | {"choices": searched.params, "study": "finalists"}
        self.run.write("baseline.json", baseline)
        return baseline

    def _final(
        self, best: Sequence[FrozenTrial], reward: Callable[[float, Cost], float]
    ) -> tuple[FrozenTrial, FrozenTrial]:
        """The finalists trained longer: the winner's trial there, and that of the search."""
        budget = self._budget(self.recipe.search.final_epochs, self.recipe.search.data_fraction)
        by_name = {f"finalist of {job_of(trial).name}": trial for trial in best}
        jobs = [Job(name, job_of(trial).architecture, budget) for name, trial in by_name.items()]
        self._record("finalists", InOrder(jobs), jobs, reward, self._evaluator())
        keys = {job.architecture.key for job in jobs}
        finished = [
            trial
            for trial in ranked(open_study(self.run.storage, "finalists"))
            if trial.user_attrs["key"] in keys and job_of(trial).budget.epochs == budget.epochs
        ]
        if not finished:
            raise StageFailed("search: no finalist was trained to its end")
        return finished[0], by_name[finished[0].user_attrs["job"]]

    def coefficients(self) -> dict[str, Any]:
        """Stage 2: α, β and γ from the grid around the baseline, or as the recipe pins them."""
        found = self._answer(self._baseline()).to_dict()
        self.run.write("coefficients.json", found)
        return found

    def _answer(self, baseline: Architecture) -> Answer:
        settings = self.recipe.coefficients
        phi, factor = settings.phi, settings.factor
        if settings.alpha and settings.beta and settings.gamma:
            given = Coefficients(settings.alpha, settings.beta, settings.gamma)
            return grids.pinned(baseline, given, phi=phi, factor=factor)

        candidates = _candidates(settings, baseline)
        budget = self._budget(settings.epochs, settings.data_fraction)
        if settings.method == "grid":
            grid = grids.Grid(candidates, budget)
            self._record("coefficients", grid, grid.jobs, accuracy, self._evaluator())
            return grid.answer(phi=phi, factor=factor)

        rungs = ladder(len(candidates), settings.epochs, settings.seeds)
        (published,) = grids.candidates(baseline, [grids.PUBLISHED], phi=phi, factor=factor)
        race = Race(candidates, rungs, budget, guest=published)
        most = sum(rung.entrants * rung.seeds for rung in rungs) + settings.seeds
        self._record("coefficients", race, most, accuracy, self._evaluator())
        return evidence.answer(race, phi=phi, factor=factor)

    def family(self) -> dict[str, Any]:
        """Stage 3: the members, trained on all training images, tested, written and verified."""
        family = self._family()
        for line in _remarks(family, self.data.train.resolution):
            console.print(line, markup=False)
        budget = self._budget(self.recipe.family.epochs, self.recipe.family.data_fraction)
        jobs = family.jobs(budget)
        members = InOrder(jobs)
        evaluate = self._evaluator(final=True)
        self._record("family", members, jobs, accuracy, evaluate)
        failed = {
            name: told.reason
            for name, told in members.told.items()
            if told.status is not Status.COMPLETE
        }
        if failed:
            name, reason = next(iter(failed.items()))
            raise StageFailed(f"family: {name} was not trained to its end: {reason}")
        return self._export(family, members, evaluate)

    def report(self) -> str:
        """Stage 4: the page, the figures and the tables; gives the page's path."""
        from reports.page import write

        return str(write(self.run.folder, self.run.storage))

    def _family(self) -> Family:
        settings, baseline = self.recipe.family, self._baseline()
        found = self.run.read("coefficients.json")
        coefficients = Coefficients(found["alpha"], found["beta"], found["gamma"])
        if not settings.targets:
            return family_at(baseline, coefficients, settings.phi, multiple=settings.multiple)
        return family_for(
            baseline,
            coefficients,
            settings.targets,
            rule=rules.load(settings.rule, coefficients),
            measure=MEASURES[settings.cost],
            multiple=settings.multiple,
        )

    def _baseline(self) -> Architecture:
        found = self.run.read("baseline.json")
        return Architecture.from_dict(found["architecture"], source="baseline.json: architecture")

    def _objective(self) -> Objective:
        settings = self.recipe.objective
        return Objective(
            target=settings.target,
            cost=settings.cost,
            exponent_below=settings.exponent_below,
            exponent_above=settings.exponent_above,
            bounds=Bounds(**settings.bounds.model_dump()),
        )

    def _budget(self, epochs: int, data_fraction: float) -> Budget:
        return Budget(epochs=epochs, data_fraction=data_fraction, seed=self.recipe.seed)

    def _export(
        self, family: Family, trained: InOrder, evaluate: TrainingEvaluator
    ) -> dict[str, Any]:
        """Writes every member and proves what was written on test images."""
        folder = self.run.folder / "family"
        about = export.About(
            data=self._described(evaluate.train),
            classes=self.data.classes,
            preprocessing=Preprocessing(*normalisation(self.recipe.data.channels)),
        )
        images = self.data.test.read(np.arange(min(_PROOF_IMAGES, len(self.data.test))))
        records = []
        for member, job in zip(family.members, trained.jobs, strict=True):
            pixels = resize(torch.from_numpy(images), member.resolution)
            records.append(
                export.export_member(
                    folder,
                    member,
                    _trained(job, evaluate),
                    _test_result(trained.told[member.name]),
                    about,
                    normalise(pixels.permute(0, 3, 1, 2)),
                )
            )
        export.write_family(folder, records, family.coefficients, about)
        return self.run.read("family/family.json")

    def _described(self, images: Images) -> str:
        source = Path(self.recipe.data.source).name
        return f"{len(images):,} images of {source!r}"

    def _record(
        self,
        stage: str,
        proposer: Proposer,
        plan: Sequence[Job] | int,
        value: Callable[[float, Cost], float],
        evaluate: TrainingEvaluator,
    ) -> None:
        """Carries out a proposer's jobs, recorded in the study named after the stage."""
        study = open_study(self.run.storage, stage)
        recorded = Recorded(proposer, study, value, self.environment)
        _carry(recorded, stage, plan, value, evaluate)

    def _evaluator(self, *, final: bool = False) -> TrainingEvaluator:
        """What trains: for the search on its part of the images, for the family on all of them."""
        recipe, data = self.recipe, self.data
        train = data.full_train if final and recipe.data.return_held_out else data.train
        return TrainingEvaluator(
            train=train,
            held_out=data.test if final else data.held_out,
            config=recipe.train,
            metric=recipe.objective.metric,
            device=recipe.executor.device,
            threads=recipe.executor.threads,
            checkpoints=self.run.checkpoints,
            weights=self.run.checkpoints / "weights" if final else None,
        )


def _candidates(settings: CoefficientsConfig, baseline: Architecture) -> tuple[Candidate, ...]:
    """The networks that the coefficients are chosen from."""
    step, tolerance, factor = settings.step, settings.tolerance, settings.factor
    match settings.constraint:
        case "nominal":
            combinations = grids.grid(step, tolerance, factor)
            return grids.candidates(baseline, combinations, phi=settings.phi, factor=factor)
        case "realised":
            return realised(baseline, step, tolerance, factor, phi=settings.phi)
        case "equal_cost":
            return equal_cost(baseline, step, tolerance, factor, phi=settings.phi)


def _remarks(family: Family, stored: int) -> Iterator[str]:
    """What the user of a family should know before it is trained; images have `stored` pixels."""
    for name, earlier in family.duplicates:
        yield f"{name} is the same network as {earlier}: the difference was rounded away"
    for member in family.members:
        if member.resolution > stored:
            yield f"{member.name} sees {member.resolution} pixels, enlarged from {stored}"
        if member.miss is not None and abs(member.miss) > _NOTED_MISS:
            yield f"{member.name} misses its target of {member.target:,} by {member.miss:+.1%}"


class _Tidied:
    """A proposer that removes the checkpoint of a training once its result is recorded."""

    def __init__(self, proposer: Proposer, evaluate: TrainingEvaluator) -> None:
        self.ask, self.report = proposer.ask, proposer.report
        self._tell, self._forget = proposer.tell, evaluate.forget

    def tell(self, job: Job, measurement: Measurement) -> None:
        self._tell(job, measurement)
        self._forget(job.architecture, job.budget)


def _test_result(told: Measurement) -> export.Trained:
    assert told.accuracy is not None  # it is COMPLETE
    assert told.images is not None
    return export.Trained(told.accuracy, told.images, told.train_seconds)


def _trained(job: Job, evaluate: TrainingEvaluator) -> Network:
    """The network of a finished training, with its weights.

    Where a user has removed them they are trained once more, to the same numbers on a CPU.
    """
    path = evaluate.weights_path(job.architecture, job.budget)
    if not path.is_file():
        console.print(f"{job.name}: {path} is gone; its training is repeated", markup=False)
        evaluate(job.architecture, job.budget, lambda _: False)
    network = build(job.architecture)
    network.load_state_dict(load_file(path))
    return network


def _carry(
    proposer: Proposer,
    stage: str,
    plan: Sequence[Job] | int,
    value: Callable[[float, Cost], float],
    evaluate: TrainingEvaluator,
) -> None:
    with Watched(_Tidied(proposer, evaluate), stage, plan, value) as watched:
        Local().run(watched, evaluate)


def _result(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial found, as baseline.json says it."""
    attributes = trial.user_attrs
    return {
        "architecture": attributes["architecture"],
        "key": attributes["key"],
        "cost": attributes["cost"],
        "accuracy": measurement_of(trial).accuracy,
        "reward": value_of(trial),
        "trial": trial.number,
    }
