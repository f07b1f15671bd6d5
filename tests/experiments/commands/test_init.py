"""`phiscale init` looks, tells what it saw, and writes a recipe that runs."""

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from experiments import config
from experiments.data.survey import Sides, Survey
from experiments.planning import draft, spaces, time_limit
from experiments.planning.estimate import Range
from search.objective import Bounds
from space import choices, presets
from space.architecture import Architecture
from space.device import Precision, device_memory
from space.network import build
from space.validation import InvalidInput
from space.weights import to_bytes

#: What makes any recipe small enough for a test.
REDUCED = (
    *("search.trials=2", "search.epochs=1", "search.finalists=1", "search.final_epochs=1"),
    *("search.data_fraction=1", "coefficients.data_fraction=1", "coefficients.epochs=1"),
    *("coefficients.step=0.5", "coefficients.tolerance=0.5", "family.epochs=1"),
    *("executor.kind=local", "executor.threads=1"),
)


def picture(label: int, seed: int, side: int = 20, grey: bool = False) -> Image.Image:
    """A square whose brightness says its class."""
    draw = np.random.default_rng(seed)
    shape = (side, side) if grey else (side, side, 3)
    return Image.fromarray(draw.integers(40 * label, 40 * label + 60, shape, dtype=np.uint8))


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def tree(folder: Path, counts: dict[str, int], **kind: object) -> Path:
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            picture(label, 1000 * label + index, **kind).save(folder / name / f"{index}.png")
    return folder


COUNTS = {"cat": 30, "dog": 30, "owl": 30}


@pytest.fixture
def sources(tmp_path) -> dict[str, Path]:
    """The same images as a tree, as Parquet and as .npz."""
    folder = tree(tmp_path / "pets", COUNTS)
    images = [encoded(picture(label, 1000 * label + i)) for label in range(3) for i in range(30)]
    labels = np.repeat(np.arange(3), 30)
    table = pa.table({"image": pa.array([{"bytes": i} for i in images]), "label": labels})
    pq.write_table(table, tmp_path / "pets.parquet")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images])
    np.savez(tmp_path / "pets.npz", images=pixels, labels=labels)
    return {"folder": folder, "parquet": tmp_path / "pets.parquet", "npz": tmp_path / "pets.npz"}


@pytest.mark.parametrize("format_", ["folder", "parquet", "npz"])
def test_what_it_writes_runs(format_, sources, phiscale, tmp_path):
    recipe = tmp_path / "out" / "pets.yaml"
    said = phiscale("init", sources[format_], "--budget=800K", "--device=cpu", "--out", recipe)
    assert said.status == 0, said.err
    loaded = config.load(str(recipe))
    assert loaded.objective.bounds.macs == (400_000, 800_000)
    assert loaded.family.targets == (800_000, 1_600_000, 3_200_000)
    assert loaded.name == "pets"
    if format_ == "folder":
        changes = [f"--set={change}" for change in (*REDUCED, f"data.cache={tmp_path / 'cache'}")]
        ran = phiscale("run", recipe, "--out", tmp_path / "run", "--json", "--quiet", *changes)
        assert ran.status == 0, ran.err
        found = json.loads(ran.out)
        assert 400_000 <= found["search"]["cost"]["macs"] <= 800_000
        for member, target in zip(found["family"]["members"], loaded.family.targets, strict=True):
            # Networks this small grow in coarse steps of blocks and channels.
            assert member["cost"]["macs"] == pytest.approx(target, rel=0.15)


