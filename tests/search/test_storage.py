import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from search.storage import (
    PASSWORD_VARIABLE,
    absolute,
    end_trial,
    is_missing,
    open_storage,
    reading,
    storage_url,
    without_password,
)
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
    "line", ['{"op_code": 0, "worker_id": "a"}', '{"op_code": 4, "worker_id": "a"}', "{}", "[]"]
)
def test_a_journal_whose_lines_do_not_fit_together_is_refused(tmp_path, line: str) -> None:
    (tmp_path / "study.journal").write_text(f"{line}\n", "utf-8")
    url = f"journal:///{tmp_path / 'study.journal'}"
    with pytest.raises(InvalidInput, match=r"cannot be opened: its lines contradict each other"):
        open_storage(url)
    with (
        pytest.raises(InvalidInput, match=r"cannot be opened: its lines contradict each other"),
        reading(url),
    ):
        pass


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


@pytest.mark.parametrize(
    "url", ["postgresql://phi:p@ss/w0rd@host/db", "mysql://phi:p@ss@host/db", "mysql://a:b@c@d"]
)
def test_nothing_of_a_url_with_several_at_signs_is_shown(url: str, tmp_path: Path) -> None:
    assert without_password(url) == f"{url.partition(':')[0]}://***"
    with pytest.raises(InvalidInput, match=r"has several @; percent-encode") as error:
        storage_url(tmp_path, url)
    assert "ss" not in str(error.value).replace("password", "").replace("PASSWORD", "")
    assert storage_url(tmp_path, "sqlite:////a@b@c.db") == "sqlite:////a@b@c.db"


def written(storage: str) -> list[FrozenTrial]:
    return open_study(storage, "search").get_trials(deepcopy=False)


def kept(trials: list[FrozenTrial], storage: str) -> list[FrozenTrial]:
    """The trials, without their times where it is MySQL, which keeps whole seconds of them."""
    for trial in trials if storage.startswith("mysql") else ():
        trial.datetime_start = trial.datetime_complete = None
    return trials


RUNNING = create_trial(
    state=TrialState.RUNNING,
    params={"kernel": 3, "skip": None},
    distributions={
        "kernel": CategoricalDistribution((3, 5)),
        "skip": CategoricalDistribution((None, "identity")),
    },
    user_attrs={"key": "x", "budget": {"epochs": 2}},
    system_attrs={"note": [1, 2]},
)


def test_trials_are_seen_as_they_are_written(each_storage: str) -> None:
    study = open_study(each_storage, "search")
    storage, draw = study._storage, random.Random(0)
    trials: list[int] = []
    for number in range(60):
        match draw.choice(["begin", "begin", "report", "note", "end", "elsewhere", "requeue"]):
            case "begin":
                trials.append(storage.create_new_trial(study._study_id, RUNNING))
            case "elsewhere":
                open_study(each_storage, "search").enqueue_trial({"kernel": 5})
            case "report" if trials:
                storage.set_trial_intermediate_value(draw.choice(trials), number, 0.5)
            case "note" if trials:
                storage.set_trial_user_attr(draw.choice(trials), "noted", number)
            case "requeue" if trials:
                trial = draw.choice(trials)
                storage.set_trial_state_values(trial, TrialState.WAITING)
                storage.set_trial_param(trial, "se", 1.0, CategoricalDistribution((0, 0.25)))
                storage.set_trial_state_values(trial, TrialState.RUNNING)
            case "end" if trials:
                trial = trials.pop(draw.randrange(len(trials)))
                end_trial(storage, trial, TrialState.COMPLETE, [0.5], {"epochs": (1, number)})
        assert kept(study.get_trials(), each_storage) == kept(written(each_storage), each_storage)
    assert {trial.state for trial in study.trials} >= {TrialState.COMPLETE, TrialState.WAITING}


def test_trials_of_this_process_are_not_read_again(storage: str) -> None:
    study = open_study(storage, "search")
    trials = [study._storage.create_new_trial(study._study_id, RUNNING) for _ in range(5)]
    study._storage.set_trial_intermediate_value(trials[0], 1, 0.5)
    end_trial(study._storage, trials[1], TrialState.COMPLETE, [0.5], {"seconds": 1})
    before = written(storage)
    asked: list[str] = []
    engine = study._storage._backend.engine
    event.listen(engine, "before_cursor_execute", lambda _, __, sql, *___: asked.append(sql))
    assert study.get_trials() == before
    assert asked
    assert [sql for sql in asked if "trial_params" in sql] == []


