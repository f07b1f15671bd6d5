"""What the stages of a run share: its data, its budgets, and how jobs are carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path

from upath import UPath

from experiments.config import ExecutorConfig, Recipe
from experiments.data.load import HEAVY_IMBALANCE, Data, load
from experiments.evaluators.anywhere import Anywhere
from experiments.evaluators.packed import AUTO, packed
from experiments.evaluators.shared import Shared
from experiments.evaluators.training import TrainingEvaluator
from experiments.progress import log
from experiments.progress.display import Earlier, Watched
from experiments.progress.trackers import Tracker, tracked, trackers_of
from experiments.run import Folder, Run, environment
from experiments.training import cpu_workers, machine
from search.executors.local import Local
from search.executors.processes import Processes
from search.executors.ray import Ray
from search.executors.threads import Threads
from search.lease import Lease, Leased
from search.pruning import Halving
from search.recorded_jobs import Recorded
from search.study import finished, open_study
from space import choices
from space.architecture import Architecture
from space.evaluation import Budget, Evaluate, Executor, Job, Measurement, Proposer


class StageFailed(Exception):
    """A stage cannot go on; the message says why, in a sentence."""


@dataclass(frozen=True)
class Context:
    """One run, its data and its environment, and the one way to get jobs done and recorded.

    `lease` is the right to do so; None only where nothing is trained.
    """

    run: Run
    lease: Lease | None

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
                "Accuracy counts every image alike; objective.metric: balanced would count every "
                "class alike."
            )
        return data

    @cached_property
    def environment(self) -> dict[str, str]:
        """Where trainings run; recorded with each."""
        return environment()

    @property
    def baseline(self) -> Architecture:
        """What stage 1 found; raises `InvalidInput` where it has not ended."""
        found = self.run.read("baseline.json")
        return Architecture.from_dict(found["architecture"], source="baseline.json: architecture")

    def budget(self, epochs: int, data_fraction: float) -> Budget:
        """What one training may spend, with the recipe's seed."""
        return Budget(epochs=epochs, data_fraction=data_fraction, seed=self.recipe.seed)

    def record(
        self,
        stage: str,
        proposer: Proposer,
        plan: Sequence[Job] | int,
        value: Callable[[float, Job], float],
        evaluate: TrainingEvaluator,
    ) -> None:
        """Carries out a proposer's jobs, recorded in the study named after the stage."""
        study = open_study(self.run.storage, stage)
        self.run.plan(stage, plan if isinstance(plan, int) else len(plan))
        # Inside, so that what the study answers is shown as done.
        with Watched(proposer, stage, plan, value) as watched:
            recorded = Recorded(watched, study, value, self.environment)
            with tracked(recorded, stage, self._trackers, value) as shown:
                self._carry(shown, evaluate)

    def search(
        self,
        search: Proposer,
        trials: int,
        value: Callable[[float, Job], float],
        before: Earlier,
        evaluate: Evaluate,
    ) -> None:
        """Carries out the jobs of a search, which records them itself."""
        with (
            Watched(search, "search", trials, value, before) as watched,
            tracked(watched, "search", self._trackers, value) as shown,
        ):
            self._carry(shown, evaluate, self._halving(value))

    def _halving(self, value: Callable[[float, Job], float]) -> Halving | None:
        """How Tune prunes the search, where it is to; it knows what an earlier start has seen."""
        recipe = self.recipe
        if not recipe.tune_prunes:
            return None
        epochs, pruner = recipe.search.epochs, recipe.search.pruner
        trials = open_study(self.run.storage, "search").get_trials(deepcopy=False)
        seen = [trial.intermediate_values for trial in finished(trials)]
        first = min(pruner.warmup_epochs + 1, epochs)
        return Halving(epochs, first, pruner.reduction, value, seen)

    def evaluator(self, *, final: bool = False) -> TrainingEvaluator:
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
            checkpoints=self._checkpoints,
            weights=self._checkpoints / "weights" if final else None,
        )

    def _carry(
        self, proposer: Proposer, evaluate: Evaluate, halving: Halving | None = None
    ) -> None:
        """Carries out a proposer's jobs with the recipe's executor; what is no training, here."""
        assert self.lease is not None
        proposer = Leased(proposer, self.lease)
        if not isinstance(evaluate, TrainingEvaluator):
            Local().run(proposer, evaluate)
            return
        settings, timeout = self._executor, self.recipe.search.trial_timeout
        executor, work = executor_of(settings, timeout, halving), self._portable(evaluate)
        if isinstance(executor, Threads):
            work = packed(evaluate, machine.choose_device(settings.device))
        if evaluate.weights is not None:  # a member of the family
            sharing = settings.model_copy(update={"workers": self.recipe.family.processes})
            together = machine.worker_variables(sharing)
            if len(together) > 1:
                executor, work = Local(timeout), Shared(evaluate, together)
        executor.run(Tidied(proposer, evaluate), work)

    @cached_property
    def _executor(self) -> ExecutorConfig:
        """The recipe's, where the division of a CPU is measured if it is left open."""
        settings, cores = self.recipe.executor, machine.cores()
        open_ = settings.kind == "processes" and settings.workers == "auto"
        if not open_ or settings.threads is not None or cores == 1 or machine.gpus(settings):
            return settings
        base = choices.load(self.recipe.space).base
        network = replace(base, resolution=self.recipe.resolution)
        found = cpu_workers.measure_layouts(network, self.recipe.train.batch_size, cores)
        told = ", ".join(
            f"{each.speed:,.0f} by {each.workers} with {each.threads} CPU threads each"
            for each in found
        )
        log.note(f"images a second, by trainings at a time: {told}")
        return settings.model_copy(update={"workers": found[0].workers})

    @cached_property
    def _trackers(self) -> list[Tracker]:
        return trackers_of(self.recipe.logging, self.run.folder, self.recipe.name)

    @property
    def _checkpoints(self) -> Path | UPath:
        """Where unfinished trainings and the family's weights are kept."""
        given = self.recipe.executor.checkpoints
        return self.run.checkpoints if given is None else UPath(given) / self.recipe.name

    def _portable(self, evaluate: TrainingEvaluator) -> Evaluate:
        """`evaluate` as the executor's machines need it."""
        recipe = self.recipe
        if recipe.executor.address is None:
            return evaluate
        assert recipe.data.resolution is not None
        return Anywhere(evaluate, recipe.data, recipe.data.resolution, recipe.seed)


