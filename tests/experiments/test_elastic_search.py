"""A search on parts of an elastic network: trained once, killed and continued, and reported."""

import os
import re
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
        "evaluator.seeds=2",
        "search.trials=5",
        "search.finalists=3",
        "train.checkpoint_seconds=0",
    )


def trials(run: OpenRun, study: str):
    return open_study(run.storage, study).get_trials(deepcopy=False)


def killed(folder: Path, recipe: tuple[str, ...], trained: int) -> None:
    """Starts the search and kills it once the elastic network after `trained` has a checkpoint."""
    sets = [argument for change in recipe for argument in ("--set", change)]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "search", "demo", "--out", str(folder), *sets],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    under = folder / "checkpoints" / "elastic"
    done: set[str] = set()
    while len(done) < trained or not {path.stem for path in under.glob("*.pt")} - done:
        assert process.poll() is None
        time.sleep(0.02)
        done = {path.stem for path in under.glob("weights/*.safetensors")}
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def whole(recipe: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory):
    """A search that was never killed, and what it found."""
    run = open_run("demo", tmp_path_factory.mktemp("whole") / "run", recipe)
    return run, stages.run(run, ["search"])["search"]


@pytest.mark.parametrize("done", [0, 1])
def test_a_search_killed_in_elastic_training_ends_as_one_that_was_not(
    whole, recipe, tmp_path, done
):
    killed(tmp_path / "killed", recipe, done)
    run = open_run(str(tmp_path / "killed"))
    assert len(list(run.folder.glob("checkpoints/elastic/weights/*.safetensors"))) == done
    again = stages.run(run, ["search"])["search"]
    assert again == whole[1]
    retries = [each.user_attrs.get("retries", 0) for each in trials(run, "elastic")]
    assert retries == [1 - done, done]
    for study in ("elastic", "search", "elastic seeds", "finalists"):
        identities = [
            [(each.user_attrs["key"], each.user_attrs["budget"], each.value) for each in found]
            for found in (trials(whole[0], study), trials(run, study))
        ]
        assert identities[0] == identities[1]


def test_parts_are_measured_in_one_elastic_network_and_again_in_the_others(whole):
    run, _ = whole
    searched = [job_of(trial) for trial in trials(run, "search")]
    assert {job.budget.epochs for job in searched} == {0}
    (start,) = {job.budget.start for job in searched}
    assert start.startswith("elastic-")
    again = [job_of(trial) for trial in trials(run, "elastic seeds")]
    assert {job.architecture.key for job in again} == {job.architecture.key for job in searched}
    (other,) = {(job.budget.epochs, job.budget.seed, job.budget.start) for job in again}
    assert other[:2] == (0, run.recipe.seed + 1)
    assert other[2] != start
    finalists = [job_of(trial).budget for trial in trials(run, "finalists")]
    assert {(budget.epochs, budget.start) for budget in finalists} == {(1, None)}
    # Weights that were removed are trained again, to the same numbers.
    for weights in run.folder.glob("checkpoints/elastic/weights/*"):
        weights.unlink()
    more = open_run(str(run.folder), overrides=("search.trials=6",))
    stages.run(more, ["search"])
    assert {job_of(trial).budget.start for trial in trials(more, "search")} == {start}
    assert len(trials(more, "elastic")) == 2
    page = Path(stages.run(more, ["report"])["report"]).read_text("utf-8")
    assert "as elastic parts and after training runs of their own" in page
    assert re.search("Two elastic seeds (dis)?agree on the order of six parts", page)


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
    assert "as elastic parts and after training runs of their own" in page
    assert elastic["agreement"]["networks"] == 5
    assert re.search("Two elastic seeds (dis)?agree on the order of five parts", page)
