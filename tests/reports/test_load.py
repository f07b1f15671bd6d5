import hashlib
import json
import sqlite3

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from reports import page, trial_tables
from reports.load import load
from search import lease
from search.study import open_study
from space.validation import InvalidInput


def test_a_run_is_read_whole(finished_run):
    run = load(finished_run)
    assert run.name == "synthetic"
    assert {name: len(trials) for name, trials in run.trials.items()} | {"coefficients": 0} == {
        "search": 40,
        "finalists": 5,
        "coefficients": 0,
        "family": 4,
        "rivals": 4,
    }
    assert len(run.study("coefficients")) == len(run.coefficients["candidates"])
    assert run.baseline["key"] in {trial.key for trial in run.study("finalists")}


def test_every_study_is_read_and_says_what_it_is(copied_run):
    url = f"sqlite:///{copied_run / 'study.db'}"
    growth = open_study(url, "growth", stage="family", title="Growth stage by stage")
    growth.add_trial(create_trial(value=0.5))
    growth.add_trial(create_trial(state=TrialState.FAIL))
    run = load(copied_run)
    assert [trial.state for trial in run.study("growth")] == ["complete", "failed"]
    assert (run.stage_of("growth"), run.titles["growth"]) == ("family", "Growth stage by stage")
    assert run.stage_of("rivals") == "family"
    assert {trial.study for trial in run.all_trials} == {*load(copied_run).trials}
    counted = trial_tables.counts(run).set_index("study")
    assert counted.loc["growth", ["complete", "failed"]].tolist() == [1, 1]


def test_who_drives_a_run_is_no_study_of_it(copied_run):
    with lease.held(f"sqlite:///{copied_run / 'study.db'}"):
        assert lease.DRIVERS not in load(copied_run).trials


def test_trials_are_those_of_the_storage(finished_run):
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{finished_run / 'study.db'}")
    for mine, theirs in zip(load(finished_run).study("search"), study.trials, strict=True):
        assert mine.number == theirs.number
        assert mine.choices == theirs.params
        assert mine.value == theirs.value
        assert mine.key == theirs.user_attrs["key"]
        assert mine.measurement == theirs.user_attrs["measurement"]
        assert mine.answered_from == theirs.user_attrs.get("answered_from")


def test_reading_changes_nothing(copied_run):
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in _files(copied_run)}
    load(copied_run)
    assert before == {
        path: hashlib.sha256(path.read_bytes()).digest() for path in _files(copied_run)
    }


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_no_storage_is_made_where_there_is_none(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: young\n")
    run = load(tmp_path)
    assert run.name == "young"
    assert run.trials == {}
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_an_empty_storage_is_a_study_that_has_not_begun(tmp_path):
    (tmp_path / "study.db").touch()
    assert load(tmp_path).trials == {}
    assert (tmp_path / "study.db").stat().st_size == 0


def test_a_password_is_not_repeated(tmp_path):
    with pytest.raises(InvalidInput) as raised:
        load(tmp_path, "nothing://user:secret@host/db")
    assert "secret" not in str(raised.value)


def test_running_trials_are_read_while_the_study_is_written(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    study = optuna.create_study(storage=url, study_name="search", direction="maximize")
    study.ask()
    study.enqueue_trial({})
    assert [trial.state for trial in load(tmp_path).study("search")] == ["running", "waiting"]


def test_another_storage_can_be_given(copied_run, tmp_path):
    moved = copied_run.rename(tmp_path / "moved")
    other = (moved / "study.db").rename(tmp_path / "other.db")
    with pytest.raises(InvalidInput, match=r"study\.db was removed or emptied, but its results"):
        load(moved)
    assert len(load(moved, f"sqlite:///{other}").study("search")) == 40


def test_the_recipe_may_name_the_storage(copied_run, tmp_path):
    other = (copied_run / "study.db").rename(tmp_path / "other.db")
    (copied_run / "recipe.yaml").write_text(
        json.dumps({"name": "x", "storage": f"sqlite:///{other}"})
    )
    assert len(load(copied_run).study("search")) == 40


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("baseline.json", "{", "baseline.json: is not valid JSON"),
        ("baseline.json", "[1]", "baseline.json: must be a mapping, but got list"),
        ("recipe.yaml", "a: [", "recipe.yaml: is not valid YAML"),
        ("recipe.yaml", "- a", "recipe.yaml: must be a mapping, but got list"),
        ("manifest.json", b"\xff\xfe", "manifest.json: is encoded in UTF-16; save it as UTF-8"),
        (
            "study.db",
            "no database",
            "study.db cannot be opened: file is not a data",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, sentence):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput, match=sentence):
        load(tmp_path)
    assert (tmp_path / name).read_bytes() == data


def test_a_missing_key_is_named_with_its_file(copied_run):
    found = json.loads((copied_run / "baseline.json").read_text("utf-8"))
    del found["cost"]["macs"]
    (copied_run / "baseline.json").write_text(json.dumps(found), "utf-8")
    with pytest.raises(
        InvalidInput, match=r"baseline\.json: 'macs' is missing, so the file was ch"
    ):
        page.write(copied_run)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"nowhere: run directory not found"):
        load(tmp_path / "nowhere")


def test_a_trial_without_attributes_is_no_obstacle(tmp_path):
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="search", direction="maximize"
    )
    study.tell(study.ask(), state=TrialState.FAIL)
    (trial,) = load(tmp_path).study("search")
    assert (trial.state, trial.key, trial.measurement) == ("failed", "", {})
