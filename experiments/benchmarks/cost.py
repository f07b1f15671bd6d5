"""How fast a cost is known: closed form, table, and the tools that run the network.

`python -m experiments.benchmarks.cost` prints the table and writes `experiments/results/cost.json`.
Everything runs on one thread.
"""

from __future__ import annotations

import json
import os
import platform
import timeit
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from space import choices, presets
from space.architecture import Architecture
from space.cost import cost, stage_terms
from space.cost_table import tabulate
from space.files import write_file
from space.network import build

PRESET = "efficientnet_b0"
SPACE = "mnasnet"
SEED = 0
RANDOM = 2_000
ROWS = 1_000_000
RESULT = Path(__file__).parents[1] / "results" / "cost.json"


def seconds(run: Callable[[], object], times: int, repeats: int = 5) -> float:
    """The fastest of some repeats of `times` runs each, per run."""
    return min(timeit.repeat(run, number=times, repeat=repeats)) / times


def measure() -> dict[str, float]:
    """Seconds for one architecture, by each way of costing it."""
    b0 = presets.load(PRESET)
    space = choices.load(SPACE)
    table = tabulate(space)
    rows = np.random.default_rng(SEED).integers(0, table.sizes, (ROWS, len(table.names)))
    sampled = [
        space.decode(
            {key: values[i] for (key, values), i in zip(space.choices.items(), row, strict=True)}
        )
        for row in rows[:RANDOM].tolist()
    ]
    assert [list(cost(each)) for each in sampled] == table(rows[:RANDOM]).tolist()

    def afresh(architectures: list[Architecture]) -> None:
        stage_terms.cache_clear()
        for each in architectures:
            cost(each)

    return {
        f"cost, {PRESET}": seconds(lambda: cost(b0), 2_000),
        f"cost, {PRESET}, nothing remembered": seconds(lambda: afresh([b0]), 200),
        f"cost, random of {SPACE}": seconds(lambda: [cost(each) for each in sampled], 1) / RANDOM,
        f"cost, the first {RANDOM:,} of {SPACE}": seconds(lambda: afresh(sampled), 1) / RANDOM,
        f"table, random of {SPACE}": seconds(lambda: table(rows), 1) / ROWS,
        f"fvcore, {PRESET}": _fvcore_seconds(),
        f"torch FlopCounterMode, {PRESET}": _torch_seconds(),
    }


def _fvcore_seconds() -> float:
    network, image = build(presets.load(PRESET)).eval(), torch.zeros(1, 3, 224, 224)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        def run() -> int:
            analysis = FlopCountAnalysis(network, image).unsupported_ops_warnings(False)
            return int(analysis.uncalled_modules_warnings(False).total())

        return seconds(run, 1)


def _torch_seconds() -> float:
    network, image = build(presets.load(PRESET)).eval(), torch.zeros(1, 3, 224, 224)

    def run() -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image)
        return int(counter.get_total_flops())

    return seconds(run, 1)


def hardware() -> dict[str, Any]:
    """Where this ran."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if os.name == "posix" else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def main() -> None:
    """Measures, prints the table with its ratios, and writes the result."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    found = measure()
    base = found[f"cost, {PRESET}"]
    for name, spent in found.items():
        print(f"{name:48} {spent * 1e6:12,.2f} µs  {1 / spent:12,.0f}/s  {spent / base:10.3g}×")
    packages = ("torch", "numpy", "fvcore")
    result = {
        "command": "python -m experiments.benchmarks.cost",
        "hardware": hardware(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in packages},
        "seed": SEED,
        "seconds": found,
        "ratios": {name: spent / base for name, spent in found.items()},
    }
    write_file(RESULT, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
