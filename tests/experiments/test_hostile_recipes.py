"""Recipes and spaces of strangers: an error in a sentence, or what they say."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from experiments import config
from space import choices
from space.validation import InvalidInput

DEMO = Path(config.__file__).parent.parent / "recipes" / "demo.yaml"
fuzzed = settings(
    max_examples=int(os.environ.get("PHISCALE_FUZZ", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TEXT = """\
{ | } | [ | ] | : | &a  | *a | !!python/object/apply:os.system [id] | <<: *a | -  | ?  | !!binary  |
!!set  | !!map [1] | 1e400 | .nan | 2020-13-45 | 0o9 | 1:99:99 | null | true | %TAG | --- | '"""
pieces = st.sampled_from([*TEXT.split(" | "), '"', "|", "\n", "\t", "\x85", "9" * 5000])


def bomb(levels: int) -> str:
    """Ten times as much with each level, in ten lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


@fuzzed
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), pieces | st.text(max_size=8)), min_size=1, max_size=4)
)
@example(edits=[(0.5, "9" * 5000)])
@example(edits=[(0.0, "a: 2020-13-45\n")])
@example(edits=[(0.0, "a: !!map [1]\n")])
@example(edits=[(0.0, "a: &a [*a]\n")])
@example(edits=[(0.0, "[" * 20_000)])
def test_a_changed_recipe_is_refused_or_read(edits, tmp_path):
    text = DEMO.read_text("utf-8")
    for place, piece in edits:
        at = int(place * len(text))
        text = text[:at] + piece + text[at:]
    path = tmp_path / "recipe.yaml"
    path.write_text(text, "utf-8", errors="surrogatepass")
    for load in (config.load, choices.load):
        with suppress(InvalidInput):
            load(str(path))


@pytest.mark.parametrize("levels", [8, 40, 400])
def test_aliases_that_repeat_without_end_are_refused(tmp_path, levels):
    path = tmp_path / "recipe.yaml"
    path.write_text(bomb(levels))
    for load in (config.load, choices.load):
        with pytest.raises(InvalidInput, match=r"recipe\.yaml: must hold at most"):
            load(str(path))


def test_a_recipe_runs_no_code(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: !!python/object/apply:os.mkdir [{tmp_path / 'ran'}]\n")
    with pytest.raises(InvalidInput, match="is not valid YAML"):
        config.load(str(path))
    assert not (tmp_path / "ran").exists()
