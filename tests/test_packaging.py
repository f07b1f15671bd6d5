"""What is installed is all there is: the built wheel runs the demo without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("space", "scaling", "search", "reports", "experiments")

#: The demo's line, made small: every stage runs, nothing is learned.
SMALL = (
    "data.glyphs.train_images=200",
    "data.glyphs.test_images=40",
    "resolution=16",
    "objective.bounds={}",
    "search.trials=2",
    "search.finalists=1",
    "search.epochs=1",
    "search.final_epochs=1",
    "coefficients.constraint=nominal",
    "coefficients.step=0.5",
    "coefficients.tolerance=0.3",
    "coefficients.epochs=1",
    "family.phi=[0, 1]",
    "family.epochs=1",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    # A copy, since setuptools would also take what an earlier build has left in build/.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", str(source), *options], check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_every_module_recipe_space_and_template(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(REPOSITORY))
        for folder in PACKAGES
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and not {"__pycache__", "benchmarks", "results"} & {*path.parts}
    }
    assert expected <= names


def test_the_version_has_one_source():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    code = [
        path
        for folder in ("space", "scaling", "search", "reports", "experiments")
        for path in (REPOSITORY / folder).rglob("*.py")
    ]
    assert not [path for path in code if project["version"] in path.read_text("utf-8")]


def test_the_wheel_has_no_benchmarks_and_no_results(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "/benchmarks/" in name or "/results/" in name]


def test_the_wheel_runs_the_demo_away_from_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    options = ["--no-deps", "--quiet", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", str(wheel), *options], check=True)
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    overrides = [word for pair in SMALL for word in ("--set", pair)]
    program = (
        "import experiments.cli as c; print(c.__file__, file=__import__('sys').stderr); c.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "demo", *overrides, "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stderr
    summary = json.loads(done.stdout)
    assert [member["name"] for member in summary["family"]["members"]] == ["b0", "b1"]
    assert Path(summary["report"]).is_file()
    assert Path(summary["report"]).is_relative_to(tmp_path / "runs" / "demo")