def test_a_recipe_around_a_published_network_runs(sources, phiscale, weights_and_code, tmp_path):
    network = presets.load("mnasnet_small")
    folder = tmp_path / "cats: 1 # dogs"  # which YAML takes for something else without quotes
    weights, recipe = tmp_path / "small.safetensors", folder / "pets.yaml"
    weights.write_bytes(to_bytes(build(network).state_dict()))
    start = ("--start", weights, "--architecture", "mnasnet_small")
    said = phiscale("init", sources["folder"], "--budget=600K", "--out", recipe, *start)
    assert said.status == 0, said.err
    loaded = config.load(str(recipe))
    assert loaded.start.weights == str(weights)
    assert loaded.start.architecture == "mnasnet_small"
    assert (loaded.train.optimizer, loaded.family.grow) == ("adamw", False)
    assert choices.load(loaded.space).base == network
    changes = [f"--set={change}" for change in (*REDUCED, f"data.cache={tmp_path / 'cache'}")]
    with weights_and_code():
        ran = phiscale("run", recipe, "--out", tmp_path / "run", "--json", "--quiet", *changes)
    assert ran.status == 0, ran.err
    family = json.loads(ran.out)["family"]
    assert family["origin"]["start"]["source"] == "mnasnet_small"
    for member, rival in zip(family["members"], family["rivals"], strict=True):
        assert rival["name"] == f"start {member['name']}"
        # So few MACs are met only as far as whole multiples of eight channels allow.
        assert rival["cost"]["macs"] == pytest.approx(member["cost"]["macs"], rel=0.2)
    again = phiscale("init", sources["folder"], "--out", recipe, *start)
    assert (again.status, "already exists" in again.err) == (2, True)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def test_a_recipe_for_a_device_runs_within_its_memory_in_int8(sources, phiscale, tmp_path):
    recipe, run = tmp_path / "pets.yaml", tmp_path / "run"
    limits = ("--sram", "40K", "--flash", "200K")
    said = phiscale("init", sources["folder"], *limits, "--device=cpu", "--out", recipe)
    assert said.status == 0, said.err
    assert "up to 40K SRAM, 200K flash" in said.out
    loaded = config.load(str(recipe))
    assert (loaded.space, loaded.resolution) == ("efficientnet_lite_small", 20)
    assert (loaded.objective.exponent_below, loaded.objective.exponent_above) == (0, 0)
    changes = [f"--set={change}" for change in (*REDUCED, f"data.cache={tmp_path / 'cache'}")]
    ran = phiscale("run", recipe, "--out", run, "--json", "--quiet", *changes)
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    trials = table(run / "report" / "trials.csv")
    assert {row["study"] for row in trials} == {"search", "finalists", "family"}
    for row in trials:
        assert int(row["sram"]) <= 40_000 - loaded.objective.overhead.sram
        assert int(row["flash"]) <= 200_000 - loaded.objective.overhead.flash
        assert bool(row["float32_accuracy"]) == (row["study"] == "finalists")
    b0 = Architecture.from_dict(
        json.loads((run / "family/b0/architecture.json").read_text("utf-8"))
    )
    assert [device_memory(b0, Precision.INT8).sram] == [
        int(row["sram"]) for row in trials if row["job"] == "b0"
    ]
    for member, row in zip(
        found["family"]["members"],
        table(run / "report" / "family.csv"),
        strict=True,
    ):
        assert "model.int8.onnx" in member["files"]
        assert float(row["int8_accuracy"]) == member["int8"]["onnx"]["accuracy"]
        assert float(row["float32_accuracy"]) == member["int8"]["onnx"]["full_accuracy"]
    page = (run / "report" / "index.html").read_text("utf-8")
    assert all(f"<th>{header}</th>" in page for header in ("SRAM", "Flash", "In 8 bits"))


def test_a_device_that_no_network_fits_is_refused(sources, phiscale, tmp_path):
    recipe = tmp_path / "pets.yaml"
    said = phiscale("init", sources["folder"], "--sram=1K", "--device=cpu", "--out", recipe)
    assert (said.status, recipe.exists()) == (2, False)
    assert (
        "--sram, --flash: no network of the space efficientnet_lite_small has at most 1,000 bytes"
        in said.err
    )


def test_a_refusal_for_a_device_says_what_the_runtime_takes(sources, phiscale, tmp_path):
    command = ("init", sources["folder"], "--flash=40K", "--device=cpu")
    said = phiscale(*command, "--out", tmp_path / "pets.yaml")
    assert said.status == 2
    assert "has at most 40,000 bytes of flash at 16 pixels, of which LiteRT for" in said.err


