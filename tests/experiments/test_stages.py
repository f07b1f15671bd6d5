"""Stages on small real training runs: every way to choose coefficients and to size a family."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from experiments import config, stages
from experiments.families.export import run_images
from experiments.latency import timing
from experiments.runs.folder import OpenRun
from experiments.runs.opening import open_run
from experiments.stages import family as family_stage
from experiments.stages import rivals as rivals_stage
from experiments.stages.search_inputs import objective_of
from experiments.training.augment import normalise
from reports import tables
from reports.load import load
from reports.schema import rows
from scaling.coefficients import Coefficients
from scaling.family import family_at
from scaling.saved_family import load_family
from search import samplers
from search.candidates import Candidates
from search.study import finished, open_study
from space import choices, presets
from space.architecture import Architecture
from space.cost import cost
from space.device import Precision, device_memory
from space.validation import InvalidInput

TINY = (
    "search.trials=1",
    "search.finalists=1",
    "coefficients.method=grid",
    "coefficients.step=0.5",
    "coefficients.tolerance=0.5",
    "coefficients.epochs=2",
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> OpenRun:
    """A run whose baseline is found."""
    folder = tmp_path_factory.mktemp("stages")
    run = open_run("demo", folder / "run", (*tiny, *TINY, f"data.cache={folder / 'cache'}"))
    stages.run(run, ["search"])
    return run


@pytest.fixture
def briefly(weights_and_code: Any) -> Iterator[None]:
    """The test asks for what a family holds, and not for the formats it is written in."""
    with weights_and_code():
        yield


def again(searched: OpenRun, *overrides: str) -> OpenRun:
    return open_run(str(searched.folder), overrides=overrides)


def test_a_race_answers_with_its_evidence(searched):
    run = again(searched, "coefficients.method=race", "coefficients.seeds=2")
    found = stages.run(run, ["coefficients"])["coefficients"]
    seeds = {training["seed"] for training in found["training_runs"]}
    assert seeds == {0, 1, 2, 3}  # the last two beside the published coefficients
    assert found["accuracy"] is not None
    assert found["guest"] is not None
    trained = len(finished(open_study(run.storage, "coefficients").get_trials()))
    stages.run(run, ["coefficients"])
    assert len(finished(open_study(run.storage, "coefficients").get_trials())) == trained


def test_refinement_is_the_default_and_says_beforehand_what_it_can_show(searched):
    run = again(searched, "coefficients.method=refine", "coefficients.seeds=2")
    found = stages.run(run, ["coefficients"])["coefficients"]
    assert found["design"]["seeds"] == 2
    assert found["design"]["resolves"] > 0.05  # of 100 images and one point of binomial error
    assert found["gaussian_process"] is not None
    assert found["decision"]
    assert "4 finalists with 2 paired seeds show a difference of" in found["design"]["sentence"]


@pytest.mark.parametrize("constraint", ["realised", "equal_cost"])
def test_candidates_may_be_held_to_what_they_really_cost(searched, constraint):
    run = again(searched, f"coefficients.constraint={constraint}", "coefficients.epochs=1")
    found = stages.run(run, ["coefficients"])["coefficients"]
    assert all(abs(row["realised_ratio"] - 2) <= 0.5 for row in found["candidates"])


def test_a_cheaper_grid_says_how_its_answer_carries_over(searched):
    run = again(searched, "coefficients.method=grid", "coefficients.compare_phi=-1")
    found = stages.run(run, ["coefficients"])["coefficients"]
    other = found["comparison"]
    assert other["phi"] == -1
    assert other["shared"] == sum(len(row["names"]) for row in found["candidates"])
    smaller = open_study(run.storage, "coefficients to compare").get_trials()
    assert all(trial.user_attrs["cost"]["macs"] < found["cost"]["macs"] for trial in smaller)
    again(searched, "coefficients.compare_phi=null")


def test_pinned_coefficients_are_taken_without_training(searched):
    pins = ("coefficients.alpha=1.2", "coefficients.beta=1.1", "coefficients.gamma=1.15")
    before = len(open_study(searched.storage, "coefficients").get_trials())
    found = stages.run(again(searched, *pins), ["coefficients"])["coefficients"]
    assert (found["pinned"], found["accuracy"]) == (True, None)
    assert len(open_study(searched.storage, "coefficients").get_trials()) == before


def test_a_family_grows_by_any_rule_to_its_targets_and_loads_again(searched):
    pins = ("coefficients.alpha=1.2", "coefficients.beta=1.1", "coefficients.gamma=1.15")
    run = again(searched, *pins, "family.targets=[700K, 1.2M]", "family.rule=resolution")
    found = stages.run(run, ["coefficients", "family", "report"])
    assert Path(found["report"]).is_file()
    baseline = run.read("baseline.json")["architecture"]
    for member, target in zip(load_family(run.folder / "family"), (700e3, 1.2e6), strict=True):
        assert member.cost.macs == pytest.approx(target, rel=0.15)
        assert [stage.channels for stage in member.architecture.stages] == [
            stage["channels"] for stage in baseline["stages"]
        ]
        member.load()


def test_members_above_the_bounds_of_a_device_are_named_before_they_train():
    baseline = presets.load("mobilenet_v2")
    least = device_memory(baseline, Precision.INT8).sram
    objective = f"objective={{target: 300M, precision: int8, bounds: {{sram: {least}}}}}"
    family = family_at(baseline, Coefficients(1.2, 1.1, 1.15), (0.0, 1.0))
    remarks = [*family_stage._remarks(family, 1_000, config.load("demo", [objective]))]
    grown = device_memory(family.members[1].architecture, Precision.INT8).sram
    assert remarks == [
        f"b1 needs {grown:,} bytes of SRAM, more than the {least:,} that objective.bounds "
        "allow, which hold for the search"
    ]


@pytest.mark.usefixtures("briefly")
def test_a_family_is_sized_by_latency_once(searched, monkeypatch):
    measure = timing.measure

    def clock(network: Architecture, **settings: Any) -> timing.LatencyRow:
        return measure(network, **settings)._replace(median_seconds=2e-9 * cost(network).macs)

    monkeypatch.setattr(timing, "measure", clock)  # a busy machine's own would miss any target
    run = again(searched, "family.cost=latency", "family.targets=[2ms]", "family.rule=compound")
    stages.run(run, ["family"])
    (member,) = load_family(run.folder / "family")
    assert member.record.target == 0.002
    measured = run.read("latencies.json")
    stages.run(again(searched), ["family"])
    assert run.read("latencies.json") == measured
    assert next(iter(load_family(run.folder / "family"))).record.key == member.record.key
    again(searched, "family.cost=macs", "family.targets=[]")


def test_the_cards_of_a_run_say_how_long_a_member_takes_and_measure_that_once(searched):
    run = again(searched, "family.phi=[0]", "family.targets=[]", "family.rule=compound")
    stages.run(run, ["family"])
    family = run.folder / "family"
    measured = (family / "latency.csv").read_text("utf-8")
    assert "| eager | cpu | " in (family / "b0" / "README.md").read_text("utf-8")
    stages.run(run, ["family"])
    assert (family / "latency.csv").read_text("utf-8") == measured


@pytest.mark.usefixtures("briefly")
def test_learned_growth_shares_its_training_runs_and_stands_beside_compound_scaling(searched):
    macs = searched.read("baseline.json")["cost"]["macs"]
    targets = [int(0.6 * macs), int(2 * macs)]
    pins = ("coefficients.alpha=1.1", "coefficients.beta=1.1", "coefficients.gamma=1.1")
    asked = (f"family.targets={targets}", "family.rule=learned", "family.runs=16")
    run = again(searched, *pins, *asked, "coefficients.seeds=2", "coefficients.epochs=1")
    found = stages.run(run, ["coefficients", "family", "report"])["family"]
    trials = finished(open_study(run.storage, "growth").get_trials())
    assert found["growth"]["runs"] == len(trials) <= 16
    assert {trial.user_attrs["budget"]["seed"] for trial in trials} <= {0, 1, 2}
    members = load_family(run.folder / "family")
    for member, grown in zip(members, found["growth"]["targets"], strict=True):
        assert member.record.key == grown[grown["shipped"]]["key"]
        assert -0.05 <= member.cost.macs / grown["target"] - 1 <= 0.01 or (
            grown["shipped"] == "compound"
        )
        assert len(grown["learned"]["width"]) == len(member.architecture.stages)
    page = (run.folder / "report" / "index.html").read_text("utf-8")
    assert f"Learned growth took {len(trials)} training runs" in page
    before = run.read("growth.json")
    stages.run(again(run), ["family"])
    assert run.read("growth.json") == before
    assert len(finished(open_study(run.storage, "growth").get_trials())) == len(trials)
    again(searched, "family.rule=compound", "family.targets=[]")


def test_a_member_is_tested_at_several_resolutions_with_the_same_weights(searched):
    pinned = ("coefficients.alpha=1.1", "coefficients.beta=1.1", "coefficients.gamma=1.1")
    run = again(searched, *pinned, "family.phi=[0]", "family.targets=[]", "family.rule=compound")
    run = again(run, "family.test_resolutions=[1.5]")
    (found,) = stages.run(run, ["coefficients", "family", "report"])["family"]["members"]
    own, larger = found["resolutions"]
    assert (own["resolution"], larger["resolution"]) == (16, 24)
    assert own["chosen"]
    assert own["held_out_accuracy"] is None  # the images were trained on
    assert own["accuracy"] == found["accuracy"]
    member = load_family(run.folder / "family")["b0"]
    test = run_images(run.folder / "family").test
    shapes = torch.from_numpy(test.read(np.arange(len(test)))).permute(0, 3, 1, 2)
    shapes = torch.nn.functional.interpolate(shapes, (24, 24), mode="bilinear", antialias=True)
    with torch.no_grad():
        answers = member.load()(normalise(shapes, run.recipe.data.normalisation)).argmax(1)
    assert (answers.numpy() == test.labels).mean() == pytest.approx(larger["accuracy"])
    page = (run.folder / "report" / "index.html").read_text("utf-8")
    assert "Other resolutions" in page
    assert (run.folder / "report" / "test_resolutions.png").is_file()
    again(searched, "family.test_resolutions=[]")


@pytest.mark.usefixtures("briefly")
def test_lost_weights_are_trained_again_to_the_same_numbers(searched):
    run = again(searched, "family.phi=[0]", "family.targets=[]", "family.rule=compound")
    stages.run(run, ["family"])
    weights = run.folder / "family" / "b0" / "model.safetensors"
    before = weights.read_bytes()
    for file in (run.checkpoints / "weights").iterdir():
        file.unlink()
    stages.run(run, ["family"])
    assert weights.read_bytes() == before


def test_grids_that_cannot_be_compared_are_refused():
    for change in ("phi=0", "compare_phi=1", "{method: race, compare_phi: -1}"):
        key = "coefficients" if change.startswith("{") else "coefficients."
        with pytest.raises(InvalidInput, match=r"phi"):
            config.load("demo", [f"{key}={change}" if change.startswith("{") else key + change])


def test_a_rule_without_phi_needs_targets():
    with pytest.raises(InvalidInput, match=r"'depth' needs `targets`"):
        config.load("demo", ["family.rule=depth"])


@pytest.mark.usefixtures("briefly")
def test_rivals_are_trained_beside_the_family_on_the_same_budget(searched):
    pinned = ("coefficients.alpha=1.1", "coefficients.beta=1.1", "coefficients.gamma=1.1")
    rivals = "family.rivals=[width, mobilenet_v3_small, random, base]"
    run = again(searched, *pinned, "family.phi=[0, 1]", rivals)
    found = stages.run(run, ["coefficients", "family"])["family"]
    trials = {
        trial.user_attrs["job"]: trial.user_attrs
        for trial in finished(open_study(run.storage, "rivals").get_trials())
    }
    members = {member["name"]: member for member in found["members"]}
    everywhere = [
        f"{name} {b}" for name in ("mobilenet_v3_small", "random", "base") for b in members
    ]
    assert set(trials) == {"width b1", *everywhere}
    stages_of = [
        [stage["channels"] for stage in each["stages"]]
        for each in (trials["width b1"]["architecture"], run.read("baseline.json")["architecture"])
    ]
    assert all(wide > own for wide, own in zip(*stages_of, strict=True))
    (member,) = finished(open_study(run.storage, "family").get_trials())[:1]
    for name, trial in trials.items():
        beside = members[name.split()[1]]
        assert trial["cost"]["macs"] == pytest.approx(beside["cost"]["macs"], rel=0.1)
        assert trial["architecture"]["num_classes"] == 3
        own = {"resolution": trial["budget"]["resolution"]}
        assert trial["budget"] == member.user_attrs["budget"] | own
        assert trial["measurement"]["images"] == beside["images"]
        assert {epoch["accuracy"] for epoch in trial["measurement"]["epochs"]} == {None}
    compared = rows(tables.collect(load(run.folder)).rivals)
    assert {row["p_value"] is None for row in compared} == {False}


def test_random_rivals_are_not_what_the_search_drew(searched):
    space = choices.load(searched.recipe.space).adapted(
        num_classes=3, resolution=searched.recipe.resolution
    )
    context = SimpleNamespace(run=searched, recipe=searched.recipe, space=space)
    rivals = {rivals_stage._of_space("random", number, context).key for number in range(3)}
    candidates = Candidates(space, objective_of(searched))
    sampler = samplers.create("random", candidates, searched.recipe.seed)
    drawn = {sampler.propose((), number).candidate.key for number in range(3)}
    assert (len(rivals), rivals & drawn) == (3, set())


@pytest.mark.usefixtures("briefly")
def test_a_patient_family_measures_held_out_images(searched, tiny, tmp_path):
    pinned = ("coefficients.alpha=1.1", "coefficients.beta=1.1", "coefficients.gamma=1.1")
    patient = ("family.phi=[0]", "family.patience=1", "data.return_held_out=false")
    cache = f"data.cache={searched.recipe.data.cache}"
    run = open_run("demo", tmp_path / "run", (*tiny, *TINY, *pinned, *patient, cache))
    stages.run(run, ["search", "coefficients", "family"])
    (trial,) = finished(open_study(run.storage, "family").get_trials())
    measured, images = trial.user_attrs["measurement"], run.read("manifest.json")["data"]["images"]
    assert trial.user_attrs["budget"]["patience"] == 1
    assert measured["images"] == images["test"]
    assert None not in [epoch["accuracy"] for epoch in measured["epochs"]]


@pytest.mark.parametrize("rivals", ["[widht]", "[compound]", "[start]"])
def test_a_rival_is_a_known_rule_or_network_and_not_the_familys_own(rivals):
    with pytest.raises(InvalidInput, match="rivals"):
        config.load("demo", (f"family.rivals={rivals}",))
