import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from experiments import config
from space.validation import InvalidInput

#: Keys that hold several numbers.
PAIRS = {
    *(f"objective.bounds.{cost}" for cost in ("macs", "params", "activations", "latency")),
    *("train.resolutions", "family.phi", "family.targets"),
}


def recipe(**changes) -> dict:
    data = {
        "name": "mine",
        "space": "mnasnet_small",
        "resolution": 32,
        "objective": {"target": "40M"},
        "search": {"trials": 5, "epochs": 1, "final_epochs": 2},
        "family": {"epochs": 3},
    }
    return data | changes


def number_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys of a recipe that hold numbers."""
    for name, schema in section.model_json_schema()["properties"].items():
        kind = section.model_fields[name].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from number_keys(kind, f"{prefix}{name}.")
        elif '"number"' in json.dumps(schema) or '"integer"' in json.dumps(schema):
            yield prefix + name


def write(folder: Path, data: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), "utf-8")
    return str(path)


def refusal(folder: Path, data: object, *overrides: str) -> str:
    with pytest.raises(InvalidInput) as error:
        config.load(write(folder, data), overrides)
    return str(error.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", config.names())
def test_every_shipped_recipe_is_valid_and_described(name):
    assert config.load(name).description


def test_a_recipe_survives_being_written_and_read_again(tmp_path):
    first = config.load(write(tmp_path, recipe()))
    assert config.load(write(tmp_path, config.dump(first))) == first


def test_numbers_may_be_written_as_people_write_them(tmp_path):
    loaded = config.load(write(tmp_path, recipe()), ["train.weight_decay=1e-3"])
    assert loaded.train.weight_decay == 1e-3
    assert loaded.objective.target == 40_000_000
    assert config.load("demo", ["objective.target=1.5G"]).objective.target == 1_500_000_000
    sizes = config.load("demo", ["objective.bounds={sram: 256K, flash: 1M}"]).objective.bounds
    assert (sizes.sram, sizes.flash) == (256_000, 1_000_000)
    assert config.load("demo", ["objective.target=4e6"]).objective.target == 4_000_000


def test_an_override_reaches_sections_that_the_recipe_leaves_out(tmp_path):
    loaded = config.load(write(tmp_path, recipe()), ["search.trials=20", "train.flip=false"])
    assert (loaded.search.trials, loaded.train.flip) == (20, False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials=3", "mine.yaml: trials: unknown key; did you mean 'search.trials'?"),
        ("search.sampler=tpee", "search.sampler: there is no 'tpee'; did you mean 'tpe'?"),
        ("search.trails=3", "mine.yaml: search.trails: unknown key; did you mean 'trials'?"),
        (
            "train.learning_rate=fast",
            "mine.yaml: train.learning_rate: input should be a valid number, but got 'fast'",
        ),
        (
            "search.trials=0",
            "mine.yaml: search.trials: input should be greater than or equal to 1, but got 0",
        ),
        ("search.trials='5'", "search.trials: input should be a valid integer, but got '5'"),
        (
            "search.pruner.kind=hyperbnd",
            "input should be 'none', 'median', 'hyperband' or 'asha', but got 'hyperbnd'; "
            "did you mean 'hyperband'?",
        ),
        ("name=../elsewhere", "mine.yaml: name: string should match pattern"),
        (
            "objective.bounds.macs=[3M, 1M]",
            "`minimum <= maximum` must hold, but got [3000000, 1000000]",
        ),
        ("data.held_out=1.5", "must be a fraction below 1 or a whole count, but got 1.5"),
        ("coefficients.alpha=1.2", "set all of alpha, beta and gamma or none, but got only alpha"),
        ("executor.workers=0", "must be `auto` or a count from 1 to 10000, but got 0"),
        ("executor.workers=many", "must be `auto` or a count from 1 to 10000, but got 'many'"),
        (
            "executor.workers=2",
            "`kind: local` executes one training run at a time, but got `workers: 2`",
        ),
        (
            "search.epochs=9",
            "search: final_epochs: `epochs <= final_epochs` must hold, because finalists are "
            "trained longer, but got (epochs=9, final_epochs=2)",
        ),
        (
            "family.targets=[9N]",
            "mine.yaml: family.targets.0: must be a count, such as 40M, or a time, such as 5ms, "
            "but got '9N'",
        ),
        ("family.phi=[]", "family: needs at least one value in `phi` or in `targets`"),
        (
            "family={targets: [9M], rule: resolution, cost: params, epochs: 1}",
            "the rule 'resolution' does not change params",
        ),
        ("search.trials.deep=1", "trials is a value and has no keys"),
        ("search.trials", "must have the form key.key=value"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_must_hold(tmp_path, override, message):
    assert message in refusal(tmp_path, recipe(), override)


@pytest.mark.parametrize("key", sorted(number_keys(config.Recipe)))
@pytest.mark.parametrize("number", ["1e30", "-1e30", "9" * 400, ".inf", "-.inf", ".nan"])
def test_every_number_has_limits(tmp_path, key, number):
    section, _, last = key.rpartition(".")
    value = f"[{number}, {number}]" if key in PAIRS else number
    said = refusal(tmp_path, recipe(), f"{key}={value}")
    assert f"mine.yaml: {section}" in said
    assert last in said


def test_a_missing_section_is_named(tmp_path):
    data = recipe()
    del data["objective"]
    expected = "mine.yaml: objective: this required key is missing"
    assert refusal(tmp_path, data) == expected


def test_a_key_given_twice_is_refused(tmp_path):
    assert "duplicate key 'name'" in refusal(tmp_path, "name: a\nname: b\n")


def test_what_is_no_mapping_or_no_yaml_is_refused(tmp_path):
    assert "must be a mapping of keys" in refusal(tmp_path, "- a\n- b\n")
    assert "is not valid YAML" in refusal(tmp_path, "name: [")


def test_yaml_tags_build_no_objects(tmp_path):
    assert "is not valid YAML" in refusal(tmp_path, "name: !!python/object/apply:os.getcwd []")


def test_a_recipe_in_utf_16_is_named_as_such(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe()), "utf-16")
    with pytest.raises(InvalidInput, match=r"mine\.yaml: is encoded in UTF-16; save it as UTF-8"):
        config.load(str(path))


@pytest.mark.parametrize("name", ["mine.YAML", "mine.Yml"])
def test_the_ending_of_a_recipe_may_be_in_capitals_and_its_text_may_have_a_mark(tmp_path, name):
    path = tmp_path / name
    path.write_text(yaml.safe_dump(recipe()), "utf-8-sig")
    assert config.load(str(path)).name == "mine"


def test_a_misspelt_shipped_recipe_is_told_the_nearest():
    with pytest.raises(InvalidInput, match=r"there is no 'dmo'; did you mean 'demo'\?"):
        config.load("dmo")


def test_a_recipe_named_without_its_ending_is_told_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.yaml").write_text("name: photos\n")
    with pytest.raises(InvalidInput, match=r"no 'photos'; did you mean 'photos.yaml'\?"):
        config.load("photos")


def test_a_missing_file_is_told_the_shipped_recipes():
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml: not found; shipped recipes:.*demo"):
        config.load("nowhere.yaml")


def test_patience_needs_images_that_the_family_does_not_train_on():
    with pytest.raises(
        InvalidInput, match=r"family\.patience: .* set data\.return_held_out to false"
    ):
        config.load("demo", ["family.patience=3"])
    config.load("demo", ["family.patience=3", "data.return_held_out=false"])
