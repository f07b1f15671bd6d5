"""A run that is killed and started again is the run that was never killed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

RECIPE = """
name: tiny
space: mnasnet_small
resolution: 16
data:
  source: glyphs
  glyphs: {classes: 3, train_images: 90, test_images: 30}
train: {batch_size: 32, checkpoint_seconds: 0}
objective: {target: 400K, bounds: {macs: [100K, 900K]}}
search:
  trials: 4
  epochs: 2
  finalists: 2
  final_epochs: 3
  pruner: {startup_trials: 1}
coefficients: {method: grid, constraint: nominal, step: 0.5, tolerance: 0.3, epochs: 2}
family: {phi: [0, 1], epochs: 4}
"""

STUDIES = ("search", "finalists", "coefficients", "family")

#: What may differ between two runs of the same recipe.
MEASURED = ("train_seconds", "validation_seconds", "seconds", "peak_memory")


def start(folder: Path, cache: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE, "utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", "run", str(recipe), "--out", str(folder / "run")],
        env=os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def trials(folder: Path, study: str) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{folder}/run/study.db"
    return optuna.load_study(storage=storage, study_name=study).get_trials(deepcopy=False)


def ends(folder: Path, studies: Sequence[str]) -> dict[tuple[str, int], Any]:
    """When each finished trial ended, by its study and number."""
    return {
        (study, trial.number): trial.datetime_complete
        for study in studies
        for trial in trials(folder, study)
        if trial.state.is_finished()
    }


def is_in(folder: Path, stage: str) -> bool:
    """Whether the stage is at work: its second trial has reported an epoch and not ended."""
    if stage == "report":
        return (folder / "run" / "family" / "family.json").exists()
    try:
        found = trials(folder, stage)
    except Exception:  # the storage or the study does not exist yet
        return False
    return len(found) > 1 and bool(found[1].intermediate_values)


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run found, without what depends on the clock."""
    found: dict[str, Any] = {
        study: [
            (trial.number, trial.state, trial.params, trial.value, measured(trial))
            for trial in trials(folder, study)
        ]
        for study in STUDIES
    }
    for name in ("baseline", "coefficients", "family/family"):
        found[name] = timeless(json.loads((folder / "run" / f"{name}.json").read_text("utf-8")))
    return found


def measured(trial: optuna.trial.FrozenTrial) -> dict[int, float | None]:
    """The value after each epoch, None where an epoch measured no images."""
    values = trial.intermediate_values.items()
    return {epoch: None if math.isnan(value) else value for epoch, value in values}


def timeless(data: Any) -> Any:
    if isinstance(data, dict):
        # Model cards state the training's seconds, so their hashes differ too.
        skipped = (*MEASURED, "README.md", "card")
        return {key: timeless(value) for key, value in data.items() if key not in skipped}
    return [timeless(item) for item in data] if isinstance(data, list) else data


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(start(folder, cache))
    return folder


def test_a_run_killed_in_every_stage_continues_to_the_same_result(uninterrupted, cache, tmp_path):
    ended: dict[tuple[str, int], Any] = {}
    for stage in (*STUDIES, "report"):
        process = start(tmp_path, cache)
        while process.poll() is None and not is_in(tmp_path, stage):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"ended before it was killed in {stage}"
        begun = STUDIES[: STUDIES.index(stage) + 1] if stage in STUDIES else STUDIES
        before, ended = ended, ends(tmp_path, begun)
        assert before.items() <= ended.items(), f"trained again before {stage}"

    finish(start(tmp_path, cache))

    assert ended.items() <= ends(tmp_path, STUDIES).items(), "trained again at the end"
    assert outcome(tmp_path) == outcome(uninterrupted)


def test_a_run_that_has_ended_trains_nothing_when_started_again(uninterrupted, cache):
    before = outcome(uninterrupted), (uninterrupted / "run" / "study.db").stat().st_size
    finish(start(uninterrupted, cache))
    assert (outcome(uninterrupted), (uninterrupted / "run" / "study.db").stat().st_size) == before
