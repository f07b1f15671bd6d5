"""Runs the stages, each in a process of its own, and writes what they found."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmarks.gpu.stages import STAGES, StageResult
from space.files import write_file

#: How many stages must pass: those about correctness come first.
_MUST_PASS = 5
#: Seconds below which a stage is not started: importing torch takes some of them.
_LEAST_SECONDS = 5.0
#: The last characters of a failed stage's output that are kept.
_OUTPUT = 2000


class Options(NamedTuple):
    """What the command was asked for."""

    out: Path
    seconds: float
    device: str


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.gpu")
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.json")
    parser.add_argument("--seconds", type=float, default=540, help="for all stages together")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = Options(**vars(parser.parse_args()))
    sys.exit(0 if run(options) else 1)


def run(options: Options) -> bool:
    """Runs the stages; gives whether all that must pass did."""
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + options.seconds
    found: dict[str, Any] = {
        "command": f"python -m experiments.benchmarks.gpu --device {options.device}",
        "device": options.device,
        "stages": {},
    }
    for name, stage in STAGES.items():
        start = time.monotonic()
        left = deadline - start
        if options.device == "cpu" and not stage.on_cpu:
            result = StageResult("not run", "needs a GPU", {})
        elif left < _LEAST_SECONDS:
            result = StageResult("not run", "no time left", {})
        else:
            result = _in_process(name, options.device, min(left, stage.seconds * _slack(options)))
        seconds = round(time.monotonic() - start, 1)
        print(f"{name:12} {result.status:8} {seconds:6.1f} s  {result.headline}", flush=True)
        found["stages"][name] = {**result._asdict(), "seconds": seconds}
        write_file(options.out / "gpu.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    first = list(found["stages"].values())[:_MUST_PASS]
    return all(stage["status"] == "passed" for stage in first)


def _slack(options: Options) -> float:
    """Limits are for 540 seconds in all; with more, each stage may take longer in proportion."""
    return max(1.0, options.seconds / 540)


def _in_process(name: str, device: str, limit: float) -> StageResult:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", "experiments.benchmarks.gpu.stages", name, device]
        try:
            done = subprocess.run(
                [*command, str(path)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                env=os.environ | ({"OMP_NUM_THREADS": "1"} if device == "cpu" else {}),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return StageResult("failed", f"not done after {limit:.0f} seconds", {})
        if path.is_file():
            return StageResult(**json.loads(path.read_text("utf-8")))
    output = (done.stdout + done.stderr).strip()
    headline = output.splitlines()[-1] if output else f"ended with status {done.returncode}"
    return StageResult("failed", headline, {"output": output[-_OUTPUT:]})


if __name__ == "__main__":
    main()
