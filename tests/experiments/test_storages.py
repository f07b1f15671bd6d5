"""Runs on a PostgreSQL server: nothing written down, nobody else's trials touched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from experiments.cli import app
from search.study import finished, open_study
from space.validation import InvalidInput

SETTINGS = (
    "search.trials=2",
    "search.finalists=1",
    "coefficients.alpha=1.2",
    "coefficients.beta=1.1",
    "coefficients.gamma=1.15",
    "family.phi=[0]",
)


@pytest.fixture
def phiscale(monkeypatch: pytest.MonkeyPatch) -> Any:
    def invoke(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["phiscale", *words])
        return CliRunner().invoke(app, words)

    return invoke


def test_a_password_is_in_no_file_and_no_line(
    postgresql: Any,
    phiscale: Any,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgresql.database("secret")
    changes = [f"data.cache={tmp_path / 'cache'}", f"storage={url}", *tiny, *SETTINGS]
    options = [word for change in changes for word in ("--set", change)]
    folder = tmp_path / "run"
    first = phiscale("run", "demo", "--out", str(folder), *options)
    assert first.exit_code == 0, first.output
    assert postgresql.password not in first.output
    assert len(finished(open_study(url, "search").trials)) == 2

    # Nor does the run need it there to go on.
    monkeypatch.setenv("PHISCALE_STORAGE_PASSWORD", postgresql.password)
    again = phiscale("run", str(folder), "--set", "search.trials=3")
    assert again.exit_code == 0, again.output
    assert len(finished(open_study(url, "search").trials)) == 3

    # Without it, and with a wrong one, there is a sentence.
    for set_wrong in (True, False):
        monkeypatch.delenv("PHISCALE_STORAGE_PASSWORD")
        if set_wrong:
            monkeypatch.setenv("PHISCALE_STORAGE_PASSWORD", "wrong")
        refused = phiscale("search", str(folder))
        assert isinstance(refused.exception, InvalidInput)
        assert "$PHISCALE_STORAGE_PASSWORD" in str(refused.exception)

    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 10
    secret = postgresql.password.encode()
    assert [path for path in written if secret in path.read_bytes()] == []
    assert b"***" in (folder / "recipe.yaml").read_bytes()


def test_a_storage_of_another_run_is_left_alone(
    postgresql: Any, phiscale: Any, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    url = postgresql.database("shared")
    changes = [f"data.cache={tmp_path / 'cache'}", f"storage={url}", *tiny, *SETTINGS]
    options = [word for change in changes for word in ("--set", change)]
    assert phiscale("search", "demo", "--out", str(tmp_path / "one"), *options).exit_code == 0
    other = phiscale("search", "demo", "--out", str(tmp_path / "two"), *options)
    assert isinstance(other.exception, InvalidInput)
    assert "holds another run's trials" in str(other.exception)
    assert len(open_study(url, "search").trials) == 2
