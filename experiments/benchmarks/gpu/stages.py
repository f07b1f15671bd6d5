"""The stages by name, in the order in which they run; run as a module, it runs one of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from space.files import write_file

#: What a stage finds: a sentence, and figures. It raises `Failed` where something does not hold.
Found = tuple[str, dict[str, Any]]


class Failed(Exception):
    """What does not hold, in a sentence, and the figures that show it."""

    def __init__(self, headline: str, figures: dict[str, Any]) -> None:
        super().__init__(headline)
        self.figures = figures


class StageResult(NamedTuple):
    """`status` is passed, failed or not run."""

    status: str
    headline: str
    figures: dict[str, Any]


class StageFunction(NamedTuple):
    """Where a stage's function is, called with a device, and its limit of 540 seconds in all."""

    module: str
    function: str
    seconds: float
    on_cpu: bool = False


STAGES = {
    "environment": StageFunction("correctness", "environment", 40, on_cpu=True),
    "tests": StageFunction("correctness", "tests", 150, on_cpu=True),
    "captures": StageFunction("correctness", "captures", 120, on_cpu=True),
    "soak": StageFunction("correctness", "soak", 120, on_cpu=True),
    "faults": StageFunction("correctness", "faults", 120, on_cpu=True),
    "steps": StageFunction("speed", "steps", 90),
    "packing": StageFunction("speed", "packing", 60),
    "depthwise": StageFunction("speed", "depthwise", 60),
    "loops": StageFunction("speed", "compare_loops", 90),
    "latency": StageFunction("speed", "latencies", 60),
}


def run(name: str, device: str) -> StageResult:
    """Runs a stage in this process."""
    stage = STAGES[name]
    module = import_module(f"experiments.benchmarks.gpu.{stage.module}")
    function: Callable[[str], Found] = getattr(module, stage.function)
    try:
        headline, figures = function(device)
    except Failed as failed:
        return StageResult("failed", str(failed), failed.figures)
    return StageResult("passed", headline, figures)


def main() -> None:
    """Runs the stage of the first argument on the device of the second; writes to the third."""
    name, device, path = sys.argv[1:]
    write_file(Path(path), json.dumps(run(name, device)._asdict()))


if __name__ == "__main__":
    # As the module that the stages import `Failed` from, and not as `__main__`.
    import_module("experiments.benchmarks.gpu.stages").main()
