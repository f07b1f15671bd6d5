"""A first look says what it saw, even where it cannot look at all images."""

import pytest

from experiments.config import DataConfig
from experiments.data import decode, survey
from space.validation import InvalidInput


def look(root, **settings):
    return survey.survey(DataConfig(source=str(root), **settings), lambda *_: None)


def test_as_many_images_are_decoded_as_are_said(tree, monkeypatch) -> None:
    decoded = []
    whole = decode.decode
    monkeypatch.setattr(survey, "_LOOKED_AT", 7)
    monkeypatch.setattr(survey, "_DECODED", 4)
    monkeypatch.setattr(decode, "decode", lambda *args: decoded.append(1) or whole(*args))
    found = look(tree({"a": 15, "b": 15}))
    assert (found.looked_at, found.decoded, len(decoded)) == (7, 4, 4)


def test_images_that_cannot_be_used_are_not_the_same_image(tree) -> None:
    root = tree({"train/a": 9, "train/b": 9, "test/a": 9, "test/b": 9})
    for split in ("train", "test"):
        (root / split / "a/0.png").write_bytes(b"")
    found = look(root, max_bad=0.1)
    assert (len(found.broken), found.twice) == (2, 0)


def test_more_pixels_than_a_run_accepts_are_refused(tree) -> None:
    with pytest.raises(InvalidInput, match=r"data.max_pixels: Pillow decodes at most 178,956,970"):
        look(tree({"a": 5, "b": 5}), max_pixels=10**9)
