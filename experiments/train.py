"""The training loop of every network of a run; training runs differ in their budget alone.

The budget's seed and the epoch's number determine all random numbers of an epoch, so a training run
that continues from a checkpoint ends like an uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.data.images import Images
from experiments.training import checkpoints, cuda_context, distributed, machine
from experiments.training.batches import Batches, balanced_weights, plan_steps, stratified_part
from experiments.training.cuda_graphs import Step
from experiments.training.distributed import ALONE, Replica
from experiments.training.elastic import ElasticLearner
from experiments.training.failures import OutOfMemory, TrainingFailed, device_errors, network_errors
from experiments.training.learner import Learner
from experiments.training.measure import (
    Evaluation,
    Metric,
    accuracy,
    evaluate,
    measure_statistics,
)
from experiments.training.optimizers import learning_rate
from experiments.training.readers import Kept, Reader, open_reader
from space.convert import IMAGENET, PixelStatistics
from space.elastic import ElasticNetwork
from space.evaluation import Budget, Epoch, Interrupted, Measurement, Report, Status
from space.network import Network

if TYPE_CHECKING:
    from upath import UPath

#: Training batches in a validation batch, at most. It needs less memory even so: no gradients.
VALIDATION_BATCHES = 4
#: Images per CPU thread beyond which validation gets no faster (measured at 24 and 32 pixels: with
#: 16, an image takes 1.2 times as long as with 64; with 256, which do not fit a core's cache, 1.1
#: times; on two threads with 64, 1.25 times as long as with 256).
_ENOUGH_IMAGES = 64
#: Resolutions of progressive resizing are so many pixels apart; a GPU captures a step for each
#: (assumed).
_RESOLUTION_STEP = 4
#: Batches over which statistics of a part of a trained network are measured, at most. Source: the
#: code of Wang et al. 2021 (AttentiveNAS).
STATISTICS_BATCHES = 64
#: Steps between two checks of the loss, each of which waits for the GPU (assumed).
_LOSS_CHECK_STEPS = 50


@dataclass(frozen=True)
class TrainingTask:
    """What is learned, on which images, and by which metric it is evaluated.

    `held_out` images are measured after each epoch, `test` images once, after the last one; one of
    the two may be None. Training runs of one process that share `kept` share the images on their
    device. `replica` is this process among those that train one network together.
    """

    train: Images
    held_out: Images | None
    num_classes: int
    metric: Metric = "top1"
    kept: Kept = field(default_factory=Kept)
    replica: Replica = ALONE
    normalisation: PixelStatistics = IMAGENET
    teacher: Network | None = None
    test: Images | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a training run gives.

    `network` is on its device and holds the weights that were measured: the averaged ones if the
    configuration averages. `predictions` are its classes for the images that were measured last
    (N); None if it was never measured. `out_of_memory` says that it failed for lack of memory.
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
    """Trains `network` within `budget`, which gives the resolution, and measures it.

    Without epochs, its batch-norm statistics are measured again, and then itself. With a
    `budget.patience`, it ends when the accuracy on the held-out images has not risen for so many
    epochs, and keeps the weights of the best one. `report` is called after each epoch, first with
    those that `checkpoint` holds; if it returns True, the training run ends as PRUNED. A fault of
    the network (a loss that is not finite, an exception, too little memory) ends it as FAILED, or
    raises `TrainingFailed` if it cannot start.
    `checkpoint` is written between epochs and when `report` raises `Interrupted`; the caller
    removes it. Memory is measured only if the run is `alone` in its process. Batches are processed
    in `pieces` (see `Learner`).
    """
    report = distributed.agreed(report, task.replica)
    with cuda_context.thread_stream(device):
        with device_errors("setting up the training run"):
            if alone:
                machine.reset_peak_memory(device)
            training = _Training(network, task, config, budget, device, pieces)
        status, reason, out_of_memory = Status.COMPLETE, None, False
        try:
            for epoch in training.epochs(checkpoint):
                if report(epoch) and epoch.epoch < budget.epochs:
                    status = Status.PRUNED
                    break
            else:
                training.finish()
        except Interrupted:
            if checkpoint is not None:
                training.save(checkpoint)
            raise
        except TrainingFailed as failure:
            status, reason = Status.FAILED, str(failure)
            out_of_memory = isinstance(failure, OutOfMemory)
        measurement = training.measurement(status, reason)
        if alone:
            measurement = _with_memory(measurement, device)
        predictions = training.result.predictions if training.result else None
        return TrainingResult(measurement, training.network, predictions, out_of_memory)


def _with_memory(measurement: Measurement, device: torch.device) -> Measurement:
    """Adds the peak of the allocated memory, and on a GPU of the reserved memory, which includes
    fragments and the pools of captured graphs."""
    details = {}
    if device.type == "cuda":
        details["reserved memory"] = float(torch.cuda.max_memory_reserved(device))
    return replace(measurement, peak_memory=machine.peak_memory(device), details=details)


class _Labelled(NamedTuple):
    """Images to measure on: this process's share with its labels, and the labels of all."""

    read: Reader
    own_labels: Tensor
    labels: Tensor


