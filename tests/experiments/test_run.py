import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import create_trial

from experiments import config
from experiments.conduct import driving
from experiments.runs.folder import KEPT_LATENCIES, KEPT_PRIOR, KEPT_SPACE, OpenRun
from experiments.runs.opening import largest_resolution, open_run
from search import lease
from search.study import open_study
from space.validation import InvalidInput


def trained(run: OpenRun) -> OpenRun:
    """The run with a training recorded."""
    open_study(run.storage, "search").add_trial(create_trial(value=0.5))
    return run


@pytest.fixture
def started(tmp_path: Path) -> OpenRun:
    return trained(open_run("demo", tmp_path / "run"))


def test_a_run_keeps_its_recipe_whole(started):
    assert config.load(str(started.folder / "recipe.yaml")) == started.recipe


def test_what_is_to_be_typed_next_is_quoted(tmp_path):
    folder = tmp_path / "my 'own' run"
    run = open_run("demo", folder)
    with pytest.raises(InvalidInput) as refused:
        run.read("baseline.json")
    assert shlex.split(str(refused.value).partition(": phiscale ")[2]) == ["search", str(folder)]


def test_a_run_is_opened_again_by_its_folder(started):
    assert open_run(str(started.folder)).recipe == started.recipe


def test_the_default_folder_is_named_after_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_run("demo").folder == tmp_path / "runs" / "demo"


def test_the_manifest_lists_every_start_that_was_not_refused(started):
    with driving(started):
        other = open_run("demo", started.folder)
        with pytest.raises(InvalidInput, match="this run is driven by"), driving(other):
            pass
    with driving(other):
        pass
    manifest = json.loads((started.folder / "manifest.json").read_text("utf-8"))
    assert len(manifest["starts"]) == 2
    assert manifest["starts"][0]["environment"]["torch"]


def test_two_processes_lose_no_fact_of_the_manifest(started):
    code = (
        "import sys; from pathlib import Path; from experiments import config\n"
        "from experiments.runs.folder import RecipeFolder\n"
        "run = RecipeFolder(Path(sys.argv[1]), config.load('demo'))\n"
        "for number in range(60):\n    run.note(**{f'{sys.argv[2]}{number}': number})\n"
    )
    command = [sys.executable, "-c", code, str(started.folder)]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(started.manifest.keys() & {f"{n}{i}" for n in "ab" for i in range(60)}) == 120


@pytest.mark.parametrize("left", [None, b""])
def test_results_whose_storage_was_lost_are_not_trained_over(started, left):
    started.write("baseline.json", {})
    storage = started.folder / "study.db"
    storage.unlink()
    if left is not None:
        storage.write_bytes(left)
    with pytest.raises(
        InvalidInput, match=r"study\.db was removed or emptied, but .* \(baseline\.json\)"
    ):
        open_run(str(started.folder))
    assert not storage.exists() or not storage.read_bytes()


def test_runs_of_one_name_share_a_place_for_checkpoints_but_no_checkpoint(tmp_path):
    shared = f"executor.checkpoints={tmp_path / 'shared'}"
    one, other = (open_run("demo", tmp_path / name, (shared,)) for name in ("one", "other"))
    assert one.recipe.name == other.recipe.name
    assert one.checkpoints.parent == other.checkpoints.parent
    assert one.checkpoints != other.checkpoints
    assert open_run(str(one.folder)).checkpoints == one.checkpoints


def test_more_trials_may_be_asked_of_a_started_run(started):
    again = open_run(str(started.folder), overrides=("search.trials=30",))
    assert again.recipe.search.trials == 30


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("seed=1", "seed"),
        ("resolution=40", "resolution"),
        ("space=mnasnet", "space"),
        ("objective.target=9M", "objective.target"),
        ("train.learning_rate=0.3", "train.learning_rate"),
        ("search.epochs=4", "search.epochs"),
        ("data.held_out=0.3", "data.held_out"),
    ],
)
def test_what_recorded_numbers_depend_on_may_not_change(started, override, key):
    before = (started.folder / "recipe.yaml").read_bytes()
    expected = rf"recipe\.yaml: {re.escape(key)}: must not change after the first training run"
    with pytest.raises(InvalidInput, match=expected):
        open_run(str(started.folder), overrides=(override,))
    assert (started.folder / "recipe.yaml").read_bytes() == before


