import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space import choices
from space.architecture import Activation, Architecture, Operator, Padding, Skip
from space.choices import Space
from space.layers import layers
from space.validation import InvalidInput

SMALL = choices.load("mnasnet_small")


def combinations(space: Space) -> st.SearchStrategy[dict[str, choices.Value]]:
    return st.fixed_dictionaries(
        {name: st.sampled_from(values) for name, values in space.choices.items()}
    )


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return str(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InvalidInput) as error:
        choices.load(write(folder, text))
    return str(error.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", choices.names())
def test_every_shipped_space_is_described_and_decodes_its_first_and_last_values(name):
    space = choices.load(name)
    assert space.description
    for index in (0, -1):
        chosen = {name: values[index] for name, values in space.choices.items()}
        assert isinstance(space.decode(chosen), Architecture)


@given(combinations(SMALL))
def test_what_is_chosen_is_what_is_built(chosen):
    network = SMALL.decode(chosen)
    for number, (stage, base) in enumerate(
        zip(network.stages, SMALL.base.stages, strict=True), start=1
    ):
        operator, expansion = choices.parse_operator(str(chosen[f"stage{number}.operator"]))
        assert (stage.operator, stage.expansion) == (operator, expansion)
        assert stage.kernel == chosen[f"stage{number}.kernel"]
        assert (stage.se.ratio if stage.se else 0) == chosen[f"stage{number}.se"]
        assert stage.skip == chosen[f"stage{number}.skip"]
        assert stage.repeats == max(1, base.repeats + int(chosen[f"stage{number}.layers"]))
        assert stage.channels % 8 == 0
        assert stage.stride == base.stride


@given(combinations(SMALL))
def test_a_choice_without_effect_changes_no_key(chosen):
    """Squeeze-and-excite of a plain convolution, and −1 layer at one, decode to one network."""
    conv = chosen | {"stage2.operator": "conv"}
    keys = {SMALL.decode(conv | {"stage2.se": ratio}).key for ratio in (0, 0.25)}
    assert len(keys) == 1
    single = {SMALL.decode(chosen | {"stage5.layers": layers}).key for layers in (-1, 0)}
    assert len(single) == 1


def test_the_size_is_the_product_of_the_choices():
    # stage 1: 2 operators and 2 layers; stages 2 to 5: 4 and 3; kernel, SE, skip, width: 2·2·3·3.
    assert SMALL.size == (2 * 2 * 36) * (4 * 3 * 36) ** 4


def test_a_space_adapts_to_other_data_and_keeps_its_choices():
    adapted = SMALL.adapted(num_classes=7, resolution=48, in_channels=1)
    assert adapted.choices == SMALL.choices
    base = adapted.base
    assert (base.num_classes, base.resolution, base.in_channels) == (7, 48, 1)


def test_of_the_resolutions_those_up_to_the_recipes_are_left(tmp_path):
    text = "base: mobilenet_v2\nresolution: [32, 64, 48]\nchoices: {kernel: [3, 5]}\n"
    space = choices.load(write(tmp_path, text))
    adapted = space.adapted(num_classes=10, resolution=50)
    assert adapted.resolutions == (32, 48)
    assert adapted.base.resolution == 48
    first = {name: values[0] for name, values in adapted.choices.items()}
    assert adapted.decode(first).resolution == 32
    with pytest.raises(InvalidInput, match=r"at most 24 pixels.*the least offered is 32"):
        space.adapted(num_classes=10, resolution=24)
    twice = text.replace("48", "32")
    with pytest.raises(InvalidInput, match=r"resolution: must be different numbers of pixels"):
        choices.load(write(tmp_path, twice))


@pytest.mark.parametrize("name", ["efficientnet_lite", "efficientnet_lite_small"])
def test_the_lite_spaces_have_only_what_a_device_does_well(name):
    space = choices.load(name)
    assert space.base.numerics.padding is Padding.SAME
    draw = random.Random(0)
    for _ in range(50):
        chosen = {kind: draw.choice(values) for kind, values in space.choices.items()}
        found = layers(space.decode(chosen))
        assert not any("squeeze" in layer.name or "shortcut" in layer.name for layer in found)
        assert {layer.activation for layer in found} == {Activation.RELU6, None}


def test_mnasnets_space_offers_what_the_paper_names():
    space = choices.load("mnasnet")
    assert space.choices["stage3.operator"] == ("conv", "separable", "inverted_e3", "inverted_e6")
    assert space.choices["stage3.skip"] == (Skip.POOL, Skip.IDENTITY, Skip.NONE)
    assert [stage.channels for stage in space.base.stages] == [16, 24, 32, 64, 96, 160, 320]


def test_decoding_refuses_what_is_not_offered():
    chosen = {name: values[0] for name, values in SMALL.choices.items()}
    with pytest.raises(InvalidInput, match=r"stage1\.kernel: must be one of 3, 5, but got 7"):
        SMALL.decode(chosen | {"stage1.kernel": 7})
    with pytest.raises(InvalidInput, match=r"did you mean 'stage1\.kernel'\?"):
        SMALL.decode(chosen | {"stage1.kernal": 3})
    del chosen["stage1.kernel"]
    with pytest.raises(InvalidInput, match=r"no value is given for stage1\.kernel"):
        SMALL.decode(chosen)


def test_a_space_of_a_users_own_is_read_from_a_file(tmp_path):
    text = "base: mobilenet_v2\nchoices: {kernel: [3, 5]}\nstages: {2: {layers: [0, 1, 2]}}\n"
    space = choices.load(write(tmp_path, text))
    assert space.name == "mine"
    assert space.size == 2**7 * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "base: mobilenet_v2\nchoices: {kernal: [3]}",
            "mine.yaml: choices: kernal: unknown key; did you mean 'kernel'?",
        ),
        (
            "base: mobilenet_v9\nchoices: {kernel: [3]}",
            "preset: there is no 'mobilenet_v9'; did you mean 'mobilenet_v2'?",
        ),
        (
            "base: mobilenet_v2\nchoices: {operator: [inverted]}",
            "mine.yaml: operator: this operator is written inverted_e6, but got 'inverted'",
        ),
        (
            "base: mobilenet_v2\nchoices: {kernel: [4]}",
            "mine.yaml: kernel: `kernel is odd and 1 <= kernel <= 31` must hold, but got kernel=4",
        ),
        (
            "base: mobilenet_v2\nchoices: {kernel: [3, 3]}",
            "mine.yaml: choices: kernel: values must differ, but got [3, 3]",
        ),
        (
            f"base: mobilenet_v2\nchoices: {{layers: {[*range(101)]}}}",
            "mine.yaml: choices: layers: at most 100 values are possible, but got 101",
        ),
        (
            f"base: mobilenet_v2\nchoices: {{layers: {[*range(1_000_000)]}}}",
            "mine.yaml: must have at most 300,000 characters, but has 7,888,9",
        ),
        (
            "base: mobilenet_v2\nchoices: {kernel: []}",
            "mine.yaml: choices: kernel: at least one value is needed, but got []",
        ),
        (
            "base: mobilenet_v2\nchoices: {}",
            "mine.yaml: choices: at least one choice is needed, but none is given",
        ),
        (
            "base: mobilenet_v2\nchoices: {kernel: [3]}\nstages: {9: {kernel: [5]}}",
            "mine.yaml: stages.9: the base has stages 1 to 7; name one of them",
        ),
        (
            "base: {stem: {}, stages: [{operator: conv}], head: {}}\nchoices: {kernel: [3]}",
            "mine.yaml: base: stages.0.channels: this required key is missing",
        ),
        ("- 1", "mine.yaml: input should be"),
        ("base: [", "mine.yaml: is not valid YAML"),
    ],
)
def test_a_wrong_space_is_refused_with_what_must_hold(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


def test_a_missing_space_is_told_the_nearest_or_the_shipped():
    with pytest.raises(InvalidInput, match=r"there is no 'mnasnet_smal'; did you mean"):
        choices.load("mnasnet_smal")
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml not found; give a path or one of"):
        choices.load("nowhere.yaml")


def test_operators_are_read_with_their_expansion():
    assert choices.parse_operator("inverted_e2.5") == (Operator.INVERTED, 2.5)
    assert choices.parse_operator("conv") == (Operator.CONV, 1.0)
    with pytest.raises(ValueError, match=r"this operator is written conv, but got 'conv_e6'"):
        choices.parse_operator("conv_e6")
