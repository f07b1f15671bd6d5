"""Where the time of one training goes: phiscale's, and that of the loop with the usual advice.

`python -m experiments.benchmarks.profile --data CIFAR10` prints the table and writes
`experiments/results/profile.json`. Both train the same network for an epoch; phiscale on one
thread, in a process that is started as a search's workers are, the loop on all. phiscale does so a
second time with small pages and with torch's own layers. It is a CPU's profile; a GPU's is a stage
of `experiments.benchmarks.gpu`. What a process imports and compiles once
is done before. The profiler itself costs little beside operations of a millisecond.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import nn

from experiments.benchmarks import loops
from experiments.benchmarks.training import HELD_OUT, SPACE
from experiments.config import DataConfig, TrainConfig
from experiments.data.load import load
from experiments.evaluators.training import TrainingEvaluator
from experiments.latency.tables import sample
from experiments.runs.environment import environment
from experiments.training import learner, machine
from search.executors.processes import cores, variables
from space import choices
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget
from space.files import write_file
from space.network import build

IMAGES = 5_000
RESULT = Path(__file__).parents[1] / "results" / "profile.json"

#: A file, a function in it, and a caller, where only what that one calls is meant.
Function = tuple[str, ...]

#: Functions whose seconds, with all that they call, are a part of a training. The forward pass is
#: what is left of a step, and the rest what is left of all.
_PARTS: dict[str, tuple[Function, ...]] = {
    "data": (
        *(("batches.py", "epoch"), ("batches.py", "inputs")),
        *(("dataloader.py", "__next__", "run"), ("dataloader.py", "__iter__", "run")),
    ),
    "forward": (("learner.py", "step"), ("loops.py", "_loss")),
    "backward": (("_tensor.py", "backward"),),
    "optimiser": (("optimizer.py", "wrapper"), ("learner.py", "_blend")),
    "validation": (("measure.py", "evaluate"), ("loops.py", "_accuracy")),
}


def main() -> None:
    """Profiles both and prints their parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/cifar10", help="CIFAR-10")
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    source = DataConfig(source=given.data, held_out=HELD_OUT, limit=IMAGES + HELD_OUT)
    data = load(source, resolution=32, seed=0)
    (network,) = sample(choices.load(SPACE).adapted(num_classes=10, resolution=32), 1)
    torch.set_num_threads(cores())
    loop = loops.Loop(advised=True, device=torch.device("cpu"), mixed_precision=False)
    sets = loops.decoded(data.train, data.held_out)
    _begin(network)
    theirs = _parts(lambda: loops.run(loops.plain(network), *sets, loop, TrainConfig(), 1))
    with tempfile.TemporaryDirectory() as folder:
        evaluate = TrainingEvaluator(
            data.train, data.held_out, TrainConfig(), Path(folder), device="cpu", threads=1
        )
        ours = _in_process(_ours, evaluate, network, machine.process_variables(1))
        plain = _in_process(_plain, evaluate, network, {"OMP_NUM_THREADS": "1"})
    ways = {
        "phiscale, 1 thread": ours,
        "the same with small pages and torch's layers": plain,
        "advised, all cores": theirs,
    }
    result = {
        "command": "python -m experiments.benchmarks.profile",
        "hardware": environment(),
        "macs": cost(network).macs,
        "train_images": len(data.train),
        "held_out_images": len(data.held_out),
        "seconds": ways,
    }
    write_file(given.result, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for name, parts in ways.items():
        total = sum(parts.values())
        shares = ", ".join(f"{part} {spent / total:.1%}" for part, spent in parts.items())
        print(f"{name}: {total:.1f} s: {shares}")


def _in_process(
    profile: Callable[[TrainingEvaluator, Architecture], dict[str, float]],
    evaluate: TrainingEvaluator,
    network: Architecture,
    environment: dict[str, str],
) -> dict[str, float]:
    with variables(environment), ProcessPoolExecutor(1, get_context("spawn")) as processes:
        return processes.submit(profile, evaluate, network).result()


def _ours(evaluate: TrainingEvaluator, network: Architecture) -> dict[str, float]:
    budget = Budget(epochs=1, resolution=32)
    _begin(network)
    return _parts(lambda: evaluate(network, budget, lambda _: False))


def _plain(evaluate: TrainingEvaluator, network: Architecture) -> dict[str, float]:
    def only_move(network: nn.Module, _: torch.device) -> None:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    with patch.object(learner, "accelerate", only_move):
        return _ours(evaluate, network)


def _begin(network: Architecture) -> None:
    """Has this process import and compile what it does once."""
    learner.Learner(build(network), TrainConfig(), torch.device("cpu"))


def _parts(run: Callable[[], object]) -> dict[str, float]:
    """Seconds of each part of `run`."""
    profiler = cProfile.Profile()
    start = time.perf_counter()
    profiler.runcall(run)
    total = time.perf_counter() - start
    spent = _cumulative(profiler)
    found = {part: sum(map(spent, functions)) for part, functions in _PARTS.items()}
    if spent(("learner.py", "step")):  # which holds what follows the forward pass, too
        found["forward"] -= found["backward"] + found["optimiser"]
    return found | {"rest": total - sum(found.values())}


def _cumulative(profiler: cProfile.Profile) -> Callable[[Function], float]:
    """Gives the seconds of a function, with all that it called."""
    seconds: Counter[Function] = Counter()
    for (path, _, name), facts in cast(Any, pstats.Stats(profiler)).stats.items():
        *_, cumulative, callers = facts
        seconds[Path(path).name, name] += cumulative
        for (_, _, caller), (*_, part) in callers.items():
            seconds[Path(path).name, name, caller] += part
    return lambda function: seconds[function]


if __name__ == "__main__":
    main()