def test_a_start_that_came_to_nothing_binds_nobody(tmp_path):
    run = open_run("demo", tmp_path / "run", ("data.source=/nowhere", "resolution=40"))
    with lease.held(run.storage):
        pass
    for name in (KEPT_PRIOR, KEPT_LATENCIES):
        (run.folder / name).write_text("{}", "utf-8")
    again = open_run("demo", run.folder, ("seed=1",))
    assert (again.recipe.seed, again.recipe.resolution) == (1, 24)
    assert again.recipe.data.resolution == largest_resolution(again.recipe)
    assert config.load(str(run.folder / "recipe.yaml")) == again.recipe
    assert not {KEPT_PRIOR, KEPT_LATENCIES} & {path.name for path in run.folder.iterdir()}


def test_a_first_start_leaves_files_alone_that_it_has_not_kept(tmp_path):
    for name in (KEPT_SPACE, KEPT_PRIOR, KEPT_LATENCIES):
        (tmp_path / name).write_text("a user's own", "utf-8")
    (space := tmp_path / "mine.yaml").write_text(
        "base: mobilenet_v2\nchoices: {kernel: [3, 5]}\n", "utf-8"
    )
    with pytest.raises(InvalidInput, match=r"mine\.yaml: .*\(a copy is .*space\.yaml\)"):
        open_run("demo", tmp_path, (f"space={space}",))
    open_run("demo", tmp_path)
    for name in (KEPT_SPACE, KEPT_PRIOR, KEPT_LATENCIES):
        assert (tmp_path / name).read_text("utf-8") == "a user's own"


def test_a_storage_that_cannot_be_reached_leaves_no_recipe_behind(tmp_path):
    (tmp_path / "other.db").write_text("no database at all, but something else", "utf-8")
    with pytest.raises(InvalidInput, match=r"other\.db"):
        open_run("demo", tmp_path / "run", (f"storage=sqlite:///{tmp_path}/other.db",))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_created_is_named_with_the_option(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"file/run: cannot be created .*folder with --out"):
        open_run("demo", tmp_path / "file" / "run")


def test_all_keys_that_may_not_change_are_named(started):
    with pytest.raises(InvalidInput) as error:
        open_run(str(started.folder), overrides=("seed=1", "search.epochs=4", "search.trials=9"))
    named = [line.split(": ")[1] for line in str(error.value).splitlines()]
    assert named == ["search.epochs", "seed"]


def test_a_fork_may_change_anything_and_begins_with_what_was_measured(started):
    fork = open_run(str(started.folder), overrides=("seed=1",), fork="other")
    assert fork.folder == started.folder.parent / "other"
    assert (fork.recipe.name, fork.recipe.seed) == ("other", 1)
    assert fork.recipe.search.warm_start == (str(started.folder),)
    assert fork.recipe.search.sampler == "predictor"
    assert config.load(str(started.folder / "recipe.yaml")) == started.recipe
    assert open_run(str(fork.folder)).recipe == fork.recipe


def test_images_are_stored_as_large_as_a_fork_sees_them(started):
    pixels = started.recipe.data.resolution
    larger = (f"resolution={2 * pixels}",)
    fork = open_run(str(started.folder), overrides=larger, fork="larger").recipe
    assert fork.data.resolution == largest_resolution(fork) > 2 * pixels
    given = (*larger, "data.resolution=50")
    assert open_run(str(started.folder), None, given, fork="given").recipe.data.resolution == 50
    smaller = open_run(str(started.folder), overrides=("resolution=8",), fork="smaller").recipe
    assert smaller.data.resolution == pixels


def test_images_are_stored_as_large_as_a_run_without_results_sees_them(tmp_path):
    run = open_run("demo", tmp_path / "run")
    again = open_run(str(run.folder), overrides=("resolution=96",)).recipe
    assert again.data.resolution == largest_resolution(again) > 96


@pytest.mark.parametrize(
    ("name", "message"),
    [("../other", "a run's name must match"), ("run", "already exists; choose another name")],
)
def test_a_fork_needs_a_name_of_its_own(started, name, message):
    with pytest.raises(InvalidInput, match=message):
        open_run(str(started.folder), fork=name)


def test_a_fork_needs_a_run_and_a_database_of_its_own(tmp_path):
    with pytest.raises(InvalidInput, match="contains no run to start from"):
        open_run("demo", tmp_path / "none", fork="other")
    storage = f"storage=sqlite:///{tmp_path}/mine.db"
    started = open_run("demo", tmp_path / "run", (storage,))
    with pytest.raises(InvalidInput, match="needs its own database"):
        open_run(str(started.folder), fork="other")
    open_run(str(started.folder), overrides=(f"storage=sqlite:///{tmp_path}/its.db",), fork="other")


