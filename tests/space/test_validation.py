import pytest

from space.architecture import Architecture, Head, Operator, SqueezeExcite, Stage, Stem
from space.validation import InvalidInput, one_of, validate


def valid() -> dict:
    stage = Stage(Operator.INVERTED, 24, expansion=6, se=SqueezeExcite())
    return Architecture(Stem(), (stage,), Head()).to_dict()


def refusal(change) -> str:
    data = valid()
    change(data)
    with pytest.raises(InvalidInput) as error:
        validate(Architecture, data, source="net.json")
    return str(error.value)


def test_an_unknown_key_is_named_with_the_nearest_valid_one():
    message = refusal(lambda data: data["stages"][0].update(expnsion=3))
    assert message == "net.json: stages.0.expnsion: unknown key; did you mean 'expansion'?"


def test_an_unknown_key_deep_inside_an_optional_section_is_explained():
    message = refusal(lambda data: data["stages"][0]["se"].update(gat="sigmoid"))
    assert message == "net.json: stages.0.se.gat: unknown key; did you mean 'gate'?"


def test_an_unknown_key_that_resembles_none_is_told_the_valid_ones():
    message = refusal(lambda data: data["head"].update(zzz=1))
    assert message == "net.json: head.zzz: unknown key; valid keys: channels, hidden, hidden_norm"


def test_a_missing_key_is_named():
    message = refusal(lambda data: data.pop("stages"))
    assert message == "net.json: stages: this required key is missing"


def test_a_number_in_quotes_is_refused():
    message = refusal(lambda data: data.update(resolution="32"))
    assert message == "net.json: resolution: input should be a valid integer, but got '32'"


def test_a_value_out_of_range_says_the_rule_and_what_was_found():
    message = refusal(lambda data: data["stages"][0].update(kernel=4))
    assert message == (
        "net.json: stages.0: `kernel is odd and 1 <= kernel <= 31` must hold, but got kernel=4"
    )


def test_a_misspelt_option_is_told_the_nearest():
    message = refusal(lambda data: data["stages"][0].update(operator="invertd"))
    assert message.startswith("net.json: stages.0.operator: input should be 'conv', ")
    assert message.endswith("but got 'invertd'; did you mean 'inverted'?")


def test_every_mistake_has_its_own_line():
    message = refusal(lambda data: data.update(resolution=0.5, num_classes="ten"))
    assert [line.split(": ")[1] for line in message.splitlines()] == ["resolution", "num_classes"]


def test_what_is_no_json_is_refused():
    assert "plain JSON data is needed" in refusal(lambda data: data.update(resolution=object()))


def test_a_name_is_answered_with_the_nearest_or_with_all():
    assert str(one_of("preset", "resnet5", ["resnet50", "b0"])).endswith("mean 'resnet50'?")
    assert str(one_of("preset", "zzz", ["b1", "b0"])).endswith("choose one of: b0, b1")
