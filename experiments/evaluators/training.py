"""An `Evaluate` that trains: the network of an architecture, measured on held-out images."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load

from experiments.config import TrainConfig
from experiments.data.images import Images
from experiments.evaluators.int8 import int8_accuracy
from experiments.train import TrainingResult, TrainingTask, initial_weights, train
from experiments.training import cuda_context, distributed, machine
from experiments.training.distributed import ALONE, Replica
from experiments.training.failures import OutOfMemory, TrainingFailed, network_errors
from experiments.training.measure import Metric, class_accuracies
from experiments.training.readers import Kept
from space.architecture import Architecture
from space.channel_groups import ClassNames
from space.convert import IMAGENET, PixelStatistics
from space.device import Precision
from space.elastic import Elastic, ElasticNetwork
from space.evaluation import Budget, Job, Measurement, Report, Status, WorkerUnusable
from space.files import write_file
from space.inherit import Inherited, inherit
from space.network import Network, build
from space.weights import to_bytes

if TYPE_CHECKING:
    from upath import UPath


_logger = logging.getLogger(__name__)

#: Images of a piece, at least: of fewer, batch norm's statistics say little (assumed).
LEAST_PIECE = 16


@dataclass(frozen=True)
class InitialWeights:
    """Weights that training runs start from: a safetensors file of the network `architecture`.

    `classes` are the names of that network's classes and of those to be learned, None where the
    former are unknown. `trained` is the budget of the training run whose weights they are: it is
    repeated if the file is missing. A network that grows from it begins at its resolution. Of the
    weights of an `elastic` network, its parts are cut out. Budgets call it `name`.
    """

    name: str
    architecture: Architecture
    path: Path | UPath
    classes: ClassNames | None = None
    trained: Budget | None = None
    elastic: Elastic | None = None

    def inherited(self, architecture: Architecture, seed: int) -> Inherited:
        """What `architecture` has of them; `seed` draws the rest."""
        weights = load(self.path.read_bytes())
        if self.elastic is not None:
            return self.elastic.cut(weights, architecture)
        return inherit(weights, self.architecture, architecture, classes=self.classes, seed=seed)


@dataclass(frozen=True)
class TrainingEvaluator:
    """Trains networks on the images `train` and measures them.

    `held_out` images are measured after every epoch, `test` images once, after the last one; their
    accuracy is then the measurement's. One of the two may be None.
    The folder `checkpoints` holds unfinished runs; who records a result has it `forget` the
    training. Where `weights` is given, the measured weights of every complete training are written
    there (`weights_path`), and the measurement's details hold the accuracy of each class that has
    images, as `accuracy of class 0` and so on. `starts` are the weights that a budget's `start` and
    `teacher` name; `inherited share` in the details is the part of the parameters that came from
    the former.
    Where `elastic` is given, what is trained is that elastic network, for its largest part.
    In the `precision` int8, a complete training run's accuracy is that after quantisation, with
    ranges from training images; the details hold its `float32 accuracy`.
    `threads` is explained in `machine.prepared`, `alone` in `train`. Several processes that train
    together each have their `replica`, and meet at the path `meeting`; the first reports and
    writes.

    A training run that runs out of memory starts again with batches in twice as many pieces, as
    long as a piece has `LEAST_PIECE` images. Batch norm then sees fewer images at a time, so its
    accuracy compares less well with others': the measurement's details say `pieces of a batch`.
    Where it may not `split` batches, it raises `OutOfMemory`.
    """

    train: Images
    held_out: Images | None
    config: TrainConfig
    checkpoints: Path | UPath
    metric: Metric = "top1"
    precision: Precision = Precision.FLOAT32
    device: str = "auto"
    threads: int | None = None
    weights: Path | UPath | None = None
    normalisation: PixelStatistics = IMAGENET
    starts: Sequence[InitialWeights] = ()
    elastic: Elastic | None = None
    test: Images | None = None
    alone: bool = True
    split: bool = True
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    replica: Replica = ALONE
    meeting: Path | None = None

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """Trains `architecture` within `budget`; see `space.evaluation.Evaluate`."""
        if cuda_context.capture_failed() and cuda_context.is_replaceable():
            raise WorkerUnusable("a CUDA graph capture has failed in this process")
        try:
            for name in (budget.start, budget.teacher):
                self._initial(name)  # made again where it is missing, before processes meet
            device = machine.choose_device(self.device)
            with (
                machine.prepared(self.threads),
                distributed.process_group(self.replica, self.meeting, device),
            ):
                trained = self._fitting(architecture, budget, report, device)
        except TrainingFailed as failure:
            if isinstance(failure, OutOfMemory) and not self.split:
                raise
            return Measurement(Status.FAILED, reason=str(failure))
        measurement = trained.measurement
        if measurement.status is not Status.COMPLETE or not self.replica.first:
            return measurement
        if self.precision is Precision.INT8:
            measurement = self._in_int8(architecture, trained)
        if self.weights is None:
            return measurement
        write_file(self.weights_path(architecture, budget), to_bytes(trained.network.state_dict()))
        details = self._class_accuracies(trained, architecture.num_classes)
        return replace(measurement, details=measurement.details | details)

    def _fitting(
        self,
        architecture: Architecture,
        budget: Budget,
        report: Report,
        device: torch.device,
    ) -> TrainingResult:
        """The training in as few pieces as fit."""
        pieces = 1
        while True:
            trained = self._train(architecture, budget, report, device, pieces)
            if trained.out_of_memory and not self.split:
                raise OutOfMemory(trained.measurement.reason)
            smaller = self.config.batch_size // (2 * pieces)
            if not trained.out_of_memory or smaller < LEAST_PIECE or self.replica.size > 1:
                return trained
            _logger.warning(
                "%s; the training run starts again with %d images at a time; batch norm sees fewer "
                "images at a time, so its accuracy compares less well with others'",
                trained.measurement.reason,
                smaller,
            )
            pieces *= 2
            del trained  # and with it, what it holds of the device's memory
            gc.collect()

    def _train(
        self,
        architecture: Architecture,
        budget: Budget,
        report: Report,
        device: torch.device,
        pieces: int,
    ) -> TrainingResult:
        start, teacher = self._initial(budget.start), self._initial(budget.teacher)
        config = self.config if start is None else _growing(self.config, start, architecture)
        with network_errors("building the network"), initial_weights(budget.seed):
            network = ElasticNetwork(self.elastic) if self.elastic else build(architecture)
            inherited = None if start is None else start.inherited(architecture, budget.seed)
            if inherited is not None:
                network.load_state_dict(inherited.weights, strict=self.elastic is None)
            if isinstance(network, ElasticNetwork):
                network.prepare(inherited=inherited is not None)
        trained = train(
            network,
            TrainingTask(
                self.train,
                self.held_out,
                architecture.num_classes,
                self.metric,
                self.kept,
                self.replica,
                self.normalisation,
                None if teacher is None else _trained_network(teacher),
                self.test,
            ),
            config,
            replace(budget, resolution=budget.resolution or architecture.resolution),
            device=device,
            report=report,
            checkpoint=self.checkpoint_path(architecture, budget),
            alone=self.alone,
            pieces=pieces,
        )
        details = dict(trained.measurement.details)
        if inherited is not None:
            details["inherited share"] = inherited.share
        if pieces > 1:
            details["pieces of a batch"] = float(pieces)
        return replace(trained, measurement=replace(trained.measurement, details=details))

    def _initial(self, name: str | None) -> InitialWeights | None:
        """The weights of that name; made again where they are missing."""
        if name is None:
            return None
        weights = {each.name: each for each in self.starts}[name]
        if weights.trained is not None:
            self.restored(weights.architecture, weights.trained)
        return weights

    def restored(self, architecture: Architecture, budget: Budget) -> Path | UPath:
        """Where the weights of a complete training run are (`weights_path`).

        Where a user has removed them it is repeated, to the same numbers on a CPU. Raises
        `TrainingFailed` where that fails.
        """
        path = self.weights_path(architecture, budget)
        if path.is_file():
            return path
        _logger.warning("%s not found; its training run is repeated", path)
        # Processes meet at a path once.
        again = replace(self, meeting=self.meeting and self.meeting.with_name(path.stem))
        repeated = again(architecture, budget, lambda _: False)
        if repeated.status is not Status.COMPLETE:
            raise TrainingFailed(f"{path} not found, and repeated: {repeated.reason}")
        self.forget(architecture, budget)
        return path

    def checkpoint_path(self, architecture: Architecture, budget: Budget) -> Path | UPath:
        """Where an unfinished training is."""
        return self.checkpoints / f"{training_id(architecture, budget)}.pt"

    def forget(self, architecture: Architecture, budget: Budget) -> None:
        """Removes the checkpoint of a training run whose result is recorded."""
        self.checkpoint_path(architecture, budget).unlink(missing_ok=True)

    def weights_path(self, architecture: Architecture, budget: Budget) -> Path | UPath:
        """Where the weights of a complete training are: safetensors, `build`'s names.

        The evaluator must have a folder for weights.
        """
        assert self.weights is not None
        return self.weights / f"{training_id(architecture, budget)}.safetensors"

    def trained(self, job: Job) -> InitialWeights:
        """The weights that a training run of this evaluator gives, for others to start from."""
        path = self.weights_path(job.architecture, job.budget)
        return InitialWeights(path.stem, job.architecture, path, trained=job.budget)

    def network(self, job: Job) -> Network:
        """The network of a complete training run, with its weights; raises as `restored`."""
        self.restored(job.architecture, job.budget)
        return _trained_network(self.trained(job))

    @property
    def _judged(self) -> Images:
        """The images of the measurement's accuracy."""
        images = self.held_out if self.test is None else self.test
        assert images is not None  # one of the two may be None
        return images

    def _in_int8(self, architecture: Architecture, trained: TrainingResult) -> Measurement:
        network = build(architecture)  # the trained one's modules are others, made for training
        network.load_state_dict(trained.network.state_dict())
        found = int8_accuracy(network, self.train, self._judged, self.normalisation, self.metric)
        assert trained.measurement.accuracy is not None  # it is complete
        details = trained.measurement.details | {"float32 accuracy": trained.measurement.accuracy}
        return replace(trained.measurement, accuracy=found, details=details)

    def _class_accuracies(self, trained: TrainingResult, num_classes: int) -> dict[str, float]:
        assert trained.predictions is not None
        labels = torch.from_numpy(self._judged.labels)
        found = class_accuracies(trained.predictions.cpu(), labels, num_classes).tolist()
        return {
            f"accuracy of class {index}": value
            for index, value in enumerate(found)
            if not math.isnan(value)
        }


def training_id(architecture: Architecture, budget: Budget) -> str:
    """What tells a training run from all others; the name of its files.

    As for `search.ledger.identity`, the network's own resolution may be written out or left out.
    """
    if budget.resolution == architecture.resolution:
        budget = replace(budget, resolution=None)
    spent = hashlib.sha256(json.dumps(budget.to_dict()).encode()).hexdigest()
    return f"{architecture.key}-{spent[:16]}"


def _trained_network(weights: InitialWeights) -> Network:
    network = build(weights.architecture)
    network.load_state_dict(load(weights.path.read_bytes()))
    return network


def _growing(config: TrainConfig, start: InitialWeights, target: Architecture) -> TrainConfig:
    """Training that begins at the resolution of a trained, smaller network: pixels grow last."""
    fixed = config.resolutions == (1.0, 1.0)
    if start.trained is None or not fixed or start.architecture.resolution >= target.resolution:
        return config
    first = start.architecture.resolution / target.resolution
    return config.model_copy(update={"resolutions": (first, 1.0)})
