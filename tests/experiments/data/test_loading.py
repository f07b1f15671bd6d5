"""What a run learns about its data: parts, sizes, warnings; and what the search never sees."""

import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiments.data import load


def pictures(part: Any) -> set[bytes]:
    return {image.tobytes() for image in part.read(np.arange(len(part)))}


def test_the_search_never_sees_the_test_set(tree, loaded) -> None:
    data = loaded(tree({"a": 30, "b": 30}))
    assert not pictures(data.test) & (pictures(data.train) | pictures(data.held_out))
    assert not pictures(data.train) & pictures(data.held_out)


def test_test_images_have_the_names_of_their_files(tree, loaded) -> None:
    root = tree({"a": 30, "b": 30})
    for data in (loaded(root), loaded(root)):  # decoded, and from the cache
        labels = [data.classes[label] for label in data.test.labels]
        assert [name.partition("/")[0] for name in data.test_names] == labels
        assert len(set(data.test_names)) == len(data.test)
        assert all((root / name).is_file() for name in data.test_names)


def test_the_family_gets_the_held_out_images_back(tree, loaded) -> None:
    data = loaded(tree({"a": 30, "b": 30}))
    assert pictures(data.full_train) == pictures(data.train) | pictures(data.held_out)
    assert len(data.full_train) == len(data.train) + len(data.held_out)


def test_the_summary_says_the_sizes_as_plain_data(tree, loaded) -> None:
    root = tree({"a": 20, "b": 10})
    data = loaded(root, 4, held_out=6, test=3)
    summary = json.loads(json.dumps(data.summary.to_dict()))
    assert summary.pop("bytes") >= 30 * 4 * 4 * 3
    assert summary == {
        "source": str(root),
        "format": "folder",
        "fingerprint": data.fingerprint,
        "classes": ["a", "b"],
        "resolution": 4,
        "channels": 3,
        "white": 65_535,
        "compressed": False,
        "images": {"train": 21, "held_out": 6, "test": 3},
        "per_class": {"train": [14, 7], "held_out": [4, 2], "test": [2, 1]},
        "imbalance": 2.0,
        "skipped": [],
        "warnings": [],
    }


@pytest.mark.parametrize(("many", "heavy"), [(27, False), (30, True)])
def test_heavy_imbalance_is_pointed_out(tree, loaded, many: int, heavy: bool) -> None:
    root = tree({"train/a": many, "train/b": 3, "test/a": 1, "test/b": 1})
    summary = loaded(root).summary
    assert summary.imbalance == many / 3
    assert summary.warnings == (
        ("The classes are heavily imbalanced: 'a' has 30 training images, 'b' 3.",) if heavy else ()
    )


def test_the_seed_divides_and_does_not_change_the_fingerprint(tree, loaded) -> None:
    root = tree({"a": 30, "b": 30})
    one, same, other = loaded(root, seed=1), loaded(root, seed=1), loaded(root, seed=2)
    assert pictures(one.test) == pictures(same.test) != pictures(other.test)
    assert one.fingerprint == other.fingerprint


def test_a_resolution_in_the_recipe_counts(tree, loaded) -> None:
    root = tree({"a": 5, "b": 5})
    assert loaded(root, 4).train.resolution == 4


def test_work_is_shown_once_and_a_second_start_is_silent(tree, loaded, capsys) -> None:
    root = tree({"a": 5, "b": 5})
    loaded(root)
    assert capsys.readouterr().err == "Reading images: 10\nDecoding images: 10\n"
    loaded(root)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(tree, loaded, monkeypatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(load, "console", screen)
    loaded(tree({"a": 5, "b": 5}))
    shown = screen.file.getvalue()
    assert "Decoding images" in shown
    assert "10/10" in shown
