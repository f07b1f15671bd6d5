"""The examples in the docstrings of what docs/reference lists run, and give what they show."""

import doctest
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from experiments.families.export import export_architecture
from space import presets

DOCS = Path(__file__).resolve().parents[2] / "docs"
LISTED = re.findall(
    r"\.\. auto(?:function|class|module):: (\S+)",
    (DOCS / "reference" / "python.md").read_text("utf-8"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with an exported family, in which the examples run."""
    folder = tmp_path_factory.mktemp("examples")
    network = presets.load("mnasnet_small", num_classes=10)
    export_architecture("b0", network, None, folder / "runs" / "demo" / "family", set())
    return folder


def found(name: str) -> tuple[ModuleType, Any]:
    """The module of `name` and the object in it, which may be the module itself."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, last = name.rpartition(".")
        module = importlib.import_module(parent)
        return module, getattr(module, last)
    return module, module


@pytest.mark.parametrize("name", LISTED)
def test_the_examples_run_and_give_what_they_show(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    module, listed = found(name)
    tests = doctest.DocTestFinder().find(listed, name, module, globs={})
    assert any(test.examples for test in tests), f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.FAIL_FAST)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