class _Result(NamedTuple):
    """What a network came to on some images; `predictions` are its classes (N)."""

    accuracy: float
    loss: float
    predictions: Tensor


class _Training:
    """The state of a training run between two epochs.

    `network` is the one that is measured, `result` is its last.
    """

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
        self._task, self._config, self._budget = task, config, budget
        self._device, self._pieces = device, pieces
        part = stratified_part(task.train.labels, budget.data_fraction, budget.seed)
        self._images = task.train.subset(part)
        self._plan = plan_steps(len(part), config.batch_size, task.replica.size)
        self._held_out = None if task.held_out is None else self._labelled(task.held_out)
        self._fingerprint = _fingerprint(network, task, config, budget, pieces)
        with network_errors(f"moving the network to {device}"):
            weights = None
            if config.class_weights == "balanced":
                weights = balanced_weights(self._images.labels, task.num_classes).to(device)
            how = (config, device, task.replica, pieces, weights, task.teacher)
            self._learner = (
                ElasticLearner(network, *how)
                if isinstance(network, ElasticNetwork)
                else Learner(network, *how)
            )
        self._batches: Batches | None = None
        self._history: list[Epoch] = []
        self._train_seconds = self._validation_seconds = 0.0
        self._best: dict[str, Tensor] | None = None
        self.result: _Result | None = None

    @property
    def network(self) -> nn.Module:
        return self._learner.averaged

    def epochs(self, checkpoint: Path | UPath | None) -> Iterator[Epoch]:
        """Yields each epoch when it is over, those that `checkpoint` holds at once."""
        if checkpoint is not None:
            self._restore(checkpoint)
        yield from tuple(self._history)
        if not self._budget.epochs:
            self._measure_statistics()
        saved = time.monotonic()
        for number in range(len(self._history) + 1, self._budget.epochs + 1):
            if self._exhausted:
                return
            yield self._epoch(number)
            due = time.monotonic() - saved >= self._config.checkpoint_seconds
            if checkpoint is not None and due and number < self._budget.epochs:
                self.save(checkpoint)
                saved = time.monotonic()

    def _measure_statistics(self) -> None:
        """Measures the batch-norm statistics of the network, as it is, on training images."""
        start = time.perf_counter()
        batches, _ = self._open(_resolution(self._config, self._budget, 0))
        drawn = batches.epoch(torch.Generator().manual_seed(seeds(self._budget.seed, 0)[1]))
        inputs = (batches.inputs(batch)[0] for batch in islice(drawn, STATISTICS_BATCHES))
        with network_errors(f"measuring statistics with batches of {batches.shape}"):
            measure_statistics(self.network, inputs)
        self._validation_seconds = time.perf_counter() - start

    def _epoch(self, number: int) -> Epoch:
        before, start = self._train_seconds + self._validation_seconds, time.perf_counter()
        with device_errors(f"training in epoch {number}"):
            train_loss = self._train(number)
        self._train_seconds += time.perf_counter() - start
        held_out = None
        if self._held_out is not None:
            held_out = self.result = self._measured(
                self._held_out, f"validation after epoch {number}"
            )
        epoch = Epoch(
            number,
            train_loss,
            held_out and held_out.accuracy,
            held_out and held_out.loss,
            self._train_seconds + self._validation_seconds - before,
        )
        self._history.append(epoch)
        if self._budget.patience is not None and self._best_epoch == number:
            self._best = {name: each.clone() for name, each in self.network.state_dict().items()}
        return epoch

    @property
    def _best_epoch(self) -> int:
        """The first epoch with the highest accuracy on the held-out images."""
        return max(self._history, key=lambda epoch: epoch.accuracy or 0.0).epoch

    @property
    def _exhausted(self) -> bool:
        """Whether the last epochs brought no rise, as many as the budget has patience for."""
        patience = self._budget.patience
        if patience is None or not self._history:
            return False
        return len(self._history) - self._best_epoch >= patience

    def finish(self) -> None:
        """Measures the network that the training run ends with, on the images that count."""
        if self._best is not None:
            self.network.load_state_dict(self._best)
        if self._task.test is not None:
            with device_errors("reading the test images"):
                test = self._labelled(self._task.test)
            self.result = self._measured(test, "the test after the last epoch")
        elif self._held_out is not None and (self.result is None or self._best is not None):
            self.result = self._measured(self._held_out, "validation after the last epoch")

    def _train(self, number: int) -> float:
        """Trains epoch `number` and returns its mean loss per image."""
        learner, plan, epochs = self._learner, self._plan, self._budget.epochs
        batches, step = self._open(_resolution(self._config, self._budget, number))
        for_network, for_data = seeds(self._budget.seed, number)
        learner.generator.manual_seed(for_network + self._task.replica.rank)
        learner.network.train()
        total = torch.zeros((), device=self._device)
        for index, batch in enumerate(batches.epoch(torch.Generator().manual_seed(for_data))):
            learner.turn_to(learning_rate(learner.steps, self._config, plan, epochs))
            with network_errors(f"training with batches of {batches.shape}"):
                total += step(batch)
            if index % _LOSS_CHECK_STEPS == 0:
                _check_finite(total.item(), f"training in epoch {number}")
        loss = distributed.mean_over_replicas(total, self._task.replica).item() / plan.steps
        _check_finite(loss, f"training in epoch {number}")
        return loss

    def _open(self, resolution: int) -> tuple[Batches, Step]:
        """The batches of `resolution` pixels, and the step to take with each."""
        if self._batches is None or self._batches.shape[-1] != resolution:
            task, learner = self._task, self._learner
            batches = Batches(
                self._images,
                task.num_classes,
                self._config,
                resolution,
                self._device,
                task.kept,
                task.replica,
                task.normalisation,
            )
            self._step = learner.captured(lambda batch: learner.step(*batches.inputs(batch)))
            self._batches = batches
        return self._batches, self._step

    def _labelled(self, images: Images) -> _Labelled:
        """`images` on the device, of which each process reads its share."""
        assert self._budget.resolution is not None
        own = images.subset(np.arange(len(images))[self._task.replica.of(len(images))])
        return _Labelled(
            open_reader(own, self._device, self._budget.resolution, self._task.kept),
            *(torch.from_numpy(each.labels).to(self._device) for each in (own, images)),
        )

    def _measured(self, images: _Labelled, doing: str) -> _Result:
        """The network on all of `images`; raises `TrainingFailed` if its loss is not finite."""
        start = time.perf_counter()
        with device_errors(doing):
            loss, predictions = self._evaluate(images)
        _check_finite(loss, doing)
        task = self._task
        found = accuracy(predictions, images.labels, task.num_classes, task.metric)
        self._validation_seconds += time.perf_counter() - start
        return _Result(found, loss, predictions)

    def _evaluate(self, images: _Labelled) -> Evaluation:
        """Evaluates the network on all images, each process on its share."""
        replica, batch_size = self._task.replica, self._plan.batch_size // self._pieces
        most = VALIDATION_BATCHES * batch_size
        if self._device.type == "cpu":
            most = min(most, max(batch_size, _ENOUGH_IMAGES * torch.get_num_threads()))
        normalisation = self._task.normalisation
        own = evaluate(self.network, images.read, images.own_labels, most, normalisation)
        if replica.size == 1:
            return own
        weight = replica.size * len(images.own_labels) / len(images.labels)
        loss = torch.tensor(own.loss * weight, device=self._device)
        return Evaluation(
            distributed.mean_over_replicas(loss, replica).item(),
            distributed.gather_rows(own.predictions, replica),
        )

    def measurement(self, status: Status, reason: str | None) -> Measurement:
        result = self.result
        return Measurement(
            status,
            accuracy=result and result.accuracy,
            loss=result and result.loss,
            train_seconds=self._train_seconds,
            validation_seconds=self._validation_seconds,
            images=result and len(result.predictions),
            epochs=tuple(self._history),
            reason=reason,
        )

    def save(self, checkpoint: Path | UPath) -> None:
        if self._task.replica.first:
            state = {
                "learner": self._learner.state(),
                "history": [asdict(epoch) for epoch in self._history],
                "train_seconds": self._train_seconds,
                "validation_seconds": self._validation_seconds,
                "best": self._best,
            }
            checkpoints.save(checkpoint, self._fingerprint, state)

    def _restore(self, checkpoint: Path | UPath) -> None:
        state = checkpoints.load(checkpoint, self._fingerprint)
        if state is not None:
            self._learner.load(state["learner"])
            self._history = [Epoch(**epoch) for epoch in state["history"]]
            self._train_seconds = state["train_seconds"]
            self._validation_seconds = state["validation_seconds"]
            self._best = state["best"]


