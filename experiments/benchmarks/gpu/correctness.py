"""The first five stages: what must hold on a GPU before its speed matters."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import torch
from torch import Tensor

from experiments.benchmarks.gpu.stages import Failed, Found
from experiments.benchmarks.gpu.workloads import (
    candidate,
    evaluator,
    profiled,
    seconds_of,
    training,
)
from experiments.config import TrainConfig
from experiments.evaluators.packed import packed
from experiments.evaluators.training import TrainingEvaluator
from experiments.runs.environment import environment as machine_facts
from experiments.training import cuda_context, machine
from experiments.training.cuda_graphs import CapturedStep, CudaGraph, Graph
from scaling.jobs import InOrder
from search.executors.local import Threads
from search.executors.processes import Processes
from space.architecture import Architecture
from space.evaluation import Budget, Job, Measurement, Report, WorkerUnusable

_TESTS = Path(__file__).parents[3] / "tests" / "experiments"

#: Bytes that are copied, and the side of matrices that are multiplied; small ones for a CPU.
_COPIED, _SIDE = {"cuda": 2**30, "cpu": 2**24}, {"cuda": 8192, "cpu": 256}

#: How much losses and weights may differ after one replay: bfloat16 keeps 8 bits (assumed: 1 %).
_TOLERANCE = 0.01

_LOOKS: dict[str, dict[str, Any]] = {
    "padded": {"crop": "pad"},
    "resized": {"crop": "resized"},
    "RandAugment and mixup": {"crop": "pad", "randaugment": 5.0, "mixup": 0.2},
}
_OPTIMIZERS = ("sgd", "rmsprop", "rmsprop_tf", "adamw")


def environment(device: str) -> Found:
    """The machine, and the ceilings of what it can do: copies and matrix products."""
    chosen = machine.choose_device(device)
    source = torch.empty(_COPIED[device], dtype=torch.uint8, device=chosen)
    target = torch.empty_like(source)
    copy = 2 * len(source) / seconds_of(lambda: target.copy_(source), chosen, 10)
    speeds = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        matrix = torch.randn(_SIDE[device], _SIDE[device], dtype=kind, device=chosen)
        speeds[name] = (
            2 * _SIDE[device] ** 3 / seconds_of(partial(torch.mm, matrix, matrix), chosen, 5)
        )
    facts = machine_facts()
    name = facts["gpus"] if device == "cuda" else facts["processor"]
    figures = facts | {
        "cuda": torch.version.cuda,
        "copy_bytes_per_second": copy,
        "flops_per_second": speeds,
    }
    product_speed = speeds["bfloat16"] / 1e12
    return f"{name}: {copy / 1e9:,.0f} GB/s, {product_speed:.3g} TFLOPS bf16", figures


def tests(device: str) -> Found:
    """Every test that needs a GPU, none skipped; on a CPU a few that do not."""
    chosen = ["-k", "on_a_gpu"] if device == "cuda" else ["-k", "cannot_be_captured"]
    # Only files that have such tests: others import what a bare machine lacks.
    files = [path for path in _TESTS.rglob("test_*.py") if "_on_a_gpu_" in path.read_text("utf-8")]
    if device == "cpu":
        files = [_TESTS / "training" / "test_cuda_graphs.py"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-p", "no:cacheprovider", f"--junitxml={report}", "-q", *chosen]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *map(str, files)],
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.is_file():
            raise Failed("pytest did not start", {"output": (done.stdout + done.stderr)[-2000:]})
        counts = ElementTree.parse(report).getroot().find("testsuite")
        assert counts is not None
        figures: dict[str, Any] = {
            name: int(counts.get(name, 0)) for name in ("tests", "skipped", "failures", "errors")
        }
    headline = ", ".join(f"{count} {name}" for name, count in figures.items())
    if done.returncode != 0 or figures["skipped"] or not figures["tests"]:
        raise Failed(headline, figures | {"output": done.stdout[-2000:]})
    return headline, figures


class _EmulatedGraph:
    """On a CPU, stands for a graph: replays by running the step again."""

    def capture(self, step: Callable[[], Tensor]) -> Tensor:
        """See `Graph.capture`."""
        self._step, self._loss = step, torch.zeros(())
        return self._loss

    def replay(self) -> None:
        """See `Graph.replay`."""
        self._loss.copy_(self._step())


def captures(device: str) -> Found:
    """Steps of every kind are captured, and the first replay does what the eager step does."""
    chosen = machine.choose_device(device)
    rows = {}
    with cuda_context.thread_stream(chosen):
        every = list(product(_OPTIMIZERS, _LOOKS, (1, 2)))
        # On a CPU every optimiser, every look and both numbers of pieces at least once.
        for optimizer, look, pieces in every if device == "cuda" else every[::5]:
            size = 64 if device == "cuda" else 16
            settings = {"optimizer": optimizer, "batch_size": size, **_LOOKS[look]}
            config = TrainConfig.model_validate(settings)
            name = f"{optimizer}, {look}, {pieces} pieces"
            rows[name] = _compared(config, chosen, pieces)
    wrong = [
        name
        for name, row in rows.items()
        if not row["captured"] or max(row["loss"], row["weights"]) > _TOLERANCE
    ]
    worst = max(max(row["loss"], row["weights"]) for row in rows.values())
    headline = f"{len(rows) - len(wrong)} of {len(rows)} captured and alike, off by {worst:.2g}"
    if wrong:
        raise Failed(f"{headline}; not so: {wrong[0]}", rows)
    return headline, rows


def _compared(config: TrainConfig, device: torch.device, pieces: int) -> dict[str, Any]:
    """How far loss and weights are from the eager ones after the first replay."""
    architecture = candidate(device.type)
    results = []
    for capture in (False, True):
        made = training(architecture, config, device, pieces)
        step = made.step
        if capture:
            on_gpu = device.type == "cuda"
            graph: Graph = CudaGraph(device, made.learner.generator) if on_gpu else _EmulatedGraph()
            step = CapturedStep(made.step, graph, made.learner.renew_generator)
        loss = torch.zeros(())
        for batch in made.batches.epoch(torch.Generator().manual_seed(0)):  # the fourth is replayed
            made.learner.turn_to(1e-4)
            loss = step(batch)
        weights = torch.cat([each.detach().flatten() for each in made.learner.network.parameters()])
        results.append((loss.item(), weights, step))
    (eager_loss, eager_weights, _), (loss_, weights_, captured) = results
    assert isinstance(captured, CapturedStep)
    first = next(made.batches.epoch(torch.Generator().manual_seed(0)))
    return {
        "captured": captured.captured,
        "loss": abs(loss_ - eager_loss) / abs(eager_loss),
        "weights": ((weights_ - eager_weights).norm() / eager_weights.norm()).item(),
        "kernels": profiled(lambda: made.step(first), device).kernels,
    }


class _Memory(InOrder):
    """Jobs in order; notes what is reserved whenever one has ended."""

    def __init__(self, jobs: list[Job], device: torch.device) -> None:
        super().__init__(jobs)
        self.reserved: list[int] = []
        self._device = device

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Takes a result."""
        super().tell(job, measurement)
        on_gpu = self._device.type == "cuda"
        self.reserved.append(torch.cuda.memory_reserved(self._device) if on_gpu else 0)


