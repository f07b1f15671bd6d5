"""The floors of the house stay light: what needs torch or ray says so by being there."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "pandas", "matplotlib", "pyarrow", "fvcore", "onnx", "sklearn")


def loaded(module: str) -> set[str]:
    """Which of the heavy packages importing `module` brings along, in a fresh process."""
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(HEAVY) & set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "space",
        "space.architecture",
        "space.choices",
        "space.cost",
        "space.evaluation",
        "space.presets",
        "scaling",
        "scaling.compound",
        "scaling.coefficients",
        "scaling.saved_family",
        "scaling.export",
        "scaling.verification",
        "search",
        "search.objective",
        "search.search",
        "search.study",
        "search.samplers",
        "search.executors",
        "reports",
        "experiments.cli",
    ],
)
def test_importing_loads_nothing_heavy(module):
    assert loaded(module) == set()


def test_a_heavy_import_would_be_seen():
    assert "torch" in loaded("space.network")
