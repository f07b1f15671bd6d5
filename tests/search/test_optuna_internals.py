"""What is private to Optuna is imported in one file, for the minor version that is installed."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import optuna
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = [
    file
    for package in ("space", "scaling", "search", "reports", "experiments")
    for file in sorted((REPOSITORY / package).rglob("*.py"))
]
ATTRIBUTES = {"_storage", "_study_id", "_trial_id"}


def private(source: str) -> Iterator[str]:
    """The private names of Optuna that a file imports, or reads off studies and trials."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            names = [node.module or "", *(alias.name for alias in node.names)]
            yield from (name for name in names if "._" in name or name.startswith("_"))
        if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            yield from [] if own else [node.attr]


def test_private_names_are_found() -> None:
    source = "from optuna._hypervolume import x\nfrom optuna import _y\nstudy._storage\n"
    assert sorted(private(source)) == ["_storage", "_y", "optuna._hypervolume"]


def test_private_names_of_optuna_are_used_in_one_file() -> None:
    found = {
        str(file.relative_to(REPOSITORY)): list(private(file.read_text("utf-8")))
        for file in FILES
        if file.name != "optuna_internals.py" and "benchmarks" not in file.parts
    }
    assert {file: names for file, names in found.items() if names} == {}


def test_only_the_minor_version_that_is_tested_is_admitted() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    (optunas,) = (
        requirement
        for requirement in map(Requirement, project["dependencies"])
        if requirement.name == "optuna"
    )
    major, minor = map(int, optuna.__version__.split(".")[:2])
    assert optuna.__version__ in optunas.specifier
    assert f"{major}.{minor + 1}.0" not in optunas.specifier