def _fingerprint(
    network: nn.Module, task: TrainingTask, config: TrainConfig, budget: Budget, pieces: int
) -> str:
    """Equal for two training runs that may continue each other."""
    facts = (
        repr(network),
        config.model_dump(exclude={"checkpoint_seconds"}),
        budget.to_dict(),
        task.metric,
        pieces,
        *(len(images) if images is not None else None for images in (task.held_out, task.test)),
        *(len(task.train), task.train.resolution),
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_finite(loss: float, doing: str) -> None:
    if not math.isfinite(loss):
        raise TrainingFailed(f"{doing} diverged: the loss is {loss}; try a lower learning rate")


def _resolution(config: TrainConfig, budget: Budget, number: int) -> int:
    """The resolution of epoch `number`, which changes linearly from the first to the last.

    It differs from the network's by whole steps: strided layers pad odd and even sides differently,
    so a network of 65 pixels that trains with 64 learns for other maps than it is measured on.
    """
    assert budget.resolution is not None
    first, last = config.resolutions
    progress = (number - 1) / (budget.epochs - 1) if budget.epochs > 1 else 1.0
    missing = 1 - (first + (last - first) * progress)
    steps = round(missing * budget.resolution / _RESOLUTION_STEP)
    return (
        budget.resolution
        - min(steps, (budget.resolution - 1) // _RESOLUTION_STEP) * _RESOLUTION_STEP
    )


def seeds(seed: int, epoch: int) -> tuple[int, int]:
    """Seeds of an epoch (0: of the initial weights): for the network, and for its data, which are
    the same on every device."""
    for_network, for_data = np.random.SeedSequence((seed, epoch)).generate_state(2, np.uint64)
    return int(for_network), int(for_data)


#: Initial weights are drawn by torch's global generator, which all threads share.
_initialising = threading.Lock()


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Inside, torch's CPU generator draws the initial weights of a training run with `seed`."""
    with _initialising, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeds(seed, 0)[0])
        yield
