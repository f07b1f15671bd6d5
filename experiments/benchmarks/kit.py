"""How well a table of parts predicts whole networks, by the runtime that measured both.

`python -m experiments.benchmarks.kit` builds torch's table of a space, writes a kit for each other
runtime, lets its script measure here, and compares predictions for 16 networks that no line was
fitted to. It writes `experiments/results/kit.json`; runtimes that are in it are not measured again,
and kits stay in `--work`. Give `--formats` those whose runtimes this environment has. On an idle
machine of two cores onnxruntime takes some minutes (assumed); LiteRT converts for seconds a part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.latency import kit, tables
from experiments.runs.environment import environment
from space import choices
from space.files import write_file

RESULT = Path(__file__).parents[1] / "results" / "kit.json"

#: The aim: the median error of the predictions is at most this.
AIM = 0.05


def main() -> None:
    """Measures what is missing, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mnasnet_small")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--formats", nargs="+", default=["onnx"], choices=kit.FORMATS)
    parser.add_argument("--work", type=Path, default=Path("build") / "kits")
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    space = choices.load(given.space).adapted(num_classes=10, resolution=given.resolution)
    found: dict[str, Any] = {"command": "python -m experiments.benchmarks.kit", "runtimes": {}}
    if given.result.exists():
        found = json.loads(given.result.read_bytes())
    for name in ["torch", *given.formats]:
        unit = f"{name} {space.name} {given.resolution}"
        if unit not in found["runtimes"]:
            if name == "torch":
                table = tables.measure(space, threads=1)
            else:
                folder = given.work / unit.replace(" ", "-")
                kit.write(space, folder, name, progress=lambda *_: None)
                subprocess.run([sys.executable, folder / "measure.py", "1"], check=True)
                table = tables.load(folder / "latency.csv")
            facts = asdict(table.setting) | asdict(table.judged) | {"parts": len(table.seconds)}
            found["runtimes"][unit] = facts | {"hardware": environment()}
            write_file(given.result, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        error = found["runtimes"][unit]["median_error"]
        print(f"{unit}: median error {error:.1%}, {'within' if error <= AIM else 'beyond'} the aim")


if __name__ == "__main__":
    main()
