"""Candidates trained per hour: phiscale beside the loops that people write.

`python -m experiments.benchmarks.training --data CIFAR10` trains the same random networks of the
small MnasNet space in three ways and writes `experiments/results/training.json`. What is finished
is kept, so that a run which was stopped goes on; `--fresh` starts over.

- `phiscale`: the evaluator and the executor of a search, on images that are already in its cache.
- `advised`: a PyTorch loop with the usual advice: images decoded once and kept in memory, a
  DataLoader with persistent workers, channels last, mixed precision where it is faster here.
- `tutorial`: the loop of PyTorch's tutorials: a DataLoader whose workers decode JPEGs and transform
  image by image, eager, in torch's default memory layout.

All three have the same networks, images, epochs, batch size, optimiser, peak rate, weight decay,
schedule and augmentation, and measure the same images after every epoch. Of phiscale's networks
averaged weights are measured. The loops have torch's batch norm momentum of 0.1, with which their
short training runs end better than with the networks' own 0.01. Writing JPEGs and caches is not
timed; starting workers is.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.benchmarks import loops
from experiments.conduct import executor_of, pack_size
from experiments.config import DataConfig, ExecutorConfig, TrainConfig
from experiments.data.load import load
from experiments.evaluators.packed import packed
from experiments.evaluators.training import TrainingEvaluator
from experiments.latency.tables import sample
from experiments.latency.timing import time_calls
from experiments.runs.environment import environment
from experiments.training import machine
from scaling.jobs import InOrder
from search.executors.local import Threads
from search.executors.processes import cores
from space import choices
from space.cost import cost
from space.evaluation import Budget, Job, Measurement
from space.files import write_file

SPACE = "mnasnet_small"
ARCHITECTURES = 16
#: Images that measure, of those that there are for training.
HELD_OUT = 2_000
#: How many networks the slowest way trains; its ratio to `advised` is over those.
TUTORIAL = 4
RESULT = Path(__file__).parents[1] / "results" / "training.json"

#: Two-sided 95 % quantiles of Student's t for n − 1 = 1, 2 … degrees of freedom.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)


@dataclass(frozen=True)
class LoopSetting:
    """What every way is given."""

    device: Literal["cpu", "cuda"]
    images: int | None
    epochs: int
    architectures: int


def main() -> None:
    """Trains, prints the table, and writes the result after every way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/cifar10", help="CIFAR-10")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--architectures",
        type=int,
        default=ARCHITECTURES,
        choices=(4, 8, 16),
        help="so many of the 16 random networks",
    )
    parser.add_argument("--images", type=int, help="of the training set, with those that measure")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--fresh", action="store_true", help="forget what is finished")
    given = parser.parse_args()
    torch.set_num_threads(cores())  # of the loops; workers are told theirs
    on_gpu = given.device == "cuda"
    setting = LoopSetting(
        device=given.device,
        images=given.images or (None if on_gpu else 10_000 + HELD_OUT),
        epochs=5 if on_gpu else 2,
        architectures=given.architectures,
    )
    benchmark = Benchmark(setting, given.data, given.result, fresh=given.fresh)
    benchmark.run()
    print(benchmark.table())


