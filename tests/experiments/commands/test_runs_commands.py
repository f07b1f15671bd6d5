"""Runs are looked at as they are, finished, working or stopped, and never changed."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState, create_trial

from experiments.commands import running
from experiments.progress import log
from experiments.studies.scaling_study import open_study_run
from search import lease
from search.study import open_study


@pytest.fixture
def copied(tiny_run, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "runs" / "tiny"))


def unfinished(folder: Path) -> Path:
    """As if the family were being trained: its first training runs, its second failed."""
    (folder / "family" / "family.json").unlink()
    study = optuna.load_study(study_name="family", storage=f"sqlite:///{folder / 'study.db'}")
    storage, trials = study._storage, study.get_trials()
    for name, state in (("b0", "running"), ("b1", "fail")):
        trial = next(t for t in trials if t.user_attrs["job"] == name)
        attributes = dict(trial.user_attrs)
        new = storage.create_new_trial(study._study_id)
        attributes["job"] = f"{name} again"
        if state == "fail":
            attributes["measurement"] |= {"status": "failed", "reason": "the loss is [nan]"}
        for key, value in attributes.items():
            storage.set_trial_user_attr(new, key, value)
        if state == "fail":
            storage.set_trial_state_values(new, optuna.trial.TrialState.FAIL)
    return folder


def test_status_of_a_finished_run_counts_every_stage(phiscale, tiny_run):
    said = phiscale("status", tiny_run)
    assert said.status == 0
    assert "finished; the family is in" in said.out
    assert [line.split()[:3] for line in said.out.splitlines()[3:7]] == [
        ["search", "done", "3/3"],
        ["finalists", "done", "2/2"],
        ["coefficients", "done", "5/5"],
        ["family", "done", "2/2"],
    ]
    assert max(map(len, said.out.splitlines())) <= 80 + len(str(tiny_run))


def test_what_failed_in_any_study_of_the_storage_is_counted(phiscale, copied):
    study = open_study(f"sqlite:///{copied / 'study.db'}", "growth", stage="family", title="Growth")
    reason = {"measurement": {"status": "failed", "reason": "the loss is nan"}}
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=reason))
    data = json.loads(phiscale("status", copied, "--json").out)
    assert [stage["name"] for stage in data["stages"]][-2:] == ["family", "growth"]
    assert data["stages"][-1]["failed"] == 1
    assert data["failures"] == {"the loss is nan": 1}
    assert "the loss is nan" in phiscale("status", copied).out
    (row,) = json.loads(phiscale("trials", copied, "--study", "growth", "--json").out)
    assert row["state"] == "failed"
    assert "did you mean 'growth'" in phiscale("trials", copied, "--study", "grwth").err


def test_a_scaling_study_is_looked_at_as_runs_are(phiscale, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = open_study_run("study-width", overrides=("data.resolution=32",))
    folder = opened.folder
    assert (
        f"nothing is recorded yet; start it with: phiscale study {Path('runs', folder.name)}"
        in (" ".join(phiscale("status", folder.name).out.split()))
    )
    study = open_study(opened.storage, "study", stage="study", title="Scaling study")
    measurement = {"measurement": {"status": "complete", "accuracy": 0.5}}
    study.add_trial(create_trial(value=0.5, user_attrs=measurement))
    opened.plan("study", 2)
    data = json.loads(phiscale("status", folder.name, "--json").out)
    assert [(s["name"], s["done"], s["planned"]) for s in data["stages"]] == [("study", 1, 2)]
    assert not data["finished"]
    assert "stopped; continue with: phiscale study" in phiscale("status", folder.name).out
    (row,) = json.loads(phiscale("runs", "--json").out)
    assert (row["name"], row["state"], row["trials"]) == ("study-width", "stopped: study", 1)
    assert len(json.loads(phiscale("trials", folder.name, "--json").out)) == 1
    opened.plan("study", 1)
    assert "finished; the report is in" in phiscale("status", folder.name).out
    refused = phiscale("report", folder)
    assert refused.status == 2
    assert refused.err.count("\n") == 1
    assert "is the recipe of a scaling study" in refused.err
    assert refused.err.split()[-1] == str(folder)  # and not its recipe, which starts another study


def test_status_while_it_works_shows_what_runs_and_what_failed(phiscale, copied):
    folder = unfinished(copied)
    with lease.held(f"sqlite:///{folder / 'study.db'}"):
        said = phiscale("status", folder)
        data = json.loads(phiscale("status", folder, "--json").out)
        assert json.loads(phiscale("runs", folder.parent, "--json").out)[0]["state"] == (
            "working: family"
        )
    assert f"working: process {os.getpid()} on" in said.out
    assert data["driver"]["process"] == os.getpid()
    assert "b0 again" in said.out
    assert "failed 1 ×: the loss is [nan]" in said.out
    assert data["stages"][3]["running"] == 1
    assert data["failures"] == {"the loss is [nan]": 1}


def test_status_of_a_stopped_run_says_how_to_continue(phiscale, copied):
    folder = unfinished(copied)
    said = " ".join(phiscale("status", folder).out.split())
    assert f"stopped; continue with: phiscale run {folder}" in said
    assert "family stopped" in said
    assert "interrupted MACs" in said
    data = json.loads(phiscale("status", folder, "--json").out)
    assert (data["driver"], data["stages"][3]["state"]) == (None, "stopped")


def test_a_transfer_finds_its_run_by_name_and_says_how_to_continue(phiscale, copied, monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(copied.parent.parent)
    monkeypatch.setattr("experiments.studies.transfer.run", stopped)
    said = phiscale("transfer", "tiny", "--data", "my images", "--out", "elsewhere")
    assert said.status == 130
    assert (
        "interrupted; training runs are saved, unfinished ones too; continue with: "
        "phiscale transfer runs/tiny --data 'my images' --out elsewhere"
    ) in " ".join(said.err.split())


def test_a_run_is_found_by_its_name_and_a_wrong_one_is_corrected(phiscale, copied, monkeypatch):
    monkeypatch.chdir(copied.parent.parent)
    assert phiscale("status", "tiny").status == 0
    said = phiscale("status", "tony")
    assert said.status == 2
    assert "there is no 'tony'; did you mean 'tiny'?" in said.err
    assert "not a run, because it contains no recipe.yaml" in phiscale("best", "runs").err
    assert "elsewhere/run: not found" in phiscale("best", "elsewhere/run").err


def test_looking_changes_nothing(phiscale, copied):
    def files() -> dict[Path, bytes]:
        # SQLite itself moves what is in study.db-wal into study.db when its last reader leaves.
        kept = (path for path in copied.rglob("*") if not path.name.startswith("study.db"))
        return {path: path.read_bytes() for path in kept if path.is_file()}

    before, trials = files(), phiscale("trials", copied, "--json").out
    for command in ("status", "best", "trials", "show"):
        assert phiscale(command, copied).status == 0
    assert files() == before
    assert phiscale("trials", copied, "--json").out == trials


def test_best_ranks_by_reward_and_names_the_baseline(phiscale, tiny_run):
    found = json.loads(phiscale("best", tiny_run, "--json").out)
    rewards = [trial["value"] for trial in found["trials"]]
    assert rewards == sorted(rewards, reverse=True)
    assert {trial["study"] for trial in found["trials"]} == {"finalists"}
    assert found["baseline"] == json.loads((tiny_run / "baseline.json").read_text("utf-8"))
    shown = phiscale("best", tiny_run, "--top", "1").out
    assert shown.count("finalist of") == 1
    assert "baseline:" in shown
    assert "b1:" in shown


def test_best_of_a_run_whose_search_has_measured_nothing_says_where_to_look(phiscale, copied):
    bare = copied.parent / "bare"
    bare.mkdir()
    shutil.copy(copied / "recipe.yaml", bare)
    said = phiscale("best", bare)
    assert said.status == 2
    assert "the search has measured no network yet; see its progress with" in said.err


def test_trials_are_sorted_filtered_and_written_as_csv(phiscale, tiny_run):
    text = phiscale("trials", tiny_run, "--study", "search", "--sort", "reward", "--csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 3
    assert [float(row["reward"]) for row in rows] == sorted(
        (float(row["reward"]) for row in rows), reverse=True
    )
    cheapest = json.loads(phiscale("trials", tiny_run, "--sort=macs", "--top=1", "--json").out)
    every = json.loads(phiscale("trials", tiny_run, "--json").out)
    assert cheapest[0]["macs"] == min(row["macs"] for row in every)
    assert json.loads(phiscale("trials", tiny_run, "--state", "failed", "--json").out) == []
    assert "did you mean 'reward'?" in phiscale("trials", tiny_run, "--sort", "rewards").err
    assert "did you mean 'search'?" in phiscale("trials", tiny_run, "--study", "serch").err


def test_trials_fit_80_columns(phiscale, tiny_run):
    lines = phiscale("trials", tiny_run).out.splitlines()
    assert len(lines) == 1 + len(json.loads(phiscale("trials", tiny_run, "--json").out))
    assert max(map(len, lines)) <= 80


def test_runs_lists_what_is_below_a_folder_and_passes_over_what_is_broken(phiscale, copied):
    broken = copied.parent / "broken"
    broken.mkdir()
    (broken / "recipe.yaml").write_text("nonsense: 1\n", "utf-8")
    said = phiscale("runs", copied.parent, "--json")
    (row,) = json.loads(said.out)
    assert (row["name"], row["state"]) == ("demo", "finished")
    assert row["trials"] == len(json.loads(phiscale("trials", copied, "--json").out))
    assert "broken: skipped" in said.err
    assert "finished" in phiscale("runs", copied.parent).out
    assert phiscale("runs", copied.parent / "nowhere").status == 2


def test_a_run_keeps_a_log_of_every_start_and_training(tiny_run):
    lines = (tiny_run / log.FILE).read_text("utf-8").splitlines()
    assert sum("  search 3/3  trial-2:" in line for line in lines) == 1
    assert any("family: 2 of 2 done, best b" in line for line in lines)


def test_the_dashboard_serves_the_runs_studies_to_this_machine_alone(copied):
    pytest.importorskip("optuna_dashboard")
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "dashboard", str(copied), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}api/studies") as answer:
            studies = json.load(answer)["study_summaries"]
        assert {study["study_name"] for study in studies} >= {"search", "family"}
        strange = urllib.request.Request(address, headers={"Host": "evil.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            urllib.request.urlopen(strange)
        refused.value.close()
    finally:
        process.terminate()
        process.communicate()


def test_a_missing_package_is_named_with_the_extra_that_has_it(phiscale, tiny_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    said = phiscale("dashboard", tiny_run)
    assert said.status == 2
    assert "pip install 'phiscale[dashboard]', or in a checkout pip install" in said.err
    assert "'.[dashboard]'" in said.err


def test_rules_of_growth_stand_side_by_side_at_equal_macs(phiscale, copied):
    rules = ("--rule", "compound", "--rule", "width")
    found = json.loads(phiscale("family", copied, *rules, "--quiet", "--json").out)["family"]
    (rival,) = found["rivals"]
    assert rival["name"] == "width b1"
    grown = found["members"][1]["cost"]["macs"]
    assert abs(rival["cost"]["macs"] / grown - 1) < 0.1
    assert "width b1" in phiscale("family", copied, *rules, "--quiet").out


def test_the_page_of_a_run_that_cannot_be_written_to_goes_elsewhere(
    phiscale, copied, tmp_path, monkeypatch
):
    before = sorted(path.name for path in copied.iterdir())
    page = tmp_path / "page"
    monkeypatch.setattr(os, "access", lambda _, mode, **__: mode != os.W_OK)
    refused = phiscale("report", copied)
    assert (refused.status, "with --page DIR" in refused.err) == (2, True)
    written = json.loads(phiscale("report", copied, "--page", page, "--json").out)
    assert written == {"report": str(page / "index.html")}
    assert (page / "index.html").is_file()
    assert sorted(path.name for path in copied.iterdir()) == before


def test_a_recipe_that_was_written_by_hand_is_reported(phiscale, copied, tmp_path):
    file = copied / "recipe.yaml"
    recipe = yaml.safe_load(file.read_text("utf-8"))
    recipe["objective"] |= {"target": f"{recipe['objective']['target'] // 1000}K"}
    file.write_text(yaml.safe_dump(recipe | {"evaluator": "train"}), "utf-8")
    for page in ([], ["--page", tmp_path / "page"]):
        assert phiscale("report", copied, *page).status == 0
    assert phiscale("plot", "search_progress", copied, "--out", tmp_path / "a.svg").status == 0


def test_one_rule_on_the_command_line_leaves_the_recipes_rivals(phiscale, copied, monkeypatch):
    opened = []
    monkeypatch.setattr(running, "run_stages", lambda run, *_, **__: opened.append(run))
    rivals = "--set=family.rivals=[width, mobilenet_v3_small]"
    assert phiscale("family", copied, rivals, "--rule", "compound").status == 0
    assert phiscale("family", copied, "--rule", "compound", "--rule", "depth").status == 0
    assert [run.recipe.family.rivals for run in opened] == [
        ("width", "mobilenet_v3_small"),
        ("depth",),
    ]


def test_targets_say_how_far_off_their_networks_are(phiscale, copied):
    said = phiscale("family", copied, "--quiet", "--set=family.targets=[900K]")
    assert "off target" in said.out
    (member,) = json.loads((copied / "family" / "family.json").read_text("utf-8"))["members"]
    assert f"{100 * member['miss']:+.1f} %" in said.out