def test_a_device_with_room_for_the_smallest_network_and_its_runtime_is_enough():
    survey = SimpleNamespace(sides=Sides(16, 16, 16), classes=("a", "b", "c"), grey=False)
    network, overhead = spaces.fitting(survey, Bounds(flash=59_300), None)
    # 30,050 bytes, and 29,220 that the runtime takes; larger networks do not fit.
    assert (network.low, overhead.flash) == (network.macs, 29_220)
    with pytest.raises(InvalidInput, match=r"takes 29,220 bytes of flash; the nearest .* 30,050"):
        spaces.fitting(survey, Bounds(flash=59_000), None)


def test_what_it_refuses_leaves_no_file(sources, phiscale, tmp_path):
    weights = tmp_path / "small.safetensors"
    weights.write_bytes(to_bytes(build(presets.load("mnasnet_small")).state_dict()))
    recipe, start = tmp_path / "out" / "pets.yaml", ("--start", weights)
    said = phiscale("init", sources["folder"], "--budget=1", "--out", recipe, *start)
    assert said.status == 2
    assert "--budget 1: the space around mnasnet_small has no network" in said.err
    assert not list(tmp_path.glob("out/*"))
    said = phiscale("init", sources["folder"], "--out", recipe, "--architecture", "mnasnet_small")
    assert (said.status, "--architecture: names the network of --start" in said.err) == (2, True)


def test_it_says_what_it_saw(sources, phiscale, tmp_path):
    recipe = tmp_path / "pets.yaml"
    found = json.loads(
        phiscale("init", sources["folder"], "--budget=800K", "--out", recipe, "--json").out
    )
    assert found["classes"] == ["cat", "dog", "owl"]
    assert found["per_class"] == [30, 30, 30]
    assert found["sides"] == {"smallest": 20, "median": 20, "largest": 20}
    assert found["modes"] == {"RGB": 90}
    assert not found["grey"]
    assert (found["broken"], found["decoded"]) == ([], 90)


def test_grey_images_broken_ones_and_unequal_classes_change_the_recipe(phiscale, tmp_path):
    folder = tree(tmp_path / "scans", {"ok": 60, "torn": 6}, grey=True)
    for number in range(3):
        (folder / "ok" / f"broken{number}.png").write_bytes(b"no image")
    said = phiscale("init", folder, "--budget=800K", "--out", tmp_path / "scans.yaml")
    assert said.status == 0
    recipe = config.load(str(tmp_path / "scans.yaml"))
    assert recipe.data.channels == 1
    assert recipe.objective.metric == "balanced"
    assert recipe.data.max_bad == pytest.approx(0.05)
    told = " ".join(said.err.split())
    assert "3 of 69 images cannot be used: 'ok/broken0.png': it is not an image" in told
    assert "heavily imbalanced" in told


# ------------------------------------------------------------------------- what is understood


def test_it_prints_the_splits_and_classes_that_it_understood(phiscale, tmp_path):
    folder = tree(tmp_path / "pets", {"train_set/cat": 30, "train_set/dog": 8, "test_set/cat": 6})
    picture(1, 0).save(tree(folder / "test_set", {"dog": 0}) / "dog" / "0.png")
    said = phiscale("init", folder, "--budget=800K", "--out", tmp_path / "x.yaml")
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    cat, dog = lines[1], lines[2]
    assert lines[0] == "train: 38 images"
    assert cat.startswith("  cat: 30 (train_set/cat/0.png, train_set/cat/1.png, ")
    assert cat.endswith(", …)")
    assert cat.count(".png") == 5
    assert dog.startswith("  dog: 8 (")
    assert lines[3:6] == [
        "test: 7 images",
        "  cat: 6 (" + ", ".join(f"test_set/cat/{n}.png" for n in range(5)) + ", …)",
        "  dog: 1 (test_set/dog/0.png)",
    ]


def test_images_in_two_splits_are_pointed_out(phiscale, tmp_path):
    folder = tree(tmp_path / "pets", {"train/cat": 20, "train/dog": 20, "test/cat": 3})
    (folder / "test/dog").mkdir()
    for number in range(2):
        picture(1, 1000 + number).save(folder / "test/dog" / f"copy{number}.png")
    said = phiscale("init", folder, "--budget=800K", "--out", tmp_path / "x.yaml")
    assert "2 images are in two splits (same content)" in " ".join(said.err.split())