def load_data(run: Folder) -> Data:
    """The images that a recipe names, divided; what they are is noted in the manifest."""
    resolution = run.recipe.data.resolution
    assert resolution is not None  # settled when the run was opened
    data = load(run.recipe.data, resolution=resolution, seed=run.recipe.seed)
    run.note(data=data.summary.to_dict())
    for line in data.summary.warnings:
        log.remark(line)
    return data


def executor_of(
    settings: ExecutorConfig, trial_timeout: float | None = None, halving: Halving | None = None
) -> Executor:
    """The way to get jobs done that a recipe asks for; hanging ones end after `trial_timeout`.

    `halving` is for Ray alone.
    """
    match settings.kind:
        case "local":
            count = pack_size(settings)
            return Local(trial_timeout) if count == 1 else Threads(count)
        case "processes":
            return Processes(machine.worker_variables(settings), trial_timeout)
        case "ray":
            return Ray(
                workers=None if isinstance(settings.workers, str) else settings.workers,
                threads=settings.threads,
                gpus=0.0 if settings.device == "cpu" else settings.gpus_per_trial,
                address=settings.address,
                code=_code(),
                trial_timeout=trial_timeout,
                halving=halving,
            )


def pack_size(settings: ExecutorConfig) -> int:
    """How many trainings are packed into this process."""
    if not isinstance(settings.pack, str):
        return settings.pack
    return AUTO if machine.choose_device(settings.device).type == "cuda" else 1


def _code() -> list[Path]:
    """The folders of the packages that make up phiscale."""
    names = ("space", "scaling", "search", "reports", "experiments")
    return [Path(import_module(name).__path__[0]) for name in names]


class Tidied:
    """A proposer that removes the checkpoint of a training once its result is recorded."""

    def __init__(self, proposer: Proposer, evaluate: TrainingEvaluator) -> None:
        self.ask, self.report = proposer.ask, proposer.report
        self._tell, self._forget = proposer.tell, evaluate.forget

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Passes a result on, then removes the checkpoint."""
        self._tell(job, measurement)
        self._forget(job.architecture, job.budget)