def test_no_password_is_written_down(tmp_path, monkeypatch):
    url = "postgresql://user:hunter2@host/db"
    changes = (f"storage={url}", f"search.warm_start=[{url}, b]", "search.sampler=predictor")
    words = ["run", "demo", *(f"--set={change}" for change in changes)]
    monkeypatch.setattr("sys.argv", ["phiscale", *words])
    monkeypatch.setattr("search.lease.refuse_if_driven", lambda _: None)  # there is no such server
    monkeypatch.setattr("search.study.is_unused", lambda _: False)
    run = open_run("demo", tmp_path / "run", changes)
    assert run.storage == url
    assert run.recipe.search.warm_start == (url, "b")
    shown = "postgresql://user:***@host/db"
    saved = config.load(str(tmp_path / "run" / "recipe.yaml"))
    assert (saved.storage, saved.search.warm_start) == (shown, (shown, "b"))
    texts = [path.read_text("utf-8") for path in (tmp_path / "run").iterdir()]
    assert not any("hunter2" in text for text in texts)
    monkeypatch.setenv("PHISCALE_STORAGE_PASSWORD", "hunter2")
    assert open_run(str(run.folder)).storage == url
    monkeypatch.delenv("PHISCALE_STORAGE_PASSWORD")
    assert open_run(str(run.folder)).storage == "postgresql://user@host/db"


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_result_is_named(started, content):
    (started.folder / "coefficients.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"coefficients\.json: must be a JSON object"):
        started.read("coefficients.json")
    (started.folder / "coefficients.json").unlink()


def test_a_result_that_is_not_there_names_the_stage_that_writes_it(started):
    with pytest.raises(InvalidInput, match=r"baseline\.json not found; .*phiscale search"):
        started.read("baseline.json")


def test_seconds_of_a_stage_add_up_over_starts(started, monkeypatch):
    clock = iter([10.0, 13.0, 20.0, 24.5])
    monkeypatch.setattr("experiments.runs.folder.time.monotonic", lambda: next(clock))
    for _ in range(2):
        with started.timed("search"):
            pass
    manifest = json.loads((started.folder / "manifest.json").read_text("utf-8"))
    assert manifest["seconds"]["search"] == 7.5


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "recipe.yaml").write_text("just: notes\n", "utf-8")
    with pytest.raises(InvalidInput, match=r"recipe\.yaml: just: unknown key"):
        open_run("demo", tmp_path)
    assert (tmp_path / "recipe.yaml").read_text("utf-8") == "just: notes\n"


def test_a_space_of_a_users_own_may_not_change_under_a_run(tmp_path):
    space = tmp_path / "mine.yaml"
    space.write_text("base: mobilenet_v2\nchoices: {kernel: [3, 5]}\n", "utf-8")
    overrides = (f"space={space}",)
    open_run("demo", tmp_path / "run", overrides)
    space.write_text("base: mobilenet_v2\nchoices: {kernel: [3, 5, 7]}\n", "utf-8")
    run = open_run("demo", tmp_path / "run", overrides)  # nothing was trained in the other
    assert (run.folder / "space.yaml").read_text("utf-8") == space.read_text("utf-8")
    open_run(str(trained(run).folder))
    space.write_text("base: mobilenet_v2\nchoices: {kernel: [3, 7]}\n", "utf-8")
    with pytest.raises(
        InvalidInput, match=r"mine\.yaml: this file has changed since .*, and a run keeps its space"
    ):
        open_run(str(run.folder))


def test_paths_of_a_recipe_hold_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    run = open_run("demo", Path("run"), ("data.source=images",))
    assert run.recipe.data.source == str(tmp_path / "images")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("coefficients.alpha=1", "coefficients.beta=1", "coefficients.gamma=1.5"), 24 * 1.5**3),
        (("family.phi=[-1, 0]", "coefficients.tolerance=0.1"), 24 * 2.1**0.5),
    ],
)
def test_images_are_kept_as_fine_as_the_largest_network_can_need(overrides, expected):
    recipe = config.load("demo", overrides)
    assert expected <= largest_resolution(recipe) < expected + 1


def test_stored_images_keep_their_resolution_when_the_family_grows(started):
    before = started.recipe.data.resolution
    again = open_run("demo", started.folder, ("family.phi=[0, 1, 2, 3, 4, 5]",))
    assert again.recipe.data.resolution == before
    assert largest_resolution(again.recipe) > before