def soak(device: str) -> Found:
    """Many candidates, some at a time: the reserved memory stops growing."""
    count, at_once, images = (40, 4, 4096) if device == "cuda" else (4, 2, 64)
    chosen = machine.choose_device(device)
    jobs = [Job(f"{n}", candidate(device), Budget(1, seed=n)) for n in range(count)]
    proposer = _Memory(jobs, chosen)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(batch_size=256 if device == "cuda" else 16)
        evaluate = evaluator(Path(folder), device, config, images)
        Threads(at_once).run(proposer, packed(evaluate, chosen, at_once))
    reasons = [told.reason for told in proposer.told.values() if not told.finished]
    half = count // 2
    first, last = max(proposer.reserved[:half]), max(proposer.reserved[half:])
    figures = {"reserved": proposer.reserved, "failed": reasons}
    headline = f"{count} training runs, {at_once} at a time; reserved {last / 2**20:,.0f} MiB"
    if reasons:
        raise Failed(f"{headline}; {len(reasons)} failed: {reasons[0]}", figures)
    if last > 1.05 * first:
        raise Failed(f"{headline}, {first / 2**20:,.0f} in the first half", figures)
    return headline, figures


Fault = Literal["failed capture", "out of memory", "device assertion"]


@dataclass(frozen=True)
class Drill:
    """`evaluate`, in whose process `fault` happens during the job `first`."""

    evaluate: TrainingEvaluator
    fault: Fault
    mark: Path

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """As `evaluate`, once the fault has happened."""
        if not self.mark.exists():
            self.mark.touch()
            _happen(self.fault, self.evaluate.device)
        return self.evaluate(architecture, budget, report)


