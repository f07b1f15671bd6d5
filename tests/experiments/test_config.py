from pathlib import Path

import pytest
import yaml

from experiments import config
from space.validation import InvalidInput


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
        ("objective.bounds.macs=[3M, 1M]", "`least <= most` must hold, but got [3000000, 1000000]"),
        ("data.held_out=1.5", "a fraction below 1 or a whole count is needed, but got 1.5"),
        ("coefficients.alpha=1.2", "pinned together or not at all, but got only alpha"),
        ("executor.workers=0", "`auto` or a count of at least 1 is needed, but got 0"),
        ("executor.workers=many", "`auto` or a count of at least 1 is needed, but got 'many'"),
        ("executor.workers=2", "`kind: local` makes one training at a time, but got `workers: 2`"),
        ("family.phi=[]", "the family needs at least one value in `phi` or in `targets`"),
        (
            "family={targets: [9M], rule: resolution, cost: params, epochs: 1}",
            "the rule 'resolution' does not change params",
        ),
        ("search.trials.deep=1", "trials is a value and has no keys of its own"),
        ("search.trials", "must have the form key.key=value"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_must_hold(tmp_path, override, message):
    assert message in refusal(tmp_path, recipe(), override)


def test_a_missing_section_is_named(tmp_path):
    data = recipe()
    del data["objective"]
    expected = "mine.yaml: objective: this key is required, and is missing"
    assert refusal(tmp_path, data) == expected


def test_a_key_given_twice_is_refused(tmp_path):
    assert "key 'name' is given twice" in refusal(tmp_path, "name: a\nname: b\n")


def test_what_is_no_mapping_or_no_yaml_is_refused(tmp_path):
    assert "a recipe is a mapping of keys" in refusal(tmp_path, "- a\n- b\n")
    assert "is not valid YAML" in refusal(tmp_path, "name: [")


def test_yaml_tags_build_no_objects(tmp_path):
    assert "is not valid YAML" in refusal(tmp_path, "name: !!python/object/apply:os.getcwd []")


def test_a_misspelt_shipped_recipe_is_told_the_nearest():
    with pytest.raises(InvalidInput, match=r"there is no 'dmo'; did you mean 'demo'\?"):
        config.load("dmo")


def test_a_missing_file_is_told_the_shipped_recipes():
    with pytest.raises(
        InvalidInput, match=r"nowhere\.yaml: cannot be read.*shipped recipes:.*demo"
    ):
        config.load("nowhere.yaml")