class Benchmark:
    """The three ways and what is finished of them, in the file `result`."""

    def __init__(self, setting: LoopSetting, data: str, result: Path, *, fresh: bool) -> None:
        self._setting, self._result = setting, result
        self._device = torch.device(setting.device)
        batch_size = 256 if setting.device == "cuda" else 64
        self._config = TrainConfig(batch_size=batch_size)
        self._data = load(
            DataConfig(source=data, held_out=HELD_OUT, limit=setting.images), resolution=32, seed=0
        )
        space = choices.load(SPACE).adapted(num_classes=10, resolution=32)
        self._networks = sample(space, ARCHITECTURES)[:: ARCHITECTURES // setting.architectures]
        self._found = self._start(fresh)

    def run(self) -> None:
        """All ways, those that are finished left out."""
        found = self._found
        if "phiscale" not in found["ways"]:
            self._keep("phiscale", self._phiscale())
        mixed = found.setdefault("mixed_precision_is_faster", self._mixed_precision())
        fewer = max(2, len(self._networks) // TUTORIAL)
        for name, advised, every in (("advised", True, 1), ("tutorial", False, fewer)):
            self._loop(name, loops.Loop(advised, self._device, advised and mixed), every)
        if "ceilings" not in found:
            found["ceilings"] = ceilings(self._device)
        found["summary"] = self._summary()
        self._write()

    def _start(self, fresh: bool) -> dict[str, Any]:
        about = {
            "command": "python -m experiments.benchmarks.training",
            "setting": asdict(self._setting)
            | {"train_images": len(self._data.train), "held_out_images": len(self._data.held_out)},
            "train": self._config.model_dump(mode="json"),
            "hardware": environment() | {"threads": torch.get_num_threads()},
            "networks": [cost(network)._asdict() for network in self._networks],
        }
        if self._result.is_file() and not fresh:
            before: dict[str, Any] = json.loads(self._result.read_text("utf-8"))
            same = all(before[name] == about[name] for name in ("setting", "train", "networks"))
            if same:
                return before
        return {**about, "ways": {}}

    def _keep(self, name: str, way: dict[str, Any]) -> None:
        self._found["ways"][name] = way
        self._write()

    def _write(self) -> None:
        text = json.dumps(self._found, indent=1, ensure_ascii=False)
        write_file(self._result, text + "\n")

    def _phiscale(self) -> dict[str, Any]:
        budget = Budget(epochs=self._setting.epochs, resolution=32)
        named = {f"network {i}": network for i, network in enumerate(self._networks)}
        jobs = InOrder(Job(name, network, budget) for name, network in named.items())
        on_gpu = self._setting.device == "cuda"
        settings = ExecutorConfig(
            kind="local" if on_gpu else "processes",
            pack="auto" if on_gpu else 1,
            device=self._setting.device,
        )
        with tempfile.TemporaryDirectory() as folder:
            evaluate = TrainingEvaluator(
                self._data.train,
                self._data.held_out,
                self._config,
                checkpoints=Path(folder),
                device=settings.device,
            )
            executor = executor_of(settings)
            work = (
                packed(evaluate, self._device, pack_size(settings))
                if isinstance(executor, Threads)
                else evaluate
            )
            start = time.perf_counter()
            executor.run(jobs, work)
            seconds = time.perf_counter() - start
        return {
            "executor": settings.model_dump(),
            "workers": pack_size(settings) if on_gpu else len(machine.worker_variables(settings)),
            "seconds": seconds,
            "trained": {str(i): _trained(jobs.told[name]) for i, name in enumerate(named)},
        }

    def _mixed_precision(self) -> bool:
        """Whether a step of the middle network is faster with it."""
        network = sorted(self._networks, key=lambda each: cost(each).macs)[len(self._networks) // 2]
        plain, mixed = (
            loops.step_seconds(
                loops.plain(network), loops.Loop(True, self._device, on), self._config.batch_size
            )
            for on in (False, True)
        )
        return mixed < plain

    def _loop(self, name: str, loop: loops.Loop, every: int) -> None:
        """Trains every so many networks one after the other, each kept when it is finished."""
        way = self._found["ways"].setdefault(name, {"trained": {}})
        train, held_out = self._data.train, self._data.held_out
        with tempfile.TemporaryDirectory() as folder:
            sets = loops.decoded(train, held_out)
            if not loop.advised:
                sets = loops.files(train, held_out, Path(folder))
            for index in range(0, len(self._networks), every):
                if str(index) in way["trained"]:
                    continue
                torch.manual_seed(0)
                network = loops.plain(self._networks[index])
                done = loops.run(network, *sets, loop, self._config, self._setting.epochs)
                way["trained"][str(index)] = asdict(done)
                self._write()

    def _summary(self) -> dict[str, Any]:
        """Each way's throughput over all networks, and how phiscale compares."""
        ways = self._found["ways"]
        advised, tutorial = ways["advised"]["trained"], ways["tutorial"]["trained"]
        slower = _total(tutorial) / _total({i: advised[i] for i in tutorial})
        seconds = {
            "phiscale": ways["phiscale"]["seconds"],
            "advised": _total(advised),
            "tutorial": _total(advised) * slower,  # of all networks, by its ratio over some
        }
        others = {name: spent for name, spent in seconds.items() if name != "phiscale"}
        ours = ways["phiscale"]
        steady = _total(ours["trained"]) / ours["workers"]
        images = len(self._data.train) * self._setting.epochs * len(self._networks)
        macs = sum(each["macs"] for each in self._found["networks"])
        work = 6.0 * macs * len(self._data.train) * self._setting.epochs
        return {
            "seconds": seconds,
            "training_runs_per_hour": {
                n: 3600 * len(self._networks) / s for n, s in seconds.items()
            },
            "images_per_second": {name: images / s for name, s in seconds.items()},
            # Forward, and backward to inputs and to weights: three times two operations a MAC.
            "operations_per_second": {name: work / s for name, s in seconds.items()},
            "times_as_fast_as": {n: s / seconds["phiscale"] for n, s in others.items()},
            # In a long search no worker waits for the last one.
            "times_as_fast_in_a_long_search": {n: s / steady for n, s in others.items()},
            "accuracy": {
                name: statistics.mean(each["accuracy"] for each in way["trained"].values())
                for name, way in ways.items()
            },
            "accuracy_gain_over": {
                name: _difference(ways["phiscale"]["trained"], ways[name]["trained"])
                for name in ("advised", "tutorial")
            },
        }

    def table(self) -> str:
        """The summary for people."""
        summary = self._found["summary"]
        lines = ["way            runs/h  images/s  phiscale is  (long)  accuracy  its gain (95 %)"]
        for name in ("phiscale", "advised", "tutorial"):
            line = (
                f"{name:9} {summary['training_runs_per_hour'][name]:11,.0f}"
                f" {summary['images_per_second'][name]:9,.0f}"
            )
            accuracy = f"{summary['accuracy'][name]:.3f}"
            if name == "phiscale":
                lines.append(f"{line} {accuracy:>31}")
                continue
            gain = summary["accuracy_gain_over"][name]
            lines.append(
                f"{line} {summary['times_as_fast_as'][name]:11.2f}×"
                f" {summary['times_as_fast_in_a_long_search'][name]:6.2f}× {accuracy:>9}"
                f"  {gain['mean']:+.3f} ± {gain['half_width']:.3f}"
            )
        ceilings = self._found["ceilings"]
        achieved = summary["operations_per_second"]["phiscale"]
        lines.append(
            f"phiscale's convolutions: {achieved / 1e9:,.0f} GFLOP/s; a large matrix product: "
            f"{ceilings['matrix_operations_per_second'] / 1e9:,.0f} GFLOP/s; "
            f"a copy: {ceilings['copied_bytes_per_second'] / 1e9:,.1f} GB/s"
        )
        return "\n".join(lines)


def _trained(told: Measurement) -> dict[str, Any]:
    if told.accuracy is None:
        raise RuntimeError(f"a training failed: {told.reason}")
    return {
        "accuracy": told.accuracy,
        "seconds": told.train_seconds + told.validation_seconds,
        "validation_seconds": told.validation_seconds,
        "peak_memory": told.peak_memory,
    }


def _total(trained: dict[str, Any]) -> float:
    return sum(float(each["seconds"]) for each in trained.values())


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Mean difference in accuracy over the networks that both trained, with its 95 % interval."""
    found = [ours[i]["accuracy"] - theirs[i]["accuracy"] for i in theirs]
    if len(found) < 2:
        return {"mean": found[0], "half_width": math.inf, "networks": 1}
    error = statistics.stdev(found) / math.sqrt(len(found))
    half_width = _T[min(len(found) - 2, len(_T) - 1)] * error
    return {"mean": statistics.mean(found), "half_width": half_width, "networks": len(found)}


def ceilings(device: torch.device) -> dict[str, float]:
    """What the device reaches at best: copying much memory, multiplying large matrices."""
    side = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.zeros(2**30 if device.type == "cuda" else 2**27, dtype=torch.uint8).to(device)
    target = torch.empty_like(source)
    return {
        "matrix_operations_per_second": 2 * side**3 / _fastest(lambda: a @ b, device),
        "copied_bytes_per_second": 2 * len(source) / _fastest(lambda: target.copy_(source), device),
    }


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    return min(time_calls(run, device, at_least=0.2))


if __name__ == "__main__":
    main()
