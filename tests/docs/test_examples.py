"""The examples in docs/ do what the pages around them say."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def again(tmp_path: Path):
    def run() -> str:
        command = [sys.executable, DOCS / "examples" / "own_evaluator.py"]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    return run


def test_a_search_with_an_own_evaluator_continues_from_its_file(again, tmp_path):
    first = again()
    assert "MACs" in first
    assert (tmp_path / "own.db").is_file()
    assert again() == first
