"""How jobs are carried out: one way for the stages of a run, for scaling studies and transfers.

It binds a proposer of jobs and what evaluates them to the recipe's executor, the storage in which
results are recorded, the lease without which nothing is written, and who looks on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.pruners import BasePruner

from experiments.config import ExecutorConfig
from experiments.config.value_types import Workers
from experiments.data.images import Images
from experiments.data.load import Data, load
from experiments.evaluators.data_parallel import DataParallelEvaluator
from experiments.evaluators.packed import AUTO, PackedOnArrival, packed
from experiments.evaluators.portable import PortableEvaluator
from experiments.evaluators.training import TrainingEvaluator
from experiments.progress import log
from experiments.progress.display import ProgressDisplay, earlier
from experiments.progress.trackers import Tracker, trackers_of, tracking
from experiments.runs.environment import environment
from experiments.runs.folder import RecipeFolder
from experiments.training import machine, throughput
from experiments.training.measure import Metric
from search.executors.local import Local, Threads
from search.executors.processes import Processes, cores
from search.executors.ray import Ray
from search.lease import Lease, Leased, held
from search.ledger import Value, checked
from search.objective import Direction
from search.pruning import Halving
from search.recorded_jobs import Recorded, accuracy
from search.search import Search
from search.study import open_study
from space.architecture import Architecture
from space.evaluation import (
    Epoch,
    Evaluate,
    Executor,
    Job,
    Measurement,
    Observer,
    Proposer,
    Status,
)


class StageFailed(Exception):
    """A stage cannot go on; the message says why, in a sentence."""


def require_complete(stage: str, told: Mapping[str, Measurement]) -> None:
    """Raises `StageFailed` where a training run, called by its name, is not complete."""
    for name, measurement in told.items():
        if measurement.status is not Status.COMPLETE:
            raise StageFailed(f"{stage}: {name}: training did not finish: {measurement.reason}")


class StudyName(NamedTuple):
    """What a study is called in the storage, the stage it belongs to, and its title for people."""

    name: str
    stage: str
    title: str


@dataclass(frozen=True)
class Conductor:
    """Carries out the jobs of the run, scaling study or transfer in the folder `run`.

    `lease` is the right to do so. Where the recipe leaves the division of a CPU open, it is
    measured with the network `typical`. A training run that ends no epoch for `trial_timeout`
    seconds fails.
    """

    run: RecipeFolder
    lease: Lease
    typical: Architecture
    trial_timeout: float | None = None

    def open_study(
        self,
        study: StudyName,
        pruner: BasePruner | None = None,
        directions: Sequence[Direction] = ("maximize",),
    ) -> optuna.Study:
        """The study in the run's storage, which refuses writes once the lease has ended."""
        fence, (name, stage, title) = self.lease.fence, study
        return open_study(
            self.run.storage, name, pruner, directions, stage=stage, title=title, fence=fence
        )

    def evaluator(
        self,
        train: Images,
        held_out: Images | None,
        metric: Metric,
        *,
        test: Images | None = None,
        within: str = "",
        keeps_weights: bool = False,
    ) -> TrainingEvaluator:
        """What trains as the recipe says, on the images of `TrainingEvaluator`.

        Checkpoints and weights, where these are kept, are in the folder `within` of the run's.
        """
        recipe, checkpoints = self.run.recipe, self.run.checkpoints / within
        return TrainingEvaluator(
            train=train,
            held_out=held_out,
            test=test,
            config=recipe.train,
            metric=metric,
            normalisation=recipe.data.normalisation,
            device=recipe.executor.device,
            threads=recipe.executor.threads,
            checkpoints=checkpoints,
            weights=checkpoints / "weights" if keeps_weights else None,
        )

    def conduct(
        self,
        study: optuna.Study,
        proposer: Proposer,
        evaluate: Evaluate,
        plan: Sequence[Job] | int,
        value: Value = accuracy,
        *,
        halving: Halving | None = None,
        processes: Workers = 1,
    ) -> None:
        """Carries out the jobs of `proposer` and records them in `study`.

        What the study holds already is answered from it. `plan` is the jobs that there will be, or
        how many at most; `value` is what the study maximises. Of several `processes` each takes a
        part of every batch, so that there is one training run at a time. Raises `LeaseLost` where
        another driver has taken over.
        """
        name = study.study_name
        searches = isinstance(proposer, Search)  # it records its jobs itself
        self.run.plan(name, plan if isinstance(plan, int) else len(plan))
        with ExitStack() as stack:
            before = earlier(study) if searches else None
            observers: list[Observer] = [
                stack.enter_context(ProgressDisplay(name, plan, value, before)),
                stack.enter_context(tracking(name, self._trackers, value)),
            ]
            if isinstance(evaluate, TrainingEvaluator):
                observers.append(_CheckpointRemoval(evaluate))
            observed = Observed(proposer, observers)
            if not searches:
                observed.proposer = Recorded(
                    proposer, study, value, self._environment, observed.answered
                )
            executor, work = self._executor(evaluate, halving, processes)
            executor.run(Leased(observed, self.lease), work)

    @cached_property
    def _environment(self) -> dict[str, str]:
        """Where training runs; recorded with each trial."""
        return environment()

    @cached_property
    def _trackers(self) -> list[Tracker]:
        return trackers_of(self.run.recipe.logging, self.run.folder, self.run.label)

    def _executor(
        self, evaluate: Evaluate, halving: Halving | None, processes: Workers
    ) -> tuple[Executor, Evaluate]:
        """The recipe's executor, and `evaluate` as it is handed to it."""
        if not isinstance(evaluate, TrainingEvaluator):
            return Local(), evaluate
        sharing = self._settings.model_copy(update={"workers": processes})
        environments = [] if processes == 1 else machine.worker_variables(sharing)
        if len(environments) > 1:
            return Local(self.trial_timeout), DataParallelEvaluator(evaluate, environments)
        executor = executor_of(self._settings, self.trial_timeout, halving)
        if isinstance(executor, Threads):
            device = machine.choose_device(self._settings.device)
            return executor, packed(evaluate, device, pack_size(self._settings))
        if isinstance(executor, Processes) and (count := pack_size(self._settings)) > 1:
            return executor, PackedOnArrival(evaluate, self._settings.device, count)
        if self._settings.address is not None:
            recipe = self.run.recipe
            assert recipe.data.resolution is not None  # settled when the run was opened
            return executor, PortableEvaluator(
                evaluate, recipe.data, recipe.data.resolution, recipe.seed
            )
        return executor, evaluate

    @cached_property
    def _settings(self) -> ExecutorConfig:
        """The recipe's; what it leaves open of how to divide a GPU or a CPU is measured."""
        settings = self.run.recipe.executor
        if settings.pack == "auto" and machine.gpus(settings):
            packs = throughput.measure_gpu(self.typical, self.run.recipe.train, settings.device)
            told = ", ".join(f"{each.speed:,.0f} with {each.runs} at a time" for each in packs)
            log.note(f"images per second by the number of training runs on a GPU: {told}")
            settings = settings.model_copy(update={"pack": packs[0].runs})
        open_ = settings.kind == "processes" and settings.workers == "auto"
        if not open_ or settings.threads is not None or cores() == 1 or machine.gpus(settings):
            return settings
        found = throughput.measure_cpu(self.typical, self.run.recipe.train, cores())
        told = ", ".join(
            f"{each.speed:,.0f} with {each.processes} at a time, {each.threads} CPU threads each"
            for each in found
        )
        log.note(f"images per second by the number of training runs at a time: {told}")
        return settings.model_copy(update={"workers": found[0].processes})


