"""A search on Ray Tune, which carries and prunes it: the records are those of any executor."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from typer.testing import CliRunner

from experiments.cli import app

RECIPE = """
name: tiny
space: mnasnet_small
resolution: 16
data:
  source: glyphs
  glyphs: {classes: 3, train_images: 90, test_images: 30}
train: {batch_size: 32}
objective: {target: 400K, bounds: {macs: [100K, 900K]}}
search:
  trials: 6
  epochs: 4
  finalists: 1
  final_epochs: 4
  pruner: {kind: asha, warmup_epochs: 0, reduction: 2}
coefficients: {epochs: 1}
family: {phi: [0], epochs: 1}
executor: {kind: ray, workers: 2, threads: 1}
"""


def searched(folder: Path, *changes: str) -> list[FrozenTrial]:
    options = [word for change in changes for word in ("--set", change)]
    words = ["search", str(folder / "tiny.yaml"), "--out", str(folder / "run"), *options]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/run/study.db")
    return study.get_trials(deepcopy=False)


def test_tune_prunes_and_another_executor_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(RECIPE, "utf-8")
    trials = searched(tmp_path)
    assert len(trials) == 6
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert pruned
    assert len(pruned) + len(complete) == 6
    for trial in trials:
        ended = trial.user_attrs.get("pruned_at", 4)
        assert list(trial.intermediate_values) == list(range(1, ended + 1))
        assert trial.value == trial.intermediate_values[ended]
        assert len(trial.user_attrs["measurement"]["epochs"]) == ended
    # A rung is an epoch 1 · 2 · 2 …, and Tune judges none after the last.
    assert {trial.user_attrs["pruned_at"] for trial in pruned} <= {1, 2}

    (*before, last) = searched(tmp_path, "executor={kind: local}", "search.trials=7")
    assert before == trials
    ours, theirs = (
        trial.user_attrs.keys() - {"pruned_at", "rejected"} for trial in (last, complete[0])
    )
    assert ours == theirs
