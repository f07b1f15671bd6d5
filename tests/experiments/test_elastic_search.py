"""A search on parts of an elastic network: trained once, killed and continued, and reported."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import config, stages
from experiments.runs.folder import OpenRun
from experiments.runs.opening import open_run
from search.ledger import job_of
from search.study import open_study
from space.validation import InvalidInput

SPACE = """
base:
  numerics: {activation: relu}
  stem: {channels: 8, stride: 1}
  stages:
    - {operator: separable, kernel: 3, channels: 8}
    - {operator: inverted, kernel: 3, stride: 2, expansion: 3, channels: 16}
  head: {channels: 32}
choices:
  operator: [conv, inverted_e3]
  kernel: [3, 5]
  width: [0.5, 1.0]
  layers: [0, 1]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("elastic")
    space = folder / "narrow.yaml"
    space.write_text(SPACE, "utf-8")
    return (
        *tiny,
        f"space={space}",
        f"data.cache={folder / 'cache'}",
        "objective.bounds={macs: [10K, 900K]}",
        "evaluator.kind=elastic",
        "evaluator.epochs=6",
        "search.trials=5",
        "search.finalists=3",
        "train.checkpoint_seconds=0",
    )


def trials(run: OpenRun, study: str):
    return open_study(run.storage, study).get_trials(deepcopy=False)


def killed(folder: Path, recipe: tuple[str, ...]) -> None:
    """Starts the search and kills it once the elastic network has a checkpoint."""
    sets = [argument for change in recipe for argument in ("--set", change)]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "search", "demo", "--out", str(folder), *sets],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(folder.glob("checkpoints/elastic/*.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_search_killed_in_the_elastic_training_ends_as_one_that_was_not(recipe, tmp_path):
    whole = open_run("demo", tmp_path / "whole", recipe)
    found = stages.run(whole, ["search"])["search"]
    killed(tmp_path / "killed", recipe)
    run = open_run(str(tmp_path / "killed"))
    assert not list(run.folder.glob("checkpoints/elastic/weights/*"))
    again = stages.run(run, ["search"])["search"]
    assert again == found
    (elastic,) = trials(run, "elastic")
    assert elastic.user_attrs["retries"] == 1
    for study in ("elastic", "search", "finalists"):
        identities = [
            [(each.user_attrs["key"], each.user_attrs["budget"], each.value) for each in found]
            for found in (trials(whole, study), trials(run, study))
        ]
        assert identities[0] == identities[1]
    searched = [job_of(trial).budget for trial in trials(run, "search")]
    assert {budget.epochs for budget in searched} == {0}
    (start,) = {budget.start for budget in searched}
    assert start.startswith("elastic-")
    finalists = [job_of(trial).budget for trial in trials(run, "finalists")]
    assert {(budget.epochs, budget.start) for budget in finalists} == {(1, None)}
    # Weights that were removed are trained again, to the same numbers.
    (weights,) = run.folder.glob("checkpoints/elastic/weights/*")
    weights.unlink()
    more = open_run(str(run.folder), overrides=("search.trials=6",))
    stages.run(more, ["search"])
    assert {job_of(trial).budget.start for trial in trials(more, "search")} == {start}
    assert len(trials(more, "elastic")) == 1
    page = Path(stages.run(more, ["report"])["report"]).read_text("utf-8")
    assert "parts of the elastic network" in page


def test_finalists_of_an_elastic_search_start_from_nothing():
    with pytest.raises(InvalidInput, match=r"search.continue_finalists: must be false"):
        config.load("demo", ("evaluator=elastic", "search.continue_finalists=true"))


def test_coefficients_are_chosen_among_the_best_parts(recipe, tmp_path):
    changes = (
        "evaluator.kind=train",
        "evaluator.epochs=1",
        "search.trials=1",
        "search.finalists=1",
        "coefficients.method=elastic",
        "coefficients.step=0.1",
        "coefficients.tolerance=0.4",
        "coefficients.seeds=2",
        "coefficients.epochs=1",
    )
    run = open_run("demo", tmp_path / "run", (*recipe, *changes))
    found = stages.run(run, ["search", "coefficients"])["coefficients"]
    elastic = found["elastic"]
    assert len(trials(run, "elastic coefficients")) == elastic["seeds"] == 2
    measured = trials(run, "coefficients of parts")
    assert len(measured) == 2 * len(elastic["accuracies"])
    assert len(found["candidates"]) == 4 < len(elastic["accuracies"])
    means = {name: sum(values) / 2 for name, values in elastic["accuracies"].items()}
    taken = {each["name"] for each in found["training_runs"] if each["heat"] == "first"}
    others = means.keys() - taken
    assert min(means[name] for name in taken) >= max(means[name] for name in others)
    starts = {job_of(trial).budget.start for trial in measured}
    assert len(starts) == 2
    assert all(job_of(trial).budget.start is None for trial in trials(run, "coefficients"))
    stages.run(open_run(str(run.folder)), ["coefficients"])
    assert len(trials(run, "coefficients of parts")) == len(measured)
    page = Path(stages.run(run, ["report"])["report"]).read_text("utf-8")
    assert "were measured as parts of two elastic networks" in page
