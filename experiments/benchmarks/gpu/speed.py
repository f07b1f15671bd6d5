"""The last five stages: how fast a GPU trains and answers."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks import loops
from experiments.benchmarks.gpu.stages import Found
from experiments.benchmarks.gpu.workloads import (
    candidate,
    evaluator,
    noise,
    profiled,
    seconds_of,
    training,
)
from experiments.benchmarks.stacked import StackedLearner
from experiments.config import TrainConfig
from experiments.evaluators.packed import packed
from experiments.latency import timing
from experiments.training import cuda_context, machine
from experiments.training.acceleration import triton_calls
from experiments.training.batches import Batch
from experiments.training.cuda_graphs import CapturedStep, CudaGraph
from scaling.jobs import InOrder
from search.executors.local import Threads
from space import presets
from space.evaluation import Budget, Job
from space.network import build

_BATCHES, _SIDES = (64, 256, 1024), (32, 64)
_PACKS = (1, 2, 4, 8)
_PRESETS = (
    "efficientnet_b0",
    "efficientnet_v2_s",
    "mobilenet_v3_large",
    "mnasnet_a1",
    "resnet50",
)


def steps(device: str) -> Found:
    """Images per second of a step, eager and replayed, and what an eager step runs."""
    chosen = machine.choose_device(device)
    rows: dict[str, Any] = {}
    with cuda_context.thread_stream(chosen):
        for side, size in product(_SIDES, _BATCHES):
            made = training(candidate(device, side), TrainConfig(batch_size=size), chosen)
            first = next(made.batches.epoch(torch.Generator().manual_seed(0)))
            graph = CudaGraph(chosen, made.learner.generator)
            captured = CapturedStep(made.step, graph, made.learner.renew_generator)
            made.learner.turn_to(1e-4)
            eager = size / seconds_of(partial(made.step, first), chosen, 20)
            captured(first)  # with those of the warm-up, the steps before the capture
            replayed = size / seconds_of(partial(captured, first), chosen, 20)
            found = profiled(partial(made.step, first), chosen)
            rows[f"{size} images of {side} pixels"] = {
                "eager_images_per_second": eager,
                "replayed_images_per_second": replayed,
                "captured": captured.captured,
                "kernels": found.kernels,
                "longest": found.longest,
            }
    best = max(row["replayed_images_per_second"] for row in rows.values())
    gain = max(
        row["replayed_images_per_second"] / row["eager_images_per_second"] for row in rows.values()
    )
    won, trials = triton_calls.chosen()
    rows["triton"] = {"won": won, "trials": trials}
    return (
        f"up to {best:,.0f} images/s replayed, up to {gain:.1f} times eager; Triton's kernels in "
        f"{won} of {trials} trials",
        rows,
    )


def packing(device: str) -> Found:
    """Images per second of several training runs at a time."""
    chosen = machine.choose_device(device)
    images, rows = 8192, {}
    for pack in _PACKS:
        jobs = InOrder(
            Job(f"{n}", candidate(device), Budget(2, seed=n)) for n in range(max(4, pack))
        )
        with tempfile.TemporaryDirectory() as folder:
            evaluate = evaluator(Path(folder), device, TrainConfig(batch_size=256), images)
            start = time.perf_counter()
            Threads(pack).run(jobs, packed(evaluate, chosen, pack))
            seconds = time.perf_counter() - start
        failed = sum(not told.finished for told in jobs.told.values())
        rows[str(pack)] = {
            "images_per_second": 2 * images * len(jobs.jobs) / seconds,
            "failed": failed,
        }
    best = max(rows, key=lambda pack: rows[pack]["images_per_second"])
    together = in_one_pass(device)
    gain = together["4"] / together["1"]
    headline = f"fastest with {best} at a time; 4 seeds in one pass {gain:.1f} times one"
    return headline, rows | {"images_per_second_in_one_pass": together}


def in_one_pass(device: str, size: int = 256) -> dict[str, float]:
    """Images per second of training steps of 1, 2 and 4 seeds in one pass, by their number."""
    chosen, architecture = machine.choose_device(device), replace(candidate(device), dropout=0.0)
    rows = {}
    for count in (1, 2, 4):
        networks = [build(architecture).train() for _ in range(count)]
        learner = StackedLearner(networks, TrainConfig(batch_size=size), chosen)
        side = architecture.resolution
        batch = {
            "images": torch.rand(size, 3 * count, side, side, device=chosen),
            "targets": torch.zeros(size, count, dtype=torch.long, device=chosen),
        }
        batch["images"] = batch["images"].contiguous(memory_format=torch.channels_last)
        learner.turn_to(1e-4)
        step = learner.captured(partial(_stacked_step, learner))
        with cuda_context.thread_stream(chosen):
            step(batch)  # with those of the warm-up, the steps up to the capture
            rows[f"{count}"] = count * size / seconds_of(partial(step, batch), chosen, 20)
    return rows


def _stacked_step(learner: StackedLearner, batch: Batch) -> Tensor:
    return learner.step(batch["images"], batch["targets"])


def depthwise(device: str) -> Found:
    """Bytes per second of depthwise convolutions, forward and both gradients, beside a copy's."""
    chosen = machine.choose_device(device)
    shape = (256, 192, 32, 32)
    rows = {}
    source = torch.randn(shape, device=chosen, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes
    copy = copied / seconds_of(lambda: target.copy_(source), chosen, 20)
    for kernel, layout in product((3, 5), (torch.contiguous_format, torch.channels_last)):
        x = source.to(memory_format=layout)
        weight = torch.randn(shape[1], 1, kernel, kernel, device=chosen, dtype=torch.bfloat16)
        name = f"{kernel}×{kernel}, {str(layout).removeprefix('torch.')}"
        passes = _passes(x, weight)
        rows[name] = {
            each: copied / seconds_of(work, chosen, 20) / copy for each, work in passes.items()
        }
    worst = min(min(row.values()) for row in rows.values())
    return f"from {worst:.0%} of copy speed", rows | {"copy_bytes_per_second": copy}


def _passes(x: Tensor, weight: Tensor) -> dict[str, Callable[[], object]]:
    """The three passes of a depthwise convolution."""
    padding = weight.shape[-1] // 2
    groups = len(weight)

    def gradient(mask: list[bool]) -> object:
        two, one = [padding, padding], [1, 1]
        return torch.ops.aten.convolution_backward(
            x, x, weight, None, one, two, one, False, [0, 0], groups, mask
        )

    return {
        "forward": lambda: F.conv2d(x, weight, padding=padding, groups=groups),
        "gradient of the input": lambda: gradient([True, False, False]),
        "gradient of the weights": lambda: gradient([False, True, False]),
    }


def compare_loops(device: str) -> Found:
    """Images per second of one training run by phiscale, and by the loops that people write."""
    chosen = machine.choose_device(device)
    count, config, network = 16_384, TrainConfig(batch_size=256), candidate(device)
    train, held_out = noise(count, network.resolution), noise(count // 8, network.resolution)
    rows: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        evaluate = evaluator(Path(folder), device, config, count)
        start = time.perf_counter()
        told = evaluate(network, Budget(1), lambda _: False)
        assert told.finished, told.reason
        rows["phiscale"] = count / (time.perf_counter() - start)
        for name, advised in (("advised", True), ("tutorial", False)):
            loop = loops.Loop(advised, chosen, mixed_precision=advised)
            sets = (
                loops.decoded(train, held_out)
                if advised
                else loops.files(train, held_out, Path(folder))
            )
            done = loops.run(loops.plain(network), *sets, loop, config, 1)
            rows[name] = count / done.seconds
    times = rows["phiscale"] / rows["advised"]
    figures = {"images_per_second": rows, "workers": os.cpu_count()}
    return f"{rows['phiscale']:,.0f} images/s, {times:.1f} times the advised loop", figures


def latencies(device: str) -> Found:
    """Latency of published networks: eager and replayed, with and without TF32."""
    rows = {}
    for name, backend, tf32 in product(_PRESETS, ("eager", "graph"), (False, True)):
        found = timing.measure(
            presets.load(name), device=device, backend=timing.backend_of(backend), tf32=tf32,
            at_least=0.2,
        )  # fmt: skip
        kind = "TF32" if tf32 else "float32"
        rows[f"{name}, {backend}, {kind}"] = found.median_seconds
    fastest = rows[f"{_PRESETS[0]}, graph, float32"]
    return f"{_PRESETS[0]} in {1e3 * fastest:.2f} ms, replayed, float32", rows