def test_splits_may_be_named_on_the_command_line_and_stay_in_the_recipe(phiscale, tmp_path):
    folder = tree(tmp_path / "pets", {f"{part}/{name}": 20 for part in "xy" for name in ("a", "b")})
    out = tmp_path / "x.yaml"
    said = phiscale("init", folder, "--budget=800K", "--out", out)
    assert said.status == 2
    assert "--set 'data.splits={train: NAME, test: NAME}'" in " ".join(said.err.split())
    change = "data.splits={train: x, test: y}"
    said = phiscale("init", folder, "--budget=800K", "--out", out, "--set", change)
    assert said.status == 0, said.err
    assert config.load(str(out)).data.splits == {"train": ("x",), "test": ("y",)}
    said = phiscale("init", folder, "--out", out, "--force", "--set", "search.trials=3")
    assert (said.status, "takes keys of `data` only" in " ".join(said.err.split())) == (2, True)


def test_the_recipe_counts_the_images_that_are_left_to_train_on(phiscale, tmp_path):
    folder = tree(tmp_path / "pets", {"cat": 50, "dog": 50})
    out = tmp_path / "x.yaml"
    assert phiscale("init", folder, "--budget=800K", "--out", out).status == 0
    assert "# 81 training images in each epoch" in out.read_text("utf-8")


def low_range(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    for seed in range(20):
        values = np.random.default_rng(seed).integers(0, 4096, (20, 20), dtype=np.uint16)
        Image.fromarray(values).save(folder / name / f"{seed}.png")


def test_images_of_sixteen_bits_that_use_twelve_are_said(phiscale, tmp_path):
    for name in ("benign", "malignant"):
        low_range(tmp_path / "scans", name)
    said = phiscale("init", tmp_path / "scans", "--budget=800K", "--out", tmp_path / "x.yaml")
    assert "Images of 16 bits use 12 of them: 4,095 is white." in " ".join(said.err.split())


# ------------------------------------------------------------------- refused as a run would


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "ok").rename(folder / "x"), None),
        (
            lambda folder: [(folder / f"ok/{n}.png").write_bytes(b"") for n in range(4)],
            "4 of 60 images cannot be used, which is more than data.max_bad (5.00%)",
        ),
        (
            lambda folder: [
                Image.new("L", (7200, 7200)).save(folder / f"ok/{n}.png") for n in range(4)
            ],
            "its 7200 × 7200 = 51,840,000 pixels are more than data.max_pixels (50,000,000)",
        ),
        (
            lambda folder: picture(0, 0).save(tree(folder, {"rare": 0}) / "rare/0.png"),
            "every class needs at least 3 usable training images",
        ),
    ],
)
def test_what_a_run_would_refuse_is_refused(phiscale, tmp_path, spoil, message):
    folder = tree(tmp_path / "scans", {"ok": 30, "torn": 30})
    spoil(folder)
    said = phiscale("init", folder, "--budget=800K", "--out", tmp_path / "x.yaml")
    assert said.status == (2 if message else 0)
    assert (message or "") in " ".join(said.err.split())
    assert (tmp_path / "x.yaml").exists() == (message is None)


