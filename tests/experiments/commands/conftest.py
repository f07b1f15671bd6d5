"""The command line in process, and one small real run that all may look at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments import cli

TINY = (
    "search.trials=3",
    "search.finalists=2",
    "coefficients.method=grid",
    "coefficients.constraint=nominal",
    "coefficients.step=0.5",
    "coefficients.tolerance=0.5",
    "coefficients.epochs=1",
    "family.phi=[0, 1]",
)


class Said(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def command_line() -> Callable[..., int]:
    """Runs the command line in process; gives its exit status."""

    def run(*arguments: object) -> int:
        before, sys.argv = sys.argv, ["phiscale", *map(str, arguments)]
        try:
            with pytest.raises(SystemExit) as end:
                cli.main()
        finally:
            sys.argv = before
        return int(end.value.code or 0)

    return run


@pytest.fixture
def phiscale(command_line, capsys, monkeypatch) -> Callable[..., Said]:
    """Runs `phiscale ARGUMENTS` on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        status = command_line(*arguments)
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, command_line, tiny) -> Path:
    """A finished run; whoever changes it copies it first."""
    folder = tmp_path_factory.mktemp("tiny")
    changes = [f"--set={change}" for change in (*tiny, *TINY, f"data.cache={folder / 'cache'}")]
    assert command_line("run", "demo", "--out", folder / "run", "--quiet", *changes) == 0
    return folder / "run"
