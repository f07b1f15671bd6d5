"""Studies on small real training runs: they end, continue, and refuse to mix numbers."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from experiments import conduct, stages
from experiments.config import load_as, study_names
from experiments.runs.opening import open_run
from experiments.studies import scaling_study as studies
from experiments.studies import transfer
from experiments.studies.recipes import StudyRecipe
from reports import scaling_study
from search import lease
from search.study import DRIVERS, open_study
from space.cost import cost
from space.validation import InvalidInput

TINY = (
    "epochs=1",
    "seeds=1",
    "factors=[2]",
    "rules=[width, compound]",
    "data.glyphs.train_images=64",
    "data.glyphs.test_images=20",
)


def tiny(folder: Path, *changes: str) -> studies.OpenStudy:
    cache = f"data.cache={folder / 'cache'}"
    return studies.open_study_run("study-dimensions", folder / "study", (*TINY, cache, *changes))


@pytest.mark.parametrize("name", study_names())
def test_shipped_studies_are_small_enough_and_compare_equal_costs(name):
    recipe = load_as(StudyRecipe, name)
    assert recipe.description
    for point in recipe.points(10):
        assert abs(point.miss) < 0.12, point.name
        assert name.endswith("gpu") or cost(point.architecture).macs < 40e6


def test_a_study_goes_on_with_more_seeds_and_trains_nothing_twice(tmp_path):
    first = studies.run(tiny(tmp_path))
    more = tiny(tmp_path, "seeds=2")
    second = studies.run(more)
    trained = open_study(more.storage, "study").get_trials()
    assert len(trained) == 2 * len(first["points"])
    scaling_study.write(more.folder)
    assert (more.folder / "report" / "activation_maps.png").is_file()
    with np.load(more.folder / "predictions" / "activation_maps.npz") as maps:
        assert set(maps) == {"index", "baseline", "width", "compound"}
    for before, after in zip(first["points"], second["points"], strict=True):
        assert after["training_runs"][0] == before["training_runs"][0]
        assert after["training_runs"][1]["seed"] == 1


def test_a_study_that_is_stopped_at_once_keeps_what_is_recorded(tmp_path, monkeypatch):
    first = studies.run(tiny(tmp_path))

    class Stopped:
        def run(self, *_: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(conduct, "executor_of", lambda *_: Stopped())
    more = tiny(tmp_path, "seeds=2")
    with pytest.raises(KeyboardInterrupt):
        studies.run(more)
    left = json.loads((more.folder / "study.json").read_text("utf-8"))
    for before, after in zip(first["points"], left["points"], strict=True):
        recorded, missing = after["training_runs"]
        assert [recorded] == before["training_runs"]
        assert missing == {"seed": 1, "accuracy": None, "seconds": None}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> studies.OpenStudy:
    """A study that is logged, packed, and keeps its checkpoints outside its folder."""
    pytest.importorskip("tensorboard")
    folder = tmp_path_factory.mktemp("elsewhere")
    settings = f"executor={{pack: 2, threads: 1, checkpoints: {folder / 'store'}}}"
    opened = tiny(folder, "rules=[width]", "best=width", "logging={tensorboard: true}", settings)
    studies.run(opened)
    return opened


def test_a_study_is_logged_where_its_recipe_says(elsewhere):
    trained = {
        trial.user_attrs["job"] for trial in open_study(elsewhere.storage, "study").get_trials()
    }
    logged = {path.parent for path in (elsewhere.folder / "tensorboard" / "study").rglob("events*")}
    assert len(logged) == len(trained) > 0


def test_a_study_keeps_checkpoints_and_weights_where_its_recipe_says(elsewhere):
    identity = elsewhere.manifest["identity"]
    store = elsewhere.folder.parent / "store" / f"study-dimensions-{identity}"
    trained = open_study(elsewhere.storage, "study").get_trials()
    assert len(list((store / "weights").iterdir())) == len(trained)
    assert not (elsewhere.folder / "checkpoints").exists()
    assert (elsewhere.folder / "predictions").is_dir()  # which the weights are read for


def test_packed_networks_of_a_study_know_that_they_are_not_alone(elsewhere):
    measured = [
        trial.user_attrs["measurement"]
        for trial in open_study(elsewhere.storage, "study").get_trials()
    ]
    assert all(each["status"] == "complete" for each in measured)
    assert {each["peak_memory"] for each in measured} == {None}


def test_a_study_that_has_started_keeps_what_its_numbers_mean(tmp_path):
    tiny(tmp_path, "epochs=3")  # nothing is trained, so this binds nobody
    opened = tiny(tmp_path)
    open_study(opened.storage, "study").add_trial(create_trial(value=0.5))
    with pytest.raises(
        InvalidInput, match=r"epochs: must not change .* it was 1, but the recipe now has 2"
    ):
        tiny(tmp_path, "epochs=2")


def test_a_study_driven_elsewhere_is_left_alone_until_it_is_taken_over(tmp_path, monkeypatch):
    opened = tiny(tmp_path)
    elsewhere = replace(lease.Driver.this(), host="elsewhere", machine="another")
    record = asdict(elsewhere) | {"renewed": datetime.now(UTC).isoformat()}
    drivers = open_study(opened.storage, DRIVERS)
    drivers.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=record))
    with pytest.raises(InvalidInput, match=r"on elsewhere, .* take over with --take-over"):
        studies.run(opened)
    assert not (opened.folder / "study.json").exists()
    with pytest.raises(InvalidInput, match="on elsewhere"):
        tiny(tmp_path, "seeds=2")

    monkeypatch.setattr(lease, "RENEWAL", 0.1)
    studies.run(opened, take_over=True)
    assert (opened.folder / "study.json").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("targets=[2M]", r"either `factors` or `targets`"),
        ("best=fast", r"`best` must be one of width, compound"),
        ("baselines=[]", r"baselines"),
        (
            "baselines=[{name: a, network: resnet18, published: mnasnet_a1}]",
            r"`published` of a must name a network whose scaling was published",
        ),
    ],
)
def test_designs_that_cannot_be_compared_are_refused(tmp_path, change, message):
    with pytest.raises(InvalidInput, match=message):
        tiny(tmp_path, change)


def test_a_family_is_carried_to_other_images(weights_and_code, tmp_path):
    cache = f"data.cache={tmp_path / 'cache'}"
    sizes = ("data.glyphs.classes=3", "data.glyphs.train_images=90", "data.glyphs.test_images=30")
    run = open_run(
        "demo",
        tmp_path / "run",
        (
            *sizes,
            cache,
            "resolution=16",
            "objective={target: 400K, bounds: {macs: [100K, 900K]}, metric: balanced}",
            "search={trials: 1, epochs: 1, finalists: 1, final_epochs: 1}",
            "coefficients={alpha: 1.2, beta: 1.1, gamma: 1.15}",
            "family={phi: [0, 1], epochs: 1}",
        ),
    )
    with weights_and_code():
        stages.run(run, ["search", "coefficients", "family"])
    others = ("data.glyphs.classes=4", "data.glyphs.train_images=40", "data.glyphs.test_images=21")
    opened = transfer.open_transfer(
        run.folder, "glyphs", overrides=(*others, cache, "seeds=2", "search_trials=2")
    )
    found = transfer.run(opened)
    assert [member["name"] for member in found["members"]] == ["b0", "b1"]
    for member in found["members"]:
        assert {len(values) for values in member["accuracies"].values()} == {2}
    folder = run.folder / "transfer" / "glyphs"
    tuned = open_study(f"sqlite:///{folder / 'study.db'}", transfer.FINE_TUNED).get_trials()
    scratch = open_study(f"sqlite:///{folder / 'study.db'}", transfer.SCRATCH).get_trials()
    assert len(tuned) == len(scratch) == 4
    for member in found["members"]:
        assert list(member["accuracies"]) == ["fine-tuned", "from scratch", "searched"]
        assert member["macs"] // 2 <= member["searched"]["macs"] <= member["macs"]
        search = open_study(f"sqlite:///{folder / 'study.db'}", f"search around {member['name']}")
        starts = {trial.user_attrs["budget"]["start"] for trial in search.get_trials()}
        assert len(search.get_trials()) == 2
        assert None not in starts
    losses = [trial.user_attrs["measurement"]["epochs"][0]["train_loss"] for trial in tuned]
    fresh = [trial.user_attrs["measurement"]["epochs"][0]["train_loss"] for trial in scratch]
    assert losses != fresh
    for values in (value for each in found["members"] for value in each["accuracies"].values()):
        for accuracy in values:  # of classes of 6, 5, 5 and 5 images, the mean over classes
            assert accuracy * 4 * 30 == pytest.approx(round(accuracy * 4 * 30))
            assert accuracy in (0, 1) or accuracy * 21 != pytest.approx(round(accuracy * 21))
    with pytest.raises(InvalidInput, match=r"must be the folder of a run with a family"):
        transfer.open_transfer(tmp_path, "glyphs")