def test_an_existing_file_is_only_overwritten_by_force(sources, phiscale, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("mine", "utf-8")
    said = phiscale("init", sources["folder"], "--out", recipe)
    assert said.status == 2
    assert "already exists" in said.err
    assert "--force" in said.err
    assert recipe.read_text("utf-8") == "mine"
    assert phiscale("init", sources["folder"], "--out", recipe, "--force").status == 0
    assert config.load(str(recipe)).space in choices.names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sram", "much"), "--sram much: must be a number of bytes, such as 256K or 1M"),
        (("--budget", "much"), "--budget much: must be a number of multiply–adds, such as 300M"),
        (("--budget", "300"), "no shipped space has a network of 150 to 300 MACs"),
        (("--out", "recipe.txt"), "a recipe's name must end in .yaml"),
        (("--device", "tpu"), "'auto', 'cpu', 'cuda'"),
    ],
)
def test_wrong_use_is_a_sentence(arguments, message, sources, phiscale, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = phiscale("init", sources["folder"], *arguments)
    assert said.status == 2
    assert message in " ".join(said.err.replace("│", " ").split())
    assert not list(tmp_path.glob("*.yaml"))


def test_a_folder_without_images_says_what_is_needed(tmp_path, phiscale):
    (tmp_path / "empty" / "a").mkdir(parents=True)
    said = phiscale("init", tmp_path / "empty", "--out", tmp_path / "x.yaml")
    assert said.status == 2
    assert "one folder per class with images in it is needed" in said.err


def test_on_a_terminal_it_asks(sources, phiscale, tmp_path, monkeypatch):
    from experiments.commands import init

    answers = iter(["cpu", "lots", "700K"])
    monkeypatch.setattr(init, "_asks", lambda: True)
    monkeypatch.setattr(init.Prompt, "ask", lambda *_, **__: next(answers))
    said = phiscale("init", sources["folder"], "--out", tmp_path / "asked.yaml")
    assert said.status == 0
    assert "--budget lots: must be a number" in said.err
    assert config.load(str(tmp_path / "asked.yaml")).objective.target == 700_000


def seen(side: int, images: int = 10_000, classes: int = 10) -> Survey:
    path = '/data/with "quotes" and: colons'
    per_class = (images // classes,) * classes
    return Survey(
        config=config.DataConfig(source=path),
        path=path,
        format="folder",
        classes=tuple(f"class {i}" for i in range(classes)),
        images={"train": images, "validation": 0, "test": 0},
        tree={},
        trained=images,
        per_class=per_class,
        sides=Sides(side, side, side),
        modes={"RGB": images},
        grey=False,
        white=65_535,
        looked_at=images,
        decoded=images,
        broken=(),
        twice=0,
        notes=(),
    )


@pytest.mark.parametrize("side", [12, 32, 50, 96, 500])
@pytest.mark.parametrize("gpu", [False, True])
def test_the_budget_suggested_is_within_reach_at_every_size(side, gpu):
    survey = seen(side)
    budget = draft.suggested_budget(survey, gpu=gpu)
    made = draft.draft(survey, budget, gpu=gpu, device="auto", name="x")
    assert made.network.resolution <= max(side, 16)


@pytest.mark.parametrize(
    ("side", "budget", "space", "resolution"),
    [
        (500, 300_000_000, "efficientnet", 224),
        (500, 20_000_000, "mnasnet_small", 64),
        (32, 6_000_000, "mnasnet_small", 32),
        (32, 100_000_000, "efficientnet_small", 32),
    ],
)
def test_space_and_resolution_follow_from_images_and_budget(side, budget, space, resolution):
    made = draft.draft(seen(side), budget, gpu=True, device="cuda", name="x")
    assert (made.network.space, made.network.resolution) == (space, resolution)


@pytest.mark.parametrize("budget", [2_000_000, 8_000_000])
def test_the_grid_has_at_least_nine_candidates_and_the_recipe_says_how_many(budget):
    made = draft.draft(seen(100), budget, gpu=False, device="cpu", name="x")
    assert made.candidates >= 9
    assert f"# {made.candidates} candidates or more" in made.text


def test_strange_paths_and_names_stay_text(tmp_path):
    made = draft.draft(seen(32), 6_000_000, gpu=False, device="cpu", name="null")
    (tmp_path / "x.yaml").write_text(made.text, "utf-8")
    recipe = config.load(str(tmp_path / "x.yaml"))
    assert recipe.data.source == '/data/with "quotes" and: colons'
    assert recipe.name == "null"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("My birds & cats", "My-birds-cats"),
        ("pets.v2", "pets.v2"),
        ("x.npz", "x"),
        ("日本", "images"),
    ],
)
def test_a_run_is_named_after_the_images(path, name):
    assert draft.run_name(Path("/data") / path) == name


def test_a_budget_out_of_reach_names_the_reach():
    with pytest.raises(InvalidInput, match=r"choose a budget between about 1\.\dM and \d+M"):
        draft.draft(seen(32), 10_000_000_000, gpu=True, device="cuda", name="x")