@contextmanager
def driving(run: RecipeFolder, *, take_over: bool = False) -> Iterator[Lease]:
    """Inside, this process drives the run, which its manifest notes.

    Raises `InvalidInput` where another process does, unless it is to be taken over.
    """
    with held(run.storage, run=run.identity, take_over=take_over) as lease:
        run.note_start()
        yield lease


class Observed:
    """A proposer whose work `observers` look on."""

    def __init__(self, proposer: Proposer, observers: Sequence[Observer]) -> None:
        self.proposer, self._observers = proposer, observers

    def ask(self) -> Job | None:
        """The next job."""
        since = time.monotonic()  # to propose takes its time, too
        job = self.proposer.ask()
        if job is not None:
            for each in self._observers:
                each.began(job, since)
        return job

    def report(self, job: Job, epoch: Epoch) -> bool:
        """Passes an epoch on, then shows it."""
        stops = self.proposer.report(job, epoch)
        for each in self._observers:
            each.epoch(job, epoch)
        return stops

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Passes a result on, then shows it."""
        self.proposer.tell(job, measurement)
        for each in self._observers:
            each.ended(job, checked(measurement))

    def answered(self, job: Job, measurement: Measurement) -> None:
        """Shows a job that the proposer was told at once."""
        for each in self._observers:
            each.answered(job, measurement)


class _CheckpointRemoval(Observer):
    """Removes the checkpoint of a training run once its result is recorded."""

    def __init__(self, evaluate: TrainingEvaluator) -> None:
        self._evaluate = evaluate

    def ended(self, job: Job, measurement: Measurement) -> None:  # noqa: ARG002 (Observer's)
        self._evaluate.forget(job.architecture, job.budget)


def load_data(run: RecipeFolder) -> Data:
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
    """The executor that a recipe asks for; training runs that hang end after `trial_timeout`.

    `halving` is for Ray alone.
    """
    match settings.kind:
        case "local":
            count = pack_size(settings)
            return Local(trial_timeout) if count == 1 else Threads(count)
        case "processes":
            return Processes(machine.worker_variables(settings), trial_timeout, pack_size(settings))
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
    """How many training runs share a process, on one GPU."""
    if not isinstance(settings.pack, str):
        return settings.pack
    return AUTO if machine.choose_device(settings.device).type == "cuda" else 1


def _code() -> list[Path]:
    """The folders of the packages that make up phiscale."""
    names = ("space", "scaling", "search", "reports", "experiments")
    return [Path(import_module(name).__path__[0]) for name in names]
