"""The wheel holds all that phiscale needs; `.ci/test-install` runs it without the checkout."""

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
