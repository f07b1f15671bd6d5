"""The command for a GPU: its dry run on a CPU, and what it needs on a bare machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks.gpu import __main__ as command
from experiments.benchmarks.gpu.stages import STAGES
from experiments.benchmarks.gpu.wheels import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[3]

#: What such a machine has: torch and what it needs, numpy, numba and pyarrow.
BARE = {
    *("torch", "numpy", "numba", "llvmlite", "pyarrow", "setuptools"),
    *("sympy", "mpmath", "networkx", "jinja2", "triton"),
}

#: Imports what the stages import, in their processes and in the tests that they run.
IMPORTS = """
import sys
from contextlib import suppress
from importlib import metadata, util
import pytest
import experiments.benchmarks.gpu.correctness, experiments.benchmarks.gpu.speed
from pathlib import Path
tests = Path("tests")
files = [path for path in tests.rglob("test_*.py") if "_on_a_gpu_" in path.read_text("utf-8")]
for number, path in enumerate([*tests.glob("**/conftest.py"), *files]):
    if path.parts[1:-1] in ((), ("experiments",)) or path in files:
        spec = util.spec_from_file_location(f"loaded{number}", path)
        module = util.module_from_spec(spec)
        sys.modules[spec.name] = module
        with suppress(pytest.skip.Exception):  # without Triton
            spec.loader.exec_module(module)
tops = {name.partition(".")[0] for name in sys.modules}
print(*{package for top, packages in metadata.packages_distributions().items() if top in tops
        for package in packages})
"""


def test_the_dry_run_passes_the_five_stages_about_correctness(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--seconds", "540", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.gpu", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["stages"]
    statuses = {name: stage["status"] for name, stage in found.items()}
    expected = {name: "passed" if stage.on_cpu else "not run" for name, stage in STAGES.items()}
    assert statuses == expected, done.stdout
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(STAGES)


def test_a_stage_that_fails_or_takes_too_long_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def outcome(name: str, *_: object) -> command.StageResult:
        return command.StageResult("failed" if name == "soak" else "passed", "so it is", {})

    monkeypatch.setattr(command, "_in_process", outcome)
    assert not command.run(command.Options(tmp_path, 540, "cuda"))
    assert command.run(command.Options(tmp_path, 0, "cuda")) is False  # none of them was run
    assert "soak         failed" in capsys.readouterr().out
    later = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["stages"]["latency"]
    assert (later["status"], later["headline"]) == ("not run", "no time left")


def test_it_needs_nothing_that_a_bare_machine_and_the_wheels_lack() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.lower().replace("_", "-") for name in done.stdout.split()}
    assert loaded - {"phiscale"} <= BARE | {name.lower() for name in PACKAGES}
