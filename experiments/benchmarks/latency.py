"""Latency of published networks, and how well a table of blocks predicts a space's.

`python -m experiments.benchmarks.latency` prints both and writes
`experiments/results/latency.json`. Everything runs on one CPU thread, one image at a time; with
`--device cuda` on a GPU, where networks are also captured as CUDA graphs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from experiments.latency import tables
from experiments.latency.timing import Backend, Subject, survey
from experiments.runs.environment import environment
from space import choices, presets
from space.cost import cost
from space.files import write_file

SPACE = "mnasnet_small"
RESOLUTION = 32
#: Networks of about the same accuracy or cost, of which MACs order the latencies wrongly.
PRESETS = ("mobilenet_v2", "mobilenet_v3_large", "mnasnet_a1", "efficientnet_b0", "resnet18")
RESULT = Path(__file__).parents[1] / "results" / "latency.json"


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    given = parser.parse_args()
    backends: tuple[Backend, ...] = ("eager", "onnxruntime")
    if given.device == "cuda":
        backends = ("eager", "graph", "onnxruntime")
    networks = {name: presets.load(name) for name in PRESETS}
    subjects = [Subject(name, network) for name, network in networks.items()]
    rows = [
        row._asdict() | {"macs": cost(networks[row.member]).macs}
        for row in survey(subjects, device=given.device, backends=backends, threads=1)
    ]
    space = choices.load(SPACE).adapted(num_classes=10, resolution=RESOLUTION)
    table = tables.measure(space, device=given.device, threads=1)
    found = {
        "command": "python -m experiments.benchmarks.latency",
        "hardware": environment(),
        "networks": rows,
        "table": asdict(table.setting) | asdict(table.judged) | {"parts": len(table.seconds)},
    }
    write_file(given.result, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for row in rows:
        print(f"{row['member']:20} {row['backend']:12} {row['median_seconds'] * 1e3:8.2f} ms")
    print(f"{SPACE}: {table.judged}")


if __name__ == "__main__":
    main()
