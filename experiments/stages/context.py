"""What the stages of a run share: its data, its baseline, its budgets, and what trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from experiments.conduct import Conductor, StudyName, load_data
from experiments.config import Recipe
from experiments.config.value_types import Workers
from experiments.data.load import HEAVY_IMBALANCE, Data
from experiments.evaluators.training import InitialWeights, TrainingEvaluator
from experiments.progress import log
from experiments.runs import start as starts
from experiments.runs.folder import OpenRun
from experiments.runs.start import Start
from experiments.stages.search_inputs import space_of
from search.ledger import Value
from search.recorded_jobs import accuracy
from space.architecture import Architecture
from space.choices import Space
from space.evaluation import Budget, Job, Proposer


@dataclass(frozen=True)
class StageContext:
    """One run, and who carries out its jobs."""

    run: OpenRun
    conductor: Conductor

    @property
    def recipe(self) -> Recipe:
        """What the run is to do."""
        return self.run.recipe

    @cached_property
    def data(self) -> Data:
        """The images, divided; what they are is noted in the manifest."""
        data = load_data(self.run)
        if data.summary.imbalance >= HEAVY_IMBALANCE and self.recipe.objective.metric == "top1":
            log.remark(
                "Accuracy weights all images equally; set objective.metric to balanced to weight "
                "all classes equally."
            )
        return data

    @cached_property
    def space(self) -> Space:
        """The recipe's space, for the images."""
        return space_of(self.recipe, self.data)

    @property
    def baseline(self) -> Architecture:
        """What stage 1 found; raises `InvalidInput` where it has not ended."""
        found = self.run.read("baseline.json")
        return Architecture.from_dict(found["architecture"], source="baseline.json: architecture")

    @cached_property
    def start(self) -> Start | None:
        """What training runs start from; None where weights are fresh."""
        return starts.kept(self.run) if self.recipe.start.weights else None

    def budget(self, epochs: int, data_fraction: float) -> Budget:
        """What one training run may spend, with the recipe's seed and start."""
        start = self.start.name if self.start else None
        return Budget(epochs, data_fraction, seed=self.recipe.seed, start=start)

    @property
    def family_budget(self) -> Budget:
        """What the training run of a member or of a rival may spend."""
        family = self.recipe.family
        return replace(self.budget(family.epochs, family.data_fraction), patience=family.patience)

    def record(
        self,
        study: StudyName,
        proposer: Proposer,
        plan: Sequence[Job] | int,
        evaluate: TrainingEvaluator,
        value: Value = accuracy,
        *,
        processes: Workers = 1,
    ) -> None:
        """Carries out the jobs of `proposer`, recorded in the run's `study`."""
        opened = self.conductor.open_study(study)
        self.conductor.conduct(opened, proposer, evaluate, plan, value, processes=processes)

    def evaluator(self, *, final: bool = False, keeps_weights: bool = False) -> TrainingEvaluator:
        """What trains: for the search on its part of the images, for the family on all of them.

        `final` is for the family, which is measured on the test images once, and whose weights are
        always kept. Those of the search are kept apart, as equal jobs of both see other images.
        """
        data, whole = self.data, final and self.recipe.data.return_held_out
        evaluate = self.conductor.evaluator(
            data.full_train if whole else data.train,
            None if whole else data.held_out,
            self.recipe.objective.metric,
            test=data.test if final else None,
            keeps_weights=final,
        )
        if keeps_weights:
            evaluate = replace(evaluate, weights=self.run.checkpoints / "search")
        if (start := self.start) is None:
            return evaluate
        path = starts.copy_path(self.run, start.name)
        names = None if start.classes is None else (start.classes, tuple(data.classes))
        initial = InitialWeights(start.name, start.architecture, path, names)
        return replace(evaluate, starts=(initial,))
