import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import create_trial

from search.storage import without_password
from search.study import open_study
from space.validation import InvalidInput


def test_sqlite_writes_ahead(storage: str) -> None:
    open_study(storage, "search")
    with sqlite3.connect(storage.removeprefix("sqlite:///")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_processes_may_open_a_fresh_storage_at_once(storage: str) -> None:
    script = (
        "import sys; from search.study import open_study; sys.stdin.readline();"
        "open_study(sys.argv[1], 'search')"
    )
    repository = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, storage],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=repository,
            env={**os.environ, "PYTHONPATH": str(repository)},
        )
        for _ in range(4)
    ]
    for process in processes:  # each waits for the line, so that they begin together
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outcomes


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("sqlite:////no/such/folder/study.db", "unable to open database file"),
        ("nonsense", "Could not parse"),
        ("nosql://host/name", "nosql"),
    ],
)
def test_storage_that_cannot_be_opened_is_refused(url: str, part: str) -> None:
    with pytest.raises(InvalidInput, match=rf"storage: .*cannot be opened: .*{part}"):
        open_study(url, "search")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_text("not a database" * 100)
    with pytest.raises(InvalidInput, match="file is not a database"):
        open_study(f"sqlite:///{path}", "search")


def test_password_is_never_shown() -> None:
    url = "postgresql+nodriver://user:hunter2@host/phiscale"
    assert without_password(url) == "postgresql+nodriver://user:***@host/phiscale"
    with pytest.raises(InvalidInput) as error:
        open_study(url, "search")
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in without_password("user:hunter2@host")


def test_postgresql_holds_studies(postgresql: Any) -> None:
    study = open_study(postgresql.database("studies"), "search")
    study.add_trial(create_trial(value=0.5, user_attrs={"key": "x"}))
    assert [trial.value for trial in study.trials] == [0.5]