class ClosedForm:
    """An `Estimator` by whose measurement time is in proportion to MACs and epochs."""

    def __init__(self, recipe: config.Recipe, _: object) -> None:
        self.recipe = recipe

    def estimate(self, recipe: config.Recipe | None = None) -> SimpleNamespace:
        recipe = recipe or self.recipe
        search, macs = recipe.search, recipe.objective.target
        work = macs * (search.trials * search.epochs + search.finalists * search.final_epochs)
        work += sum(recipe.family.targets) * recipe.family.epochs
        seconds = work * 1e-5
        return SimpleNamespace(seconds=Range(seconds / 1.1, seconds, seconds * 1.1))


@pytest.mark.parametrize(
    ("part", "reduced"),
    [
        (2.0, set()),
        (0.9, {"members"}),
        (0.5, {"members", "baseline"}),
        (0.15, {"members", "baseline", "trials"}),
        (0.01, {"members", "baseline", "trials", "epochs"}),
    ],
)
def test_hours_reduce_members_then_the_baseline_then_trials_then_epochs(
    part, reduced, sources, phiscale, tmp_path, monkeypatch
):
    monkeypatch.setattr(time_limit, "Estimator", ClosedForm)
    files = [tmp_path / "whole.yaml", tmp_path / "fitted.yaml"]
    assert phiscale("init", sources["folder"], "--device=cpu", "--out", files[0]).status == 0
    whole = config.load(str(files[0]))
    hours = part * ClosedForm(whole, None).estimate().seconds.middle / 3600
    said = phiscale("init", sources["folder"], "--device=cpu", "--out", files[1], "--hours", hours)
    assert said.status == 0, said.err
    assert "time     " in said.out
    fitted = config.load(str(files[1]))
    assert ClosedForm(fitted, None).estimate().seconds.middle <= 3600 * hours
    search = fitted.search
    assert reduced == {
        name
        for name, changed in {
            "members": len(fitted.family.targets) < len(whole.family.targets),
            "baseline": fitted.objective.target < whole.objective.target,
            "trials": search.trials < whole.search.trials,
            "epochs": fitted.family.epochs < whole.family.epochs,
        }.items()
        if changed
    }
    assert search.final_epochs >= search.epochs
    assert search.trials >= 8
    assert len(fitted.family.targets) >= 2
    assert files[1].read_text("utf-8").count("  # ") == files[0].read_text("utf-8").count("  # ")


def test_a_recipe_reduced_by_a_slow_first_measurement_uses_the_time_it_has(
    sources, phiscale, tmp_path, monkeypatch
):
    class TooSlowOnTheWhole(ClosedForm):
        """Measures ten times the time per MAC on the networks of the whole recipe."""

        def estimate(self, recipe: config.Recipe | None = None) -> SimpleNamespace:
            factor = 10 if len(self.recipe.family.targets) > 2 else 1
            seconds = super().estimate(recipe).seconds
            return SimpleNamespace(seconds=Range(*(factor * each for each in seconds)))

    files = [tmp_path / "whole.yaml", tmp_path / "fitted.yaml"]
    phiscale("init", sources["folder"], "--device=cpu", "--out", files[0])
    hours = 0.8 * ClosedForm(config.load(str(files[0])), None).estimate().seconds.middle / 3600
    monkeypatch.setattr(time_limit, "Estimator", TooSlowOnTheWhole)
    phiscale("init", sources["folder"], "--device=cpu", "--out", files[1], "--hours", hours)
    seconds = ClosedForm(config.load(str(files[1])), None).estimate().seconds.middle
    assert 0.6 * 3600 * hours <= seconds <= 3600 * hours


def test_hours_that_are_too_few_are_refused(sources, phiscale, tmp_path, monkeypatch):
    class Slow(ClosedForm):
        def estimate(self, _: config.Recipe | None = None) -> SimpleNamespace:
            return SimpleNamespace(seconds=Range(1e6, 1e6, 1e6))

    monkeypatch.setattr(time_limit, "Estimator", Slow)
    recipe = tmp_path / "pets.yaml"
    said = phiscale("init", sources["folder"], "--budget=800K", "--out", recipe, "--hours", "1")
    assert said.status == 2
    assert "--hours 1: no recipe for these images fits; leave --budget out" in said.err
    assert not recipe.exists()
