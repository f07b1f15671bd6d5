"""Times the networks and parts in this folder on this device, and writes latency.csv.

    python measure.py [THREADS]     # of the processor; 1 by default

Needs numpy and the runtime of the files: onnxruntime, ai-edge-litert (.tflite) or torch (.pt2).
"""

from __future__ import annotations

import csv
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Rounds over all files, of which the fastest counts, so that a busy moment harms none; calls in a
#: round, at least, and before them (assumed).
ROUNDS, CALLS, WARM_UP = 3, 30, 5
#: Seconds for which a file is timed in a round, at least (assumed).
SECONDS = 0.005


def opened(path: Path, threads: int) -> Callable[[], object]:
    """A function that runs the network in a file once, on noise."""

    def noise(shape: Any) -> Any:
        return np.random.default_rng(0).normal(size=[*map(int, shape)]).astype(np.float32)

    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (given,) = session.get_inputs()
        inputs = {given.name: noise(given.shape)}
        return lambda: session.run(None, inputs)
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
        (given,) = interpreter.get_input_details()
        interpreter.set_tensor(given["index"], noise(given["shape"]))
        return lambda: interpreter.invoke()
    import torch

    torch.set_num_threads(threads)
    program = torch.export.load(path)
    module, ((images,), _) = program.module(), program.example_inputs
    return torch.inference_mode()(lambda: module(images))


def median_seconds(run: Callable[[], object]) -> float:
    """The median time of a call."""
    for _ in range(WARM_UP):
        run()
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(found) < CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def main(folder: Path, threads: int) -> None:
    """Measures every file of the folder's kit.json."""
    kit = json.loads((folder / "kit.json").read_text("utf-8"))
    best: dict[str, float] = {}
    for turn in range(ROUNDS):
        for number, (file, name) in enumerate(kit["files"].items(), start=1):
            seconds = median_seconds(opened(folder / file, threads))
            best[name] = min(seconds, best.get(name, seconds))
            if number % 50 == 0 or number == len(kit["files"]):
                print(f"round {turn + 1} of {ROUNDS}: {number} of {len(kit['files'])} files")
    processor = platform.processor() or platform.machine()
    setting = {**kit["setting"], "device": "cpu", "threads": threads, "processor": processor}
    with (folder / "latency.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [*setting, "name", "seconds"])
        table.writeheader()
        table.writerows({**setting, "name": name, "seconds": best[name]} for name in best)
    print(folder / "latency.csv")


if __name__ == "__main__":
    main(Path(__file__).resolve().parent, int([*sys.argv, "1"][1]))
