"""Packed training runs: the same as alone, and never more than memory is foreseen for."""

import pickle
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from experiments.config import ExecutorConfig, TrainConfig
from experiments.data.images import DecodedImages
from experiments.evaluators import packed as packing
from experiments.evaluators.packed import STREAM_MEMORY, MemoryPool, Packed, packed, training_memory
from experiments.evaluators.training import TrainingEvaluator
from experiments.train import TrainingResult
from experiments.training.failures import OutOfMemory
from scaling.jobs import InOrder
from search.executors.local import Local, Threads
from search.executors.processes import Processes
from space import presets
from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.cost import cost
from space.evaluation import Budget, Epoch, Job, Measurement, Report, Status
from space.memory import peak_memory

CPU = torch.device("cpu")
CONFIG = TrainConfig.model_validate(
    {"batch_size": 16, "mixup": 0.2, "randaugment": 5.0, "resolutions": (0.75, 1.0)}
)

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def architecture(channels: int) -> Architecture:
    """One that draws random numbers in every step."""
    stages = (
        Stage(Operator.SEPARABLE, channels),
        Stage(Operator.INVERTED, channels, repeats=2, expansion=2, se=SqueezeExcite()),
    )
    return Architecture(
        Stem(8), stages, Head(16), resolution=16, num_classes=2, dropout=0.3, stochastic_depth=0.3
    )


def noise(count: int) -> DecodedImages:
    generator = np.random.default_rng(count)
    pixels = generator.integers(0, 256, (count, 20, 20, 3), np.uint8)
    return DecodedImages(pixels, np.arange(count), np.arange(count) % 2)


def evaluator(folder: Path, device: str) -> TrainingEvaluator:
    return TrainingEvaluator(noise(64), noise(32), CONFIG, folder, device=device, threads=1)


def timeless(measurement: Measurement) -> Measurement:
    epochs = tuple(replace(epoch, seconds=0) for epoch in measurement.epochs)
    times = {"train_seconds": 0, "validation_seconds": 0, "peak_memory": None}
    return replace(measurement, epochs=epochs, **times)


def jobs() -> list[Job]:
    return [Job(f"{n}", architecture(8 * n), Budget(epochs=3, seed=n)) for n in (1, 2, 3, 4)]


def test_a_packed_training_is_the_same_alone(tmp_path: Path) -> None:
    together, alone = InOrder(jobs()), InOrder(jobs())
    evaluate = evaluator(tmp_path, "cpu")
    Threads(3).run(together, packed(evaluate, CPU, 3))
    Local().run(alone, evaluate)
    for name, measured in together.told.items():
        assert measured.status is Status.COMPLETE
        assert timeless(measured) == timeless(alone.told[name])
        assert measured.peak_memory is None  # of all together, so of none


@cuda
def test_on_a_gpu_a_packed_training_is_the_same_alone(tmp_path: Path) -> None:
    together, alone = InOrder(jobs()), InOrder(jobs())
    evaluate = evaluator(tmp_path, "cuda")
    Threads(3).run(together, packed(evaluate, torch.device("cuda"), 3))
    Local().run(alone, evaluate)
    for name, measured in together.told.items():
        # bfloat16 keeps 8 bits, and sums run in another order (tolerance: 2 %).
        assert measured.loss == pytest.approx(alone.told[name].loss, rel=0.02)


@cuda
def test_on_a_gpu_a_training_needs_no_more_memory_than_was_planned(tmp_path: Path) -> None:
    network = presets.load("efficientnet_b0", num_classes=2)
    budget = Budget(epochs=1, resolution=64)
    measured = evaluator(tmp_path, "cuda")(network, budget, lambda _: False)
    assert measured.peak_memory is not None
    assert measured.peak_memory <= training_memory(network, CONFIG, 64) + STREAM_MEMORY
    assert measured.details["reserved memory"] >= measured.peak_memory


def test_planned_memory_is_the_exact_models_for_a_batch() -> None:
    network = architecture(16)
    config = TrainConfig(batch_size=128)
    more = training_memory(network, config.model_copy(update={"batch_size": 129}), 16)
    image = peak_memory(network, 16)
    # A graph keeps its activations while validation allocates its own.
    assert more - training_memory(network, config, 16) == image.training + 4 * image.inference
    adam = training_memory(network, config.model_copy(update={"optimizer": "adamw"}), 16)
    assert adam - training_memory(network, config, 16) == 4 * cost(network).params


