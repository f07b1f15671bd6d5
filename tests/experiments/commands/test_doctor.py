"""What `phiscale doctor` finds."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.commands import doctor as checks

IMPORT_ERROR = checks._import_error


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the torchvision of the machine, which may be for another torch, could be imported."""
    monkeypatch.setattr(checks, "_import_error", lambda _: None)


def doctor(*options: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["doctor", "--json", *options])
    return result.exit_code, json.loads(result.stdout)


def found(told: dict[str, Any], about: str) -> list[tuple[str, str]]:
    return [
        (each["level"], each["sentence"]) for each in told["findings"] if each["about"] == about
    ]


def test_a_machine_that_is_well_is_told_so() -> None:
    status, told = doctor()
    assert status == 0
    assert told["facts"]["torch"] == metadata.version("torch")
    assert found(told, "torchvision")[0][0] == "well"
    assert {"GPU", "storage", "Ray", "names", "files", "passwords"} <= {
        each["about"] for each in told["findings"]
    }
    assert "well" in CliRunner().invoke(app, ["doctor"]).stdout


@pytest.mark.parametrize(
    ("torch", "torchvision", "level"),
    [
        ("2.13.0+cpu", "0.28.0+cpu", "well"),
        ("2.13.0", "0.28.0+cpu", "well"),
        ("2.12.1", "0.28.0", "problem"),
        ("2.13.0+cu130", "0.28.0+cpu", "problem"),
    ],
)
def test_torchvision_of_another_torch_is_found(
    monkeypatch: pytest.MonkeyPatch, torch: str, torchvision: str, level: str
) -> None:
    versions = {"torch": torch, "torchvision": torchvision}
    monkeypatch.setattr(checks.metadata, "version", versions.__getitem__)
    monkeypatch.setattr(checks.metadata, "requires", lambda _: ["numpy", "torch==2.13.0"])
    assert checks._torchvision().level == level


def test_a_torchvision_that_cannot_be_imported_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('no operator nms')\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(checks, "_import_error", IMPORT_ERROR)
    monkeypatch.setattr(checks.metadata, "version", lambda _: "2.13.0")
    monkeypatch.setattr(checks.metadata, "requires", lambda _: [])
    found = checks._torchvision()
    assert found.level == "problem"
    assert "cannot be imported with torch 2.13.0 (RuntimeError: no operator nms)" in found.sentence


def test_what_processes_need_to_talk_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checks.tempfile, "gettempdir", lambda: "/tmp/" + 40 * "x")
    monkeypatch.setattr(checks, "_SHARED_MEMORY", tmp_path / "none")
    long, missing = checks._temporary()
    assert (long.about, missing.about) == ("TMPDIR", "shared memory")
    assert "set TMPDIR to a shorter path" in long.sentence
    monkeypatch.setattr(checks.tempfile, "gettempdir", lambda: "/tmp")
    monkeypatch.setattr(checks, "_SHARED_MEMORY", tmp_path)
    assert not list(checks._temporary())


def test_a_network_drive_needs_a_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_file_system", lambda _: "nfs4")
    ((level, sentence),) = found(doctor()[1], "storage")
    assert level == "warning"
    assert "set storage: journal" in sentence


def test_a_storage_that_cannot_be_opened_is_a_problem_without_its_password() -> None:
    status, told = doctor("--storage", "postgresql://user:hunter2@127.0.0.1:1/none")
    assert status == 1
    ((level, sentence),) = found(told, "storage")
    assert level == "problem"
    assert "user:***@127.0.0.1" in sentence
    assert "hunter2" not in json.dumps(told)


def test_a_storage_that_answers_is_well(tmp_path: Path) -> None:
    status, told = doctor("--storage", f"journal:///{tmp_path}/study.journal")
    assert (status, found(told, "storage")[0][0]) == (0, "well")