def _happen(fault: Fault, device: str) -> None:
    """Has the fault happen, as a training run would meet it."""
    from experiments.training.failures import OutOfMemory, network_errors

    on_gpu = device == "cuda"
    match fault:
        case "failed capture":
            step = CapturedStep(_looks_at_a_value(device), _graph(device), lambda: None)
            for _ in range(4):
                step({"x": torch.ones(1, device=device)})
        case "out of memory":
            try:
                with network_errors("a drill"):
                    torch.empty(2**50, dtype=torch.uint8, device=device)
            except OutOfMemory:
                return
            raise AssertionError("too much memory was given")
        case "device assertion":
            if not on_gpu:
                raise WorkerUnusable("a drill")
            with network_errors("a drill"):
                torch.zeros(4, device=device)[torch.tensor([10**6], device=device)].sum().item()


def _looks_at_a_value(device: str) -> Callable[[dict[str, Tensor]], Tensor]:
    """A step that cannot be captured: it waits for the device."""
    calls = threading.local()

    def step(batch: dict[str, Tensor]) -> Tensor:
        calls.count = getattr(calls, "count", 0) + 1
        if device == "cpu" and calls.count == 4:
            raise RuntimeError("operation not permitted when stream is capturing")
        return batch["x"] * batch["x"].sum().item()

    return step


class _EagerCapture(_EmulatedGraph):
    """Runs the step while it captures, so that it can fail."""

    def capture(self, step: Callable[[], Tensor]) -> Tensor:
        """See `Graph.capture`."""
        return step()


def _graph(device: str) -> Graph:
    if device == "cpu":
        return _EagerCapture()
    chosen = torch.device(device)
    return CudaGraph(chosen, torch.Generator(chosen))


def faults(device: str) -> Found:
    """After each fault the training runs complete, in the same process or in another."""
    logging.disable()
    figures: dict[str, Any] = {}
    config = TrainConfig(batch_size=64 if device == "cuda" else 16)
    drills: tuple[Fault, ...] = ("failed capture", "out of memory", "device assertion")
    for fault in drills:
        jobs = InOrder(Job(f"{n}", candidate(device), Budget(1, seed=n)) for n in range(2))
        with tempfile.TemporaryDirectory() as folder:
            evaluate = evaluator(Path(folder), device, config, 4 * config.batch_size)
            Processes([{}]).run(jobs, Drill(evaluate, fault, Path(folder) / "mark"))
        figures[fault] = [told.reason or told.status.value for told in jobs.told.values()]
    wrong = [name for name, told in figures.items() if told != ["complete", "complete"]]
    headline = f"{len(drills) - len(wrong)} of {len(drills)} survived"
    if wrong:
        raise Failed(f"{headline}; after {wrong[0]}: {figures[wrong[0]]}", figures)
    return headline, figures