class Watching:
    """An evaluator that counts how many run at once."""

    def __init__(self) -> None:
        self.config = TrainConfig(batch_size=2)
        self.running, self.most = 0, 0
        self._lock = threading.Lock()

    def __call__(self, _: Architecture, __: Budget, report: Report) -> Measurement:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.02)
        report(Epoch(1, 1.0, 0.5, 1.0, 0.0))
        with self._lock:
            self.running -= 1
        return Measurement(Status.COMPLETE, accuracy=0.5, loss=1.0)


@pytest.mark.parametrize("fit", [1, 2, 3])
def test_no_more_training_runs_run_than_memory_is_foreseen_for(fit: int) -> None:
    watching, network = Watching(), architecture(8)
    needed = training_memory(network, watching.config, 16)
    same = InOrder(Job(f"{n}", network, Budget(epochs=1, seed=n)) for n in range(8))
    Threads(4).run(same, Packed(watching, MemoryPool(needed * fit + needed // 2)))
    assert len(same.told) == 8
    assert watching.most <= fit


@dataclass(frozen=True)
class Hungry:
    """An evaluator that runs out of memory `often`, unless its batches may be split."""

    often: int
    calls: list[tuple[bool, int]]
    config: TrainConfig = CONFIG
    split: bool = False
    room: MemoryPool | None = None

    def __call__(self, _: Architecture, __: Budget, ___: Report) -> Measurement:
        assert self.room is not None
        self.calls.append((self.split, self.room._taken))
        if len(self.calls) <= self.often:
            raise OutOfMemory("training ran out of memory")
        return Measurement(Status.COMPLETE, accuracy=0.5, loss=1.0)


def test_what_runs_out_of_memory_beside_others_starts_again_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room, calls = MemoryPool(10**9), list[tuple[bool, int]]()
    network = architecture(8)
    pack = Packed(Hungry(1, calls, room=room), room)
    measured = pack(network, Budget(epochs=1), lambda _: False)
    assert measured.status is Status.COMPLETE
    needed = training_memory(network, CONFIG, 16)
    assert calls == [(False, needed), (True, 10**9)]  # all of the room is its own
    assert "training ran out of memory; other training runs share the GPU" in caplog.text


def test_a_packed_evaluator_leaves_batches_whole_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = packed(evaluator(tmp_path, "cpu"), CPU, 2).evaluate
    pieces: list[int] = []

    def full(*_: object, pieces_: int = 0, **given: object) -> TrainingResult:
        pieces.append(int(str(given["pieces"])) + pieces_)
        return TrainingResult(Measurement(Status.FAILED, reason="full"), nn.Identity(), None, True)

    monkeypatch.setattr("experiments.evaluators.training.train", full)
    with pytest.raises(OutOfMemory, match="full"):
        evaluate(architecture(8), Budget(epochs=1), lambda _: False)
    assert pieces == [1]


def test_a_training_that_is_larger_than_all_memory_is_let_in_alone() -> None:
    room, order = MemoryPool(10), []

    def large() -> None:
        with room.taken(100):
            order.append("large")

    with room.taken(5):
        thread = threading.Thread(target=large)
        thread.start()
        time.sleep(0.05)
        order.append("small")
    thread.join()
    assert order == ["small", "large"]


def test_a_recipe_packs_where_it_says_so() -> None:
    from experiments.conduct import executor_of  # not above: it imports what a bare machine lacks

    assert isinstance(executor_of(ExecutorConfig(pack=3)), Threads)
    on_cpu = ExecutorConfig(pack="auto", device="cpu")
    assert not isinstance(executor_of(on_cpu), Threads)
    with pytest.raises(ValueError, match="`pack` needs `kind: local` or `processes`"):
        ExecutorConfig(kind="ray", pack=2)


def test_each_process_packs_what_it_is_given(tmp_path: Path) -> None:
    """As with several GPUs, of which each process has one."""
    everywhere, alone = InOrder(jobs()), InOrder(jobs())
    evaluate = evaluator(tmp_path, "cpu")
    travels = packing.PackedOnArrival(evaluate, "cpu", 2)
    arrived = pickle.loads(pickle.dumps(travels))
    assert isinstance(arrived, Packed)
    assert not arrived.evaluate.alone
    Processes([{"OMP_NUM_THREADS": "1"}], threads=2).run(everywhere, travels)
    Local().run(alone, evaluate)
    for name, measured in everywhere.told.items():
        assert measured.status is Status.COMPLETE, measured.reason
        assert timeless(measured) == timeless(alone.told[name])