def test_long_measurements_are_kept(each_storage: str) -> None:
    study = open_study(each_storage, "search")
    long = {"reason": 100_000 * "x"}
    end_trial(study._storage, study.ask()._trial_id, TrialState.FAIL, None, {"measurement": long})
    assert [trial.user_attrs["measurement"] for trial in written(each_storage)] == [long]


def test_journal_survives_a_write_that_a_kill_cut_short(tmp_path: Path) -> None:
    url = f"journal:///{tmp_path}/study.journal"
    open_study(url, "search").add_trial(create_trial(value=0.5))
    with (tmp_path / "study.journal").open("ab") as file:
        file.write(b'{"op_code": 4, "study')
    with reading(url) as storage:  # which repairs nothing, and sees what is whole
        assert storage is not None
        assert storage.get_n_trials(0) == 1
    open_study(url, "search").add_trial(create_trial(value=0.6))
    assert [trial.value for trial in open_study(url, "search").trials] == [0.5, 0.6]


def test_reading_creates_nothing(tmp_path: Path) -> None:
    for kind in ("sqlite", "journal"):
        with reading(f"{kind}:///{tmp_path}/study.{kind}") as storage:
            assert storage is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [None, "journal"])
@pytest.mark.parametrize("name", ["what?x=1", "a#b", "100%25", "%41", "{0}", "ä ö:@"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str, given: str | None) -> None:
    folder = tmp_path / name
    folder.mkdir()
    url = storage_url(folder, given)
    study = open_study(url, "search")
    study.add_trial(create_trial(value=0.5))
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert absolute(url) == url
    assert not is_missing(url)
    with reading(url) as opened:
        assert opened is not None
        assert opened.get_n_trials(study._study_id) == 1


def test_a_question_mark_in_a_given_url_is_no_other_files_name(tmp_path: Path) -> None:
    (tmp_path / "what").touch()
    (tmp_path / "what").write_bytes(b"something")
    for opens in (open_storage, lambda url: reading(url).__enter__()):
        with pytest.raises(InvalidInput, match=r"it has a query \(x\), .* write %3F"):
            opens(f"sqlite:///{tmp_path}/what?x=1/study.db")


def test_what_nobody_may_write_to_is_read_whole_and_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "written").mkdir()
    study = open_study(storage_url(tmp_path / "written", None), "search")
    study.add_trial(create_trial(value=0.5))
    for name, files in {"whole": "study.db", "write-ahead": "study.db*"}.items():
        (place := tmp_path / name).mkdir()
        if name == "whole":
            with sqlite3.connect(tmp_path / "written" / "study.db") as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            study.add_trial(create_trial(value=0.6))  # is in the log of what is not written yet
        for file in (tmp_path / "written").glob(files):
            shutil.copy(file, place)
        before = {file.name: file.read_bytes() for file in place.iterdir()}
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda _, mode, **__: mode != os.W_OK)
            with reading(storage_url(place, None)) as opened:
                assert opened is not None
                assert opened.get_n_trials(study._study_id) == (1 if name == "whole" else 2)
        assert {file.name: file.read_bytes() for file in place.iterdir()} == before


def test_what_has_not_begun_is_read_as_nothing_on_a_server_too(each_storage: str) -> None:
    for _ in range(2):  # so that reading begins nothing, either
        with reading(each_storage) as storage:
            assert storage is None
    open_study(each_storage, "search")
    with reading(each_storage) as storage:
        assert storage is not None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "sqlite:////runs/mine/study.db"),
        ("journal", "journal:////runs/mine/study.journal"),
        ("sqlite:///mine.db", "sqlite:///mine.db"),
        ("mysql://me@host/runs", "mysql://me@host/runs"),
        ("mysql://me:secret@host/runs", "mysql://me:secret@host/runs"),
        ("mysql://me:***@host/runs", "mysql://me:from-outside@host/runs"),
    ],
)
def test_storage_of_a_run_is_named_in_words_or_by_url(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "from-outside")
    assert storage_url(Path("/runs/mine"), given) == expected


def test_password_in_the_query_is_neither_taken_nor_shown() -> None:
    url = "postgresql://me@host/runs?password=hunter2"
    with pytest.raises(InvalidInput, match="password is in the query") as error:
        open_study(url, "search")
    assert "hunter2" not in str(error.value)
