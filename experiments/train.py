"""The one training loop: every network of a run is trained here, and only its budget differs.

All randomness of an epoch follows from the budget's seed and the epoch's number, so a run that
continues from a checkpoint ends as an uninterrupted one does, on a CPU bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.data.images import Images
from experiments.training import checkpoints, cuda_context, distributed, machine
from experiments.training.batches import Batches, plan_steps, stratified_part
from experiments.training.cuda_graphs import CapturedStep, CudaGraph, Step
from experiments.training.distributed import ALONE, Replica
from experiments.training.failures import OutOfMemory, TrainingFailed, device_errors, network_errors
from experiments.training.learner import Learner
from experiments.training.measure import Evaluation, Metric, accuracy, evaluate
from experiments.training.optimizers import learning_rate
from experiments.training.readers import Kept, open_reader
from space.evaluation import Budget, Epoch, Interrupted, Measurement, Report, Status

if TYPE_CHECKING:
    from upath import UPath

_logger = logging.getLogger(__name__)

#: Images of a validation batch, in training batches, at most; it keeps no gradients, so it takes
#: less memory all the same.
VALIDATION_BATCHES = 4
#: Images for each thread of a CPU from which on it gains nothing by more (measured, 24 and 32
#: pixels: 16 are 1.2 times as slow each as 64; 256 do not fit a core's cache, and with the memory
#: they need first are 1.1 times as slow; two threads take 1.25 times as long over 64 as over 256).
_ENOUGH_IMAGES = 64
#: Of what resolutions of a training run that grows are multiples: a GPU records a step for each
#: (assumed).
_RESOLUTION_STEP = 4
#: Steps between two looks at the loss: on a GPU a look waits for all work handed to it (assumed).
_LOSS_CHECK_STEPS = 50


@dataclass(frozen=True)
class TrainingTask:
    """What is learned, and on which images and by which metric it is judged.

    Training runs of one process that have the same `kept` share what is on their device. `replica`
    is which process this is, where several train one network.
    """

    train: Images
    held_out: Images
    num_classes: int
    metric: Metric = "top1"
    kept: Kept = field(default_factory=Kept)
    replica: Replica = ALONE


@dataclass(frozen=True)
class TrainingResult:
    """What a training run gives.

    `network` is on its device and holds the weights that were measured: averaged ones, where the
    configuration averages. `predictions` are the classes it saw in the held-out images (N); None
    where it was not measured. `out_of_memory` is why it failed, where that is so.
    """

    measurement: Measurement
    network: nn.Module
    predictions: Tensor | None
    out_of_memory: bool = False


def train(
    network: nn.Module,
    task: TrainingTask,
    config: TrainConfig,
    budget: Budget,
    *,
    device: torch.device,
    report: Report,
    checkpoint: Path | UPath | None = None,
    alone: bool = True,
    pieces: int = 1,
) -> TrainingResult:
    """Trains `network` within `budget`, which gives the resolution, and measures it every epoch.

    `report` is told of each epoch, of those before an interruption too, and may end the training,
    which is PRUNED then. What a network can do wrong (a loss that is not finite, an exception, too
    much memory) makes it FAILED, and is raised as `TrainingFailed` where it cannot begin.
    `checkpoint` is written while there is more to do, and where `report` interrupts the training;
    the caller removes it. Where the training is not `alone` in its process, its memory is not
    measured. Batches are taken in `pieces` (`Learner`).
    """
    report = distributed.agreed(report, task.replica)
    with cuda_context.thread_stream(device):
        with device_errors("setting up the training run"):
            if alone:
                machine.reset_peak_memory(device)
            training = _Training(network, task, config, budget, device, pieces)
        status, reason, full = Status.COMPLETE, None, False
        try:
            for epoch in training.epochs(checkpoint):
                if report(epoch) and epoch.epoch < budget.epochs:
                    status = Status.PRUNED
                    break
        except Interrupted:
            if checkpoint is not None:
                training.save(checkpoint)
            raise
        except TrainingFailed as failure:
            status, reason = Status.FAILED, str(failure)
            full = isinstance(failure, OutOfMemory)
        trained = training.result(status, reason)
        if alone:
            trained = replace(trained, measurement=_with_memory(trained.measurement, device))
        return replace(trained, out_of_memory=full)


def _with_memory(measurement: Measurement, device: torch.device) -> Measurement:
    """With the most memory that the training run allocated, and what a GPU reserved for it."""
    reserved = machine.reserved_memory(device)
    details = {} if reserved is None else {"reserved memory": float(reserved)}
    return replace(
        measurement,
        peak_memory=machine.peak_memory(device),
        details=measurement.details | details,
    )


class _Training:
    """One training, between two epochs."""

    def __init__(
        self,
        network: nn.Module,
        task: TrainingTask,
        config: TrainConfig,
        budget: Budget,
        device: torch.device,
        pieces: int,
    ) -> None:
        assert budget.resolution is not None
        part = stratified_part(task.train.labels, budget.data_fraction, budget.seed)
        self._images = task.train.subset(part)
        self._plan = plan_steps(len(part), config.batch_size, task.replica.size)
        every = np.arange(len(task.held_out))
        judged = task.held_out.subset(every[task.replica.of(len(every))])
        self._read_held_out = open_reader(judged, device, budget.resolution, task.kept)
        self._judged = torch.from_numpy(judged.labels).to(device)
        self._labels = torch.from_numpy(task.held_out.labels).to(device)
        self._fingerprint = _fingerprint(network, task, config, budget, pieces)
        with network_errors(f"moving the network to {device}"):
            self._learner = Learner(network, config, device, task.replica, pieces)
        self._task, self._config, self._budget, self._device = task, config, budget, device
        self._pieces = pieces
        self._batches: Batches | None = None
        self._history: list[Epoch] = []
        self._train_seconds = self._validation_seconds = 0.0
        self._evaluation: Evaluation | None = None

    def epochs(self, checkpoint: Path | UPath | None) -> Iterator[Epoch]:
        """Each epoch once it is over, those that `checkpoint` holds at once."""
        if checkpoint is not None:
            self._restore(checkpoint)
        yield from tuple(self._history)
        saved = time.monotonic()
        for number in range(len(self._history) + 1, self._budget.epochs + 1):
            yield self._epoch(number)
            due = time.monotonic() - saved >= self._config.checkpoint_seconds
            if checkpoint is not None and due and number < self._budget.epochs:
                self.save(checkpoint)
                saved = time.monotonic()

    def save(self, checkpoint: Path | UPath) -> None:
        """Writes what the training has come to; where it cannot, the training goes on without."""
        if not self._task.replica.first:
            return
        try:
            checkpoints.save(checkpoint, self._fingerprint, self._state())
        except OSError as error:
            _logger.warning(
                "%s: cannot write the checkpoint (%s); training continues without it",
                checkpoint,
                error.strerror or error,
            )

    def _epoch(self, number: int) -> Epoch:
        start = time.perf_counter()
        with device_errors(f"training in epoch {number}"):
            train_loss = self._train(number)
        trained = time.perf_counter()
        with device_errors(f"validation after epoch {number}"):
            self._evaluation = self._evaluated()
        end = time.perf_counter()
        self._train_seconds += trained - start
        self._validation_seconds += end - trained
        _check_finite(self._evaluation.loss, f"validation after epoch {number}")
        epoch = Epoch(number, train_loss, self._accuracy(), self._evaluation.loss, end - start)
        self._history.append(epoch)
        return epoch

    def _evaluated(self) -> Evaluation:
        replica = self._task.replica
        batch_size = self._plan.batch_size // self._pieces
        most = VALIDATION_BATCHES * batch_size
        if self._device.type == "cpu":
            most = min(most, max(batch_size, _ENOUGH_IMAGES * torch.get_num_threads()))
        own = evaluate(self._learner.averaged, self._read_held_out, self._judged, most)
        if replica.size == 1:
            return own
        weight = replica.size * len(self._judged) / len(self._labels)
        loss = distributed.mean_over_replicas(
            torch.tensor(own.loss * weight, device=self._device), replica
        )
        return Evaluation(loss.item(), distributed.gather_rows(own.predictions, replica))

    def _train(self, number: int) -> float:
        """Trains epoch `number`; gives the mean loss per image."""
        batches, step = self._at(_resolution(self._config, self._budget, number))
        for_network, for_data = seeds(self._budget.seed, number)
        self._learner.generator.manual_seed(for_network + self._task.replica.rank)
        self._learner.network.train()
        total = torch.zeros((), device=self._device)
        drawn = batches.epoch(torch.Generator().manual_seed(for_data))
        for index, batch in enumerate(drawn):
            self._learner.turn_to(self._rate())
            with network_errors(f"training with batches of {batches.shape}"):
                total += step(batch)
            if index % _LOSS_CHECK_STEPS == 0:
                _check_finite(total.item(), f"training in epoch {number}")
        loss = distributed.mean_over_replicas(total, self._task.replica).item() / self._plan.steps
        _check_finite(loss, f"training in epoch {number}")
        return loss

    def _at(self, resolution: int) -> tuple[Batches, Step]:
        """The batches of `resolution` pixels and the step that they take."""
        if self._batches is None or self._batches.shape[-1] != resolution:
            batches = Batches(
                self._images,
                self._task.num_classes,
                self._config,
                resolution,
                self._device,
                self._task.kept,
                self._task.replica,
            )
            learner = self._learner
            self._step: Step = lambda batch: learner.step(*batches.inputs(batch))
            # Not where several processes train: a graph would hold their communication, too, which
            # nobody has tested on GPUs.
            if self._device.type == "cuda" and self._task.replica.size == 1:
                graph = CudaGraph(self._device, learner.generator)
                self._step = CapturedStep(self._step, graph, learner.renew_generator)
            self._batches = batches
        return self._batches, self._step

    def _rate(self) -> float:
        return learning_rate(
            self._learner.steps,
            config=self._config,
            batch_size=self._plan.batch_size,
            steps_per_epoch=self._plan.steps,
            epochs=self._budget.epochs,
        )

    def _accuracy(self) -> float:
        assert self._evaluation is not None
        return accuracy(
            self._evaluation.predictions, self._labels, self._task.num_classes, self._task.metric
        )

    def result(self, status: Status, reason: str | None) -> TrainingResult:
        """What the training run has come to."""
        last = self._history[-1] if self._history else None
        measurement = Measurement(
            status,
            accuracy=last.accuracy if last else None,
            loss=last.loss if last else None,
            train_seconds=self._train_seconds,
            validation_seconds=self._validation_seconds,
            images=len(self._labels),
            epochs=tuple(self._history),
            reason=reason,
        )
        predictions = self._evaluation.predictions if self._evaluation else None
        return TrainingResult(measurement, self._learner.averaged, predictions)

    def _state(self) -> dict[str, object]:
        return {
            "learner": self._learner.state(),
            "history": [asdict(epoch) for epoch in self._history],
            "train_seconds": self._train_seconds,
            "validation_seconds": self._validation_seconds,
        }

    def _restore(self, checkpoint: Path | UPath) -> None:
        state = checkpoints.load(checkpoint, self._fingerprint)
        if state is not None:
            self._learner.load(state["learner"])
            self._history = [Epoch(**epoch) for epoch in state["history"]]
            self._train_seconds = state["train_seconds"]
            self._validation_seconds = state["validation_seconds"]


def _fingerprint(
    network: nn.Module, task: TrainingTask, config: TrainConfig, budget: Budget, pieces: int
) -> str:
    """Equal for two training runs that may continue each other."""
    facts = (
        repr(network),
        config.model_dump(exclude={"checkpoint_seconds"}),
        asdict(budget),
        task.metric,
        pieces,
        *(len(task.train), len(task.held_out), task.train.resolution),
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_finite(loss: float, doing: str) -> None:
    if not math.isfinite(loss):
        raise TrainingFailed(f"{doing} diverged: the loss is {loss}; try a lower learning rate")


def _resolution(config: TrainConfig, budget: Budget, number: int) -> int:
    """The pixels at which epoch `number` trains: even steps from the first to the last's."""
    assert budget.resolution is not None
    first, last = config.resolutions
    progress = (number - 1) / (budget.epochs - 1) if budget.epochs > 1 else 1.0
    part = first + (last - first) * progress
    if part == 1:
        return budget.resolution
    return max(1, round(part * budget.resolution / _RESOLUTION_STEP)) * _RESOLUTION_STEP


def seeds(seed: int, epoch: int) -> tuple[int, int]:
    """What seeds the random numbers of an epoch (0: of the initial weights): those of the network,
    and those of its data, which are drawn alike on every device."""
    for_network, for_data = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64)
    return int(for_network), int(for_data)


#: torch's own random numbers, which draw initial weights, are one sequence for all threads.
_initialising = threading.Lock()


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Inside, torch's random numbers on the CPU are those of a training run's initial weights."""
    with _initialising, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeds(seed, 0)[0])
        yield
